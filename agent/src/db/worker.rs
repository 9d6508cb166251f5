//! A thread that owns a connection, and the bounded queue to it.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use smol::lock::{Semaphore, SemaphoreGuardArc};

use super::error::Error;

/// What a worker owns: operations run on it, each as a whole or not at all.
pub(super) trait Owner: Sized + 'static {
    /// Runs an operation so that an error leaves no trace of it.
    fn attempt<T>(&mut self, operation: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error>;
}

/// An operation in the queue.
pub(super) struct Job<S> {
    work: Work<S>,
    /// Its place in the queue, free again when it was answered.
    _place: SemaphoreGuardArc,
}

type Work<S> = Box<dyn FnOnce(Result<&mut S, Error>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), Error>)>;

/// An operation that has run and is answered when it is known whether it lasts.
pub(super) struct Answerable {
    answer: Answer,
    _place: SemaphoreGuardArc,
}

impl<S> Job<S> {
    /// Runs the operation, or refuses it.
    pub(super) fn run(self, owner: Result<&mut S, Error>) -> Answerable {
        Answerable { answer: (self.work)(owner), _place: self._place }
    }
}

impl Answerable {
    /// Tells the caller what came of it. A caller that has gone away is no matter.
    pub(super) fn answer(self, committed: Result<(), Error>) {
        (self.answer)(committed);
    }
}

/// What comes through the queue.
pub(super) enum Message<S> {
    Job(Job<S>),
    /// What cannot be part of a transaction.
    Alone(Job<S>),
    /// Something is to be looked at.
    Wake,
    Close(smol::channel::Sender<()>),
}

/// The sending side, shared by all handles.
pub(super) struct Worker<S> {
    sender: Sender<Message<S>>,
    places: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<S: Owner> Worker<S> {
    /// Starts the thread. `body` serves the queue until it is told to close or all senders are gone.
    pub(super) fn start(
        name: &str,
        queue: usize,
        body: impl FnOnce(Receiver<Message<S>>) -> Option<smol::channel::Sender<()>> + Send + 'static,
    ) -> Result<Self, Error> {
        let (sender, receiver) = mpsc::channel();
        let run = move || {
            if let Some(closed) = body(receiver) {
                let _ = closed.try_send(());
            }
        };
        // SQLite needs little: the deepest stacks are its parser's and serde_json's, both with a depth limit.
        let thread = thread::Builder::new().name(name.into()).stack_size(512 * 1024).spawn(run);
        let thread = thread.map_err(|source| Error::file("start the thread", name, source))?;
        Ok(Self { sender, places: Arc::new(Semaphore::new(queue.max(1))), thread: Mutex::new(Some(thread)) })
    }

    /// Waits for a place in the queue, runs the operation on the thread, and waits for its answer.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut S) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.send(Message::Job, |owner: &mut S| owner.attempt(operation)).await
    }

    /// The same outside of any transaction: what was begun before the operation failed stays.
    pub(super) async fn call_alone<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut S) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.send(Message::Alone, operation).await
    }

    /// What wakes the thread up.
    pub(super) fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let sender = self.sender.clone();
        move || drop(sender.send(Message::Wake))
    }

    async fn send<T: Send + 'static>(
        &self,
        message: impl FnOnce(Job<S>) -> Message<S>,
        operation: impl FnOnce(&mut S) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let place = self.places.acquire_arc().await;
        let (answer, answered) = smol::channel::bounded(1);
        let work = move |owner: Result<&mut S, Error>| -> Answer {
            let result = owner.and_then(operation);
            Box::new(move |committed| {
                let _ = answer.try_send(result.and_then(|value| committed.map(|()| value)));
            })
        };
        let job = Job { work: Box::new(work), _place: place };
        self.sender.send(message(job)).map_err(|_| Error::Closed)?;
        answered.recv().await.map_err(|_| Error::Closed)?
    }

    /// Lets the thread finish what is queued, and waits for its end. Later operations fail with [`Error::Closed`].
    pub(super) async fn close(&self) {
        let (closed, end) = smol::channel::bounded(1);
        if self.sender.send(Message::Close(closed)).is_ok() {
            let _ = end.recv().await;
        }
        self.join();
    }
}

impl<S> Worker<S> {
    fn join(&self) {
        let thread = self.thread.lock().map(|mut thread| thread.take());
        if let Ok(Some(thread)) = thread {
            let _ = thread.join();
        }
    }
}

impl<S> Drop for Worker<S> {
    /// The last handle is gone: what is queued is still written before the file is closed.
    fn drop(&mut self) {
        let (closed, _) = smol::channel::bounded(1);
        let _ = self.sender.send(Message::Close(closed));
        self.join();
    }
}
