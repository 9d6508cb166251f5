//! The reading side: a connection that its own thread reads with, or the caller's when that one is idle.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smol::channel::Sender;

use super::error::Error;
use super::rows::Rows;
use super::worker::{Message, Owner as _, Worker};

/// The connection, or why there is none.
pub(super) type Shared = Arc<Mutex<Result<Rows, Error>>>;

pub(super) struct Reader {
    rows: Shared,
    worker: Worker<Rows>,
}

impl Reader {
    /// Starts the thread.
    pub(super) fn start(name: &str, rows: Shared, queue: usize) -> Result<Self, Error> {
        let shared = rows.clone();
        Ok(Self { rows, worker: Worker::start(name, queue, move |queue| serve(&shared, queue))? })
    }

    /// Reads on the thread.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Rows) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.worker.call(operation).await
    }

    /// Reads what takes but a few pages of the file: on the spot, because to wake a thread and to be woken by it costs more than
    /// the reading; on the thread when that one is at work.
    pub(super) async fn glance<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Rows) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if let Ok(mut idle) = self.rows.try_lock() {
            return idle.as_mut().map_err(|error| error.clone())?.attempt(operation);
        }
        self.call(operation).await
    }

    /// Lets the thread finish what is queued, and closes the connection.
    pub(super) async fn close(&self) {
        self.worker.close().await;
    }
}

/// The thread. Its connection sees every commit that was answered, and no half of one.
fn serve(shared: &Shared, queue: Receiver<Message<Rows>>) -> Option<Sender<()>> {
    let mut closing = None;
    while let Ok(message) = queue.recv() {
        match message {
            Message::Job(job) | Message::Alone(job) => {
                let mut rows = lock(shared);
                let answerable = job.run(rows.as_mut().map_err(|error| error.clone()));
                drop(rows);
                answerable.answer(Ok(()));
            }
            Message::Wake => {}
            Message::Close(closed) => {
                closing = Some(closed);
                break;
            }
        }
    }
    *lock(shared) = Err(Error::Closed);
    closing
}

fn lock(shared: &Shared) -> MutexGuard<'_, Result<Rows, Error>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
