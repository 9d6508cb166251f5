//! The thread that writes the notes of a session to the disk.

use std::sync::Weak;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::Error;
use super::session::{Note, Store};
use super::shared::Shared;

/// Writes one transaction after the other; what is noted meanwhile goes into the next.
#[derive(Debug)]
pub(super) struct Writer {
    sender: Sender<Vec<Note>>,
    thread: JoinHandle<()>,
}

impl Writer {
    pub fn start(store: Box<dyn Store>, shared: Weak<Shared>) -> Result<Self, Error> {
        let (sender, receiver) = mpsc::channel();
        let work = move || write(store, &receiver, &shared);
        let thread = thread::Builder::new().name("mqtt-outbox".into()).stack_size(512 * 1024).spawn(work);
        Ok(Self { sender, thread: thread.map_err(Error::Io)? })
    }

    /// Has a transaction written; [`Shared::stored`] says what came of it.
    pub fn write(&self, notes: Vec<Note>) {
        // The thread ends only after this sender.
        let _ = self.sender.send(notes);
    }

    /// Writes what is left, and waits for it.
    pub fn close(self, rest: Option<Vec<Note>>) {
        rest.into_iter().for_each(|notes| self.write(notes));
        drop(self.sender);
        let _ = self.thread.join();
    }
}

fn write(mut store: Box<dyn Store>, receiver: &Receiver<Vec<Note>>, shared: &Weak<Shared>) {
    while let Ok(notes) = receiver.recv() {
        let outcome = store.commit(&notes);
        match (shared.upgrade(), outcome) {
            (Some(shared), outcome) => shared.stored(notes, outcome),
            (None, Err(error)) => log::error!("{error}"),
            (None, Ok(())) => {}
        }
    }
}
