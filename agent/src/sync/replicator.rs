//! The shell of the engine: carries out what it wants with the database and a transport.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use smol::channel::{Receiver, Sender};
use smol::{LocalExecutor, Timer, channel, future};

use super::answer::{Answer, Policy};
use super::engine::{Action, Engine, Parked, Report, Settings};
use super::error::Error;
use super::transport::Transport;
use crate::config;
use crate::db::Db;
use crate::db::changelog::Pending;
use crate::net;

/// Brings the changes of a database to the cloud for as long as it runs.
pub struct Replicator<T> {
    db: Db,
    transport: T,
    engine: Arc<Mutex<Engine>>,
}

/// Sees how a [`Replicator`] does, from any thread.
#[derive(Clone)]
pub struct Handle {
    db: Db,
    engine: Arc<Mutex<Engine>>,
}

/// How the replication does.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Rows that the cloud does not have yet, or not as they are.
    pub backlog: u64,
    /// How long the oldest of their changes has been waiting.
    pub oldest: Option<Duration>,
    /// When the cloud took a change for the last time since the start, in milliseconds of UTC.
    pub last_success: Option<i64>,
    /// Changes that the cloud took since the start.
    pub pushed: u64,
    /// Requests that wait for their answer.
    pub sent: usize,
    /// Conflicts in the log.
    pub conflicts: u64,
    /// Whether the cloud is out of reach.
    pub down: bool,
    /// The last thing that went wrong; nothing once the cloud has taken a change after it.
    pub error: Option<String>,
    /// Rows that the cloud refuses.
    pub parked: usize,
    /// Some of them, and why.
    pub examples: Vec<Parked>,
}

/// What came of an action.
enum Event {
    Pending(Vec<Pending>),
    Answered(u64, Answer),
    Settled,
    Recorded,
    Deadline,
}

impl<T: Transport> Replicator<T> {
    /// A replicator of what `db` has in its change log, in the name of `thing`.
    pub fn new(db: Db, transport: T, options: &config::Sync, thing: &str) -> Self {
        let settings = Settings {
            thing: thing.to_owned(),
            site: db.site(),
            window: options.window,
            delay: options.delay,
            policy: Policy::Device,
        };
        let engine = Arc::new(Mutex::new(Engine::new(settings, fastrand::u64(..))));
        Self { db, transport, engine }
    }

    /// Sees how it does.
    pub fn handle(&self) -> Handle {
        Handle { db: self.db.clone(), engine: self.engine.clone() }
    }

    /// Replicates until the future is dropped, which loses nothing: what was on its way is sent again by the next run.
    /// Runs on the executor that polls it; the only listener of [`Db::changes`].
    ///
    /// # Errors
    /// The database failed.
    pub async fn run(&self) -> Result<Infallible, Error> {
        lock(&self.engine).restart();
        let (sender, events) = channel::unbounded();
        let tasks = LocalExecutor::new();
        tasks.run(self.drive(&tasks, &sender, &events)).await
    }

    async fn drive<'a>(
        &'a self,
        tasks: &LocalExecutor<'a>,
        sender: &'a Sender<Result<Event, Error>>,
        events: &Receiver<Result<Event, Error>>,
    ) -> Result<Infallible, Error> {
        let changes = self.db.changes();
        loop {
            while let Some(action) = self.next_action() {
                tasks.spawn(self.carry_out(action, sender)).detach();
            }
            let deadline = lock(&self.engine).deadline();
            let event = next(events, &changes, deadline).await?;
            let now = Instant::now();
            let mut engine = lock(&self.engine);
            match event {
                Event::Pending(rows) => engine.pending(rows),
                Event::Answered(id, answer) => {
                    log_answer(&answer);
                    engine.answered(id, answer, now);
                }
                Event::Settled => engine.settled(now),
                Event::Recorded => engine.recorded(now),
                Event::Deadline => {}
            }
        }
    }

    fn next_action(&self) -> Option<Action> {
        lock(&self.engine).poll(Instant::now())
    }

    async fn carry_out(&self, action: Action, sender: &Sender<Result<Event, Error>>) {
        let event = match action {
            Action::Read { limit, exclude } => {
                self.db.pending(limit, &exclude).await.map(Event::Pending).map_err(Error::from)
            }
            Action::Push(push) => {
                let id = push.id;
                Ok(Event::Answered(id, self.transport.push(push).await))
            }
            Action::Settle(settlements) => {
                self.db.settle(settlements).await.map(|()| Event::Settled).map_err(Error::from)
            }
        };
        // The receiver lives as long as the executor of this task.
        let _ = sender.send(event).await;
    }
}

impl Handle {
    /// How the replication does.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn state(&self) -> Result<State, Error> {
        let backlog = self.db.backlog().await?;
        let report: Report = lock(&self.engine).report();
        let since = |at: i64| Duration::from_millis(u64::try_from(net::utc_ms() - at).unwrap_or(0));
        let at = |then: Instant| net::utc_ms() - i64::try_from(then.elapsed().as_millis()).unwrap_or(i64::MAX);
        Ok(State {
            backlog: backlog.rows,
            oldest: backlog.oldest.map(since),
            last_success: report.last_success.map(at),
            pushed: report.pushed,
            sent: report.sent,
            conflicts: backlog.conflicts,
            down: report.down,
            error: report.error,
            parked: report.parked,
            examples: report.examples,
        })
    }
}

/// The next event. At most one task per row of the window sends them, so their queue is short.
async fn next(
    events: &Receiver<Result<Event, Error>>,
    changes: &Receiver<()>,
    deadline: Option<Instant>,
) -> Result<Event, Error> {
    let answer = async { events.recv().await.unwrap_or(Err(crate::db::Error::Closed.into())) };
    let change = async { changes.recv().await.map(|()| Event::Recorded).map_err(|_| crate::db::Error::Closed.into()) };
    let timer = async {
        match deadline {
            Some(deadline) => Timer::at(deadline).await,
            None => future::pending().await,
        };
        Ok(Event::Deadline)
    };
    future::or(answer, future::or(change, timer)).await
}

fn log_answer(answer: &Answer) {
    match answer {
        Answer::Refused(reason) => log::warn!("the cloud refuses a row, which is tried again later: {reason}"),
        Answer::Throttled(reason) => log::info!("the cloud throttles: {reason}"),
        Answer::Failed(reason) => log::info!("the cloud is not reached: {reason}"),
        Answer::Stored | Answer::Differs(_) => {}
    }
}

/// The engine is sound after every call, so a panic elsewhere does not spoil it.
fn lock(engine: &Mutex<Engine>) -> MutexGuard<'_, Engine> {
    engine.lock().unwrap_or_else(PoisonError::into_inner)
}
