//! The writer: one thread, one transaction for all that is queued (group commit).
//!
//! A commit costs a flush of the disk, which takes as long for one row as for two hundred. So operations that are queued
//! together share one, and each is answered only after it. One that fails alone is undone by its savepoint.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::editor::Editor;
use super::error::Error;
use super::recovery::Keeper;
use super::worker::{Answerable, Job, Message};

/// Operations of one transaction, at most: bounds the time until the first is answered.
const BATCH: usize = 256;

/// Serves the queue until the end, which is the returned sender's to tell.
pub(super) fn serve(
    mut keeper: Keeper,
    queue: Receiver<Message<Editor>>,
    wait: Duration,
) -> Option<smol::channel::Sender<()>> {
    let mut closing = None;
    // How many callers shared the last commit. They are likely to be back: then waiting for them saves a flush; a lone
    // caller never waits.
    let mut company = 1;
    while closing.is_none() {
        let first = match queue.recv() {
            Ok(Message::Job(job)) => job,
            Ok(Message::Alone(job)) => {
                job.run(keeper.editor()).answer(Ok(()));
                continue;
            }
            Ok(Message::Wake) => {
                let _ = keeper.editor();
                continue;
            }
            Ok(Message::Close(closed)) => {
                closing = Some(closed);
                break;
            }
            Err(_) => break,
        };
        let deadline = Instant::now() + wait;
        let mut alone = None;
        if let Ok(editor) = keeper.editor() {
            editor.shorten_log();
        }
        let mut batch = Batch::begin(keeper.editor());
        batch.run(first);
        while batch.taken < BATCH && !batch.is_long() {
            let message = match queue.try_recv() {
                Ok(message) => Ok(message),
                Err(_) if batch.taken >= company => break,
                Err(_) => queue.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            };
            match message {
                Ok(Message::Job(job)) => batch.run(job),
                Ok(Message::Alone(job)) => {
                    alone = Some(job);
                    break;
                }
                // Damage was found: this batch ends, and then it is looked at.
                Ok(Message::Wake) => break,
                Ok(Message::Close(closed)) => {
                    closing = Some(closed);
                    break;
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        company = batch.taken;
        batch.commit();
        if let Ok(editor) = keeper.editor() {
            editor.shorten_log();
        }
        if let Some(job) = alone {
            job.run(keeper.editor()).answer(Ok(()));
        }
        let _ = keeper.editor();
    }
    keeper.close();
    closing
}

/// The operations of one transaction.
struct Batch<'a> {
    /// Why there is none is told to each.
    editor: Result<&'a mut Editor, Error>,
    waiting: Vec<Answerable>,
    taken: usize,
}

impl<'a> Batch<'a> {
    fn begin(editor: Result<&'a mut Editor, Error>) -> Self {
        let editor = editor.and_then(|editor| editor.begin().map(|()| editor));
        Self { editor, waiting: Vec::new(), taken: 0 }
    }

    fn run(&mut self, job: Job<Editor>) {
        self.taken += 1;
        let owner = self.editor.as_deref_mut().map_err(|error| error.clone());
        let answerable = job.run(owner);
        self.waiting.push(answerable);
        let Ok(editor) = &mut self.editor else { return };
        if !editor.in_transaction() {
            // A full disk or a failing one made SQLite take back the whole transaction, not only this operation.
            let error = editor.lost();
            self.waiting.drain(..).for_each(|waiting| waiting.answer(Err(error.clone())));
            if let Err(error) = editor.begin() {
                self.editor = Err(error);
            }
        }
    }

    /// Whether the log is to be emptied before more is written.
    fn is_long(&mut self) -> bool {
        self.editor.as_deref_mut().is_ok_and(|editor| editor.has_long_log())
    }

    fn commit(self) {
        let committed = self.editor.and_then(Editor::commit);
        self.waiting.into_iter().for_each(|waiting| waiting.answer(committed.clone()));
    }
}
