//! The threads of a server: each accepts and serves connections of its own, with an executor and a reactor of its own.

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use smol::channel::{self, Receiver, Sender};
use smol::future::FutureExt;
use smol::{LocalExecutor, Timer};

use super::admission::Admission;
use super::listener::{Door, Listener};
use super::local::Local;
use super::shared::Shared;
use crate::net::reactor;

/// What one thread serves.
pub(super) struct Part {
    pub listeners: Vec<Listener>,
    pub shared: Arc<Shared>,
    /// The places of connections, of all threads together.
    pub admission: Arc<Admission>,
    /// Closed when no more connections are to be accepted.
    pub stopped: Receiver<()>,
    /// How long requests may go on after that.
    pub drain: Duration,
    /// How the other threads ask this one for a place, and it them.
    pub asked: Receiver<()>,
    pub neighbours: Vec<Sender<()>>,
}

/// What all parts of a server have in common.
pub(super) struct Assembly {
    pub shared: Arc<Shared>,
    pub admission: Arc<Admission>,
    pub stopped: Receiver<()>,
    pub drain: Duration,
}

impl Assembly {
    /// A part for each list of listeners.
    pub fn parts(self, listeners: Vec<Vec<Listener>>) -> Vec<Part> {
        let (askers, asked): (Vec<_>, Vec<_>) = listeners.iter().map(|_| channel::bounded(1)).unzip();
        let all = listeners.into_iter().zip(asked).enumerate();
        all.map(|(number, (listeners, asked))| {
            let others = askers.iter().enumerate().filter(|(other, _)| *other != number);
            Part {
                listeners,
                shared: self.shared.clone(),
                admission: self.admission.clone(),
                stopped: self.stopped.clone(),
                drain: self.drain,
                asked,
                neighbours: others.map(|(_, asker)| asker.clone()).collect(),
            }
        })
        .collect()
    }
}

impl Part {
    /// Serves until the stop, then until the requests at work are answered. Connections run as tasks of the executor;
    /// dropping the future ends all of them at once.
    pub async fn serve(self, executor: &LocalExecutor<'_>) {
        let local = match Local::new(self.neighbours) {
            Ok(local) => Rc::new(local),
            Err(error) => return log::error!("the web server cannot run: {error}"),
        };
        let _abort = Abort(local.clone());
        let (watch, reactor) = (local.watch.clone(), local.reactor.clone());
        let _sweep = executor.spawn(async move { watch.run().await });
        let _drive = executor.spawn(async move { reactor.drive().await });
        let (owned, asked, admission) = (local.clone(), self.asked, self.admission.clone());
        let _room = executor.spawn(async move {
            while asked.recv().await.is_ok() {
                admission.asked(&owned);
            }
        });

        let door = Door { executor, shared: &self.shared, local: &local, admission: &self.admission };
        let stopped = async {
            let _ = self.stopped.recv().await;
        };
        smol::future::or(stopped, accept_all(self.listeners, &door)).await;

        let limit = Instant::now() + self.drain;
        while local.connections.count() > 0 && Instant::now() < limit {
            local.watch.expire_idle();
            Timer::after(Duration::from_millis(10)).await;
        }
        let left = local.connections.count();
        if left > 0 {
            log::warn!("{left} connections were cut");
        }
    }
}

/// Accepts at all listeners, for ever. They close with this.
async fn accept_all(listeners: Vec<Listener>, door: &Door<'_, '_>) {
    let mut loops: Vec<_> = listeners.into_iter().map(|listener| Box::pin(listener.accept(door))).collect();
    // Those that were not woken only look at a flag.
    poll_fn(|cx| {
        for accepting in &mut loops {
            let _ = accepting.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await
}

/// Ends the connections with the server.
struct Abort(Rc<Local>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.connections.abort();
        self.0.programs.clear();
    }
}

/// The threads beside the caller's. They end with this, at once.
pub(super) struct Crew {
    threads: Vec<JoinHandle<()>>,
    abort: Sender<()>,
    ended: Receiver<()>,
}

impl Crew {
    /// Serves each part by a thread of its own. A thread that cannot be started is missing: its listeners close, and the
    /// others get its connections.
    pub fn start(parts: Vec<Part>) -> Self {
        let (abort, aborted) = channel::bounded::<()>(1);
        let (running, ended) = channel::bounded(1);
        let mut threads = Vec::new();
        for (number, part) in parts.into_iter().enumerate() {
            let (aborted, running) = (aborted.clone(), running.clone());
            let work = move || {
                let executor = LocalExecutor::new();
                let cut = async {
                    let _ = aborted.recv().await;
                };
                reactor::block_on(executor.run(part.serve(&executor).or(cut)));
                drop(executor);
                drop(running);
            };
            match thread::Builder::new().name(format!("web-{}", number + 2)).spawn(work) {
                Ok(thread) => threads.push(thread),
                Err(error) => log::error!("the web server works with fewer threads: {error}"),
            }
        }
        Self { threads, abort, ended }
    }

    /// Waits until all have served to their end.
    pub async fn ended(self) {
        let _ = self.ended.recv().await;
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.abort.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
