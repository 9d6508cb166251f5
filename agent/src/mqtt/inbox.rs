//! The way in: messages that were received and that their handlers have not finished yet.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::Message;
use super::session::{Receipt, Violation};

/// Messages that are held at most. A broker sends so many of QoS 1 without an acknowledgement: mosquitto 20, AWS IoT Core
/// 100. While the limit is above that, such messages alone never stop the reading.
pub(super) const LIMIT: usize = 128;

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
    /// Messages of QoS 1 of this connection: packet id, and whether it is finished.
    unacknowledged: VecDeque<(Receipt, u16, bool)>,
    /// Packet ids to acknowledge.
    due: VecDeque<u16>,
    /// When nothing more could be taken, or the last message after that was finished.
    full_since: Option<Instant>,
    next: u64,
    dropped: u64,
}

impl Inbox {
    /// Takes a message; `packet_id` for QoS 1.
    pub fn push(&mut self, message: Message, packet_id: Option<u16>, now: Instant) -> Result<(), Violation> {
        if self.is_full() {
            match packet_id {
                Some(_) => return Err(Violation::Overrun),
                None => self.dropped += 1,
            }
            return Ok(());
        }
        self.next += 1;
        let receipt = Receipt(self.next);
        self.open.insert(receipt, message.size());
        self.open_bytes += message.size();
        if let Some(packet_id) = packet_id {
            self.unacknowledged.push_back((receipt, packet_id, false));
        }
        self.arrived.push_back((receipt, message));
        self.note_fullness(now);
        Ok(())
    }

    /// The next message for the handlers.
    pub fn next_message(&mut self) -> Option<(Receipt, Message)> {
        self.arrived.pop_front()
    }

    /// The next packet id to acknowledge.
    pub fn next_acknowledgement(&mut self, now: Instant) -> Option<u16> {
        let packet_id = self.due.pop_front();
        self.note_fullness(now);
        packet_id
    }

    /// All handlers of a message have finished.
    pub fn finished(&mut self, receipt: Receipt, now: Instant) {
        let Some(bytes) = self.open.remove(&receipt) else { return };
        self.open_bytes -= bytes;
        if let Some(entry) = self.unacknowledged.iter_mut().find(|(known, ..)| *known == receipt) {
            entry.2 = true;
        }
        while let Some(&(_, packet_id, true)) = self.unacknowledged.front() {
            self.due.push_back(packet_id);
            self.unacknowledged.pop_front();
        }
        self.full_since = None;
        self.note_fullness(now);
    }

    /// On a new connection the broker sends again what it has no acknowledgement for; those of the old one are void.
    pub fn connected(&mut self, now: Instant) {
        self.unacknowledged.clear();
        self.due.clear();
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
        self.open.len() + self.due.len() >= LIMIT || self.open_bytes >= LIMIT_BYTES
    }

    fn note_fullness(&mut self, now: Instant) {
        if !self.is_full() {
            self.full_since = None;
        } else if self.full_since.is_none() {
            self.full_since = Some(now);
        }
    }
}
