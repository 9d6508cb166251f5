//! The way in: messages that were received and that their handlers have not finished yet.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::Message;
use super::session::{Receipt, Violation};

/// Messages that are held at most. A broker sends so many of QoS 1 without an acknowledgement: mosquitto 20, AWS IoT Core
/// 100. While the limit is above that, such messages alone never stop the reading.
const LIMIT: usize = 128;

/// Bytes of messages that are held at most: twenty of 128 KiB, the largest that AWS IoT Core sends, and some.
const LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// How long reading may rest because the handlers finish nothing. A handler may itself wait for a packet that is not
/// read, so it cannot rest for ever.
const REST: Duration = Duration::from_secs(10);

/// A message of QoS 1 is acknowledged when its handlers have finished it, in the order of arrival [MQTT-4.6.0-2]: what
/// a killed agent had not finished comes again. The broker's own window is thus the back-pressure; beyond it reading
/// rests. If it rested too long, QoS 0 is dropped and counted, and QoS 1 ends the connection, which makes the broker
/// send it again.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Not handed out yet.
    arrived: VecDeque<(Receipt, Message)>,
    /// Not finished, with their bytes.
    open: HashMap<Receipt, usize>,
    open_bytes: usize,
    /// Of QoS 1, received on this connection, in the order of arrival.
    unacknowledged: VecDeque<Unacknowledged>,
    /// The same of earlier connections: the broker sends them again.
    earlier: VecDeque<Unacknowledged>,
    /// When nothing more could be taken, or the last message after that was finished.
    full_since: Option<Instant>,
    next: u64,
    dropped: u64,
}

/// A message of QoS 1 whose PUBACK was not sent.
#[derive(Debug)]
struct Unacknowledged {
    receipt: Receipt,
    packet_id: u16,
    message: Message,
    is_finished: bool,
}

impl Inbox {
    /// Takes a message of QoS 0.
    pub fn push(&mut self, message: Message, now: Instant) {
        if self.is_full() {
            self.dropped += 1;
        } else {
            self.open(message, now);
        }
    }

    /// Takes a message of QoS 1. One that is repeated because its connection broke before it was acknowledged is not
    /// handed out again.
    pub fn push_acknowledged(
        &mut self,
        message: Message,
        packet_id: u16,
        is_repeated: bool,
        now: Instant,
    ) -> Result<(), Violation> {
        let is_same = |known: &Unacknowledged| known.packet_id == packet_id && known.message == message;
        let known = if is_repeated { self.earlier.iter().position(is_same) } else { None };
        if let Some(known) = known.and_then(|index| self.earlier.remove(index)) {
            self.unacknowledged.push_back(known);
            return Ok(());
        }
        if self.is_full() {
            return Err(Violation::Overrun);
        }
        let receipt = self.open(message.clone(), now);
        self.unacknowledged.push_back(Unacknowledged { receipt, packet_id, message, is_finished: false });
        self.note_fullness(now);
        Ok(())
    }

    fn open(&mut self, message: Message, now: Instant) -> Receipt {
        self.next += 1;
        let receipt = Receipt(self.next);
        self.open.insert(receipt, message.size());
        self.open_bytes += message.size();
        self.arrived.push_back((receipt, message));
        self.note_fullness(now);
        receipt
    }

    /// The next message for the handlers.
    pub fn next_message(&mut self) -> Option<(Receipt, Message)> {
        self.arrived.pop_front()
    }

    /// The next packet id to acknowledge.
    pub fn next_acknowledgement(&mut self, now: Instant) -> Option<u16> {
        self.unacknowledged.front().filter(|first| first.is_finished)?;
        let first = self.unacknowledged.pop_front()?;
        self.note_fullness(now);
        Some(first.packet_id)
    }

    /// All handlers of a message have finished.
    pub fn finished(&mut self, receipt: Receipt, now: Instant) {
        let Some(bytes) = self.open.remove(&receipt) else { return };
        self.open_bytes -= bytes;
        let mut unacknowledged = self.unacknowledged.iter_mut().chain(&mut self.earlier);
        if let Some(known) = unacknowledged.find(|known| known.receipt == receipt) {
            known.is_finished = true;
        }
        self.full_since = None;
        self.note_fullness(now);
    }

    /// On a new connection the broker sends again what it has no acknowledgement for, unless it has forgotten the session.
    pub fn connected(&mut self, session_present: bool, now: Instant) {
        self.earlier.append(&mut self.unacknowledged);
        let kept = if session_present { LIMIT } else { 0 };
        self.earlier.drain(..self.earlier.len().saturating_sub(kept));
        self.full_since = None;
        self.note_fullness(now);
    }

    /// Whether more packets should be read.
    pub fn wants_input(&self, now: Instant) -> bool {
        self.resumes().is_none_or(|resumes| now >= resumes)
    }

    /// When reading goes on in any case; nothing while it does not rest.
    pub fn resumes(&self) -> Option<Instant> {
        self.full_since.map(|since| since + REST)
    }

    /// Messages of QoS 0 that found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn is_full(&self) -> bool {
        self.open.len().max(self.unacknowledged.len()) >= LIMIT || self.open_bytes >= LIMIT_BYTES
    }

    fn note_fullness(&mut self, now: Instant) {
        if !self.is_full() {
            self.full_since = None;
        } else if self.full_since.is_none() {
            self.full_since = Some(now);
        }
    }
}
