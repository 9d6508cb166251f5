//! What the session has written down, so that it goes on after a kill or a reboot as if nothing had been.
//!
//! The session only says what is to be written, as [`Note`]s in order, and holds back each packet that depends on a note
//! until the disk has it. Many notes go to the disk in one transaction.

use std::time::{Duration, Instant};

use super::broken::{self, Defect};
use super::session::MessageId;
use super::{Message, Priority};

/// When a failed transaction is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Nothing waits for the note that a message is done, so it waits itself for others to share their transaction: for so
/// long, or until there are so many.
const LAZY: Duration = Duration::from_millis(500);
const LAZY_NOTES: usize = 1000;

/// A change of what is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A message was published.
    Queued {
        /// Its number: messages of a priority go out in the order of these.
        id: MessageId,
        /// Which one goes first.
        priority: Priority,
        /// The message.
        message: Message,
    },
    /// The message is about to be sent with this packet id. Messages were sent in the order of these notes.
    Sending {
        /// Which message.
        id: MessageId,
        /// With it the message is sent again.
        packet_id: u16,
    },
    /// The broker has taken the message of QoS 2; from now on only its PUBREL is sent.
    Released(MessageId),
    /// The broker has forgotten that: the message itself goes out again.
    Unreleased(MessageId),
    /// The message is acknowledged or given up.
    Done(MessageId),
    /// The message of QoS 2 with this packet id was handled; a repeat of it is no new message.
    Received(u16),
    /// The broker will not repeat it, and may use the packet id for another message.
    Forgotten(u16),
    /// The broker has forgotten the session: none of the received packet ids means anything any more.
    ForgottenAll,
}

/// What was kept of a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// Messages that were sent, perhaps, in that order.
    pub in_flight: Vec<KeptInFlight>,
    /// Messages that were not, in the order of their numbers.
    pub queued: Vec<(MessageId, Priority, Message)>,
    /// Packet ids of received messages of QoS 2 that the broker may repeat.
    pub received: Vec<u16>,
}

/// A message that was sent, perhaps.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptInFlight {
    /// Its number.
    pub id: MessageId,
    /// The packet id of each attempt.
    pub packet_id: u16,
    /// Whether only its PUBREL is to be sent.
    pub is_released: bool,
    /// The message.
    pub message: Message,
}

/// Keeps notes somewhere where they survive.
pub trait Store: Send {
    /// Writes all of the notes, in their order, or nothing; when it returns they are safe.
    ///
    /// # Errors
    /// Why not, in words.
    fn commit(&mut self, notes: &[Note]) -> Result<(), String>;
}

/// The notes on their way to the store.
#[derive(Debug, Default)]
pub(super) struct Journal {
    is_on: bool,
    pending: Vec<Note>,
    /// Notes ever made; of them taken, and safe.
    made: u64,
    taken: u64,
    safe: u64,
    is_busy: bool,
    /// Something waits for a note that was not taken.
    is_urgent: bool,
    /// What is not urgent is taken then.
    lazy_until: Option<Instant>,
    retry_at: Option<Instant>,
}

/// The number of a note: what depends on it waits until it is safe. 0 depends on nothing.
pub(super) type Mark = u64;

impl Journal {
    pub fn on() -> Self {
        Self { is_on: true, ..Self::default() }
    }

    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Has something written down.
    pub fn note(&mut self, note: Note) -> Mark {
        if !self.is_on {
            return 0;
        }
        self.is_urgent |= !matches!(note, Note::Done(_));
        self.pending.push(note);
        self.made += 1;
        self.made
    }

    /// Something waits even for the last note.
    pub fn hurry(&mut self) {
        self.is_urgent |= self.is_on;
    }

    /// What all notes so far depend on.
    pub fn latest(&self) -> Mark {
        self.made
    }

    pub fn is_safe(&self, mark: Mark) -> bool {
        mark <= self.safe || broken::has(Defect::SendBeforeCommit)
    }

    /// Whether everything is safe.
    pub fn is_empty(&self) -> bool {
        self.safe == self.made
    }

    /// The notes for the next transaction, one transaction at a time.
    pub fn take(&mut self, now: Instant) -> Option<Vec<Note>> {
        if self.is_busy || self.pending.is_empty() || self.retry_at.is_some_and(|retry| now < retry) {
            return None;
        }
        let is_lazy = !self.is_urgent && self.pending.len() < LAZY_NOTES;
        if is_lazy && now < *self.lazy_until.get_or_insert(now + LAZY) {
            return None;
        }
        self.is_urgent = false;
        self.lazy_until = None;
        self.retry_at = None;
        self.is_busy = true;
        self.taken = self.made;
        Some(std::mem::take(&mut self.pending))
    }

    /// The notes taken last are safe.
    pub fn committed(&mut self) {
        self.is_busy = false;
        self.safe = self.taken;
    }

    /// The notes taken last are not. They are to be written again, but for those about messages that could not be kept.
    pub fn failed(&mut self, mut notes: Vec<Note>, given_up: &[MessageId], now: Instant) {
        self.is_busy = false;
        self.is_urgent = true;
        self.retry_at = Some(now + RETRY);
        notes.append(&mut self.pending);
        notes.retain(|note| note.message().is_none_or(|id| !given_up.contains(&id)));
        self.pending = notes;
        if self.pending.is_empty() {
            self.safe = self.made;
        }
    }

    /// Notes that were not taken.
    #[cfg(test)]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// When to take notes although nothing happened.
    pub fn deadline(&self) -> Option<Instant> {
        if self.is_busy || self.pending.is_empty() { None } else { self.retry_at.or(self.lazy_until) }
    }

    /// All that was not taken, however lazy: there is no later.
    pub fn take_rest(&mut self) -> Option<Vec<Note>> {
        let rest = std::mem::take(&mut self.pending);
        if rest.is_empty() { None } else { Some(rest) }
    }
}

impl Note {
    /// The message that it is about.
    pub fn message(&self) -> Option<MessageId> {
        match self {
            Self::Queued { id, .. } | Self::Sending { id, .. } => Some(*id),
            Self::Released(id) | Self::Unreleased(id) | Self::Done(id) => Some(*id),
            Self::Received(_) | Self::Forgotten(_) | Self::ForgottenAll => None,
        }
    }
}
