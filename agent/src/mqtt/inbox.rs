//! The way in: messages that were received and that their handlers have not finished yet.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::broken::{self, Defect};
use super::journal::{Journal, Mark, Note};
use super::packet::{Packet, PubAck, PubComp, PubRec};
use super::session::{Receipt, Violation};
use super::{Message, QoS};

/// Messages that are held at most. A broker sends so many of QoS 1 without an acknowledgement: mosquitto 20, AWS IoT Core
/// 100. While the limit is above that, such messages alone never stop the reading.
const LIMIT: usize = 128;

/// Bytes of messages that are held at most: twenty of 128 KiB, the largest that AWS IoT Core sends, and some.
const LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// How long reading may rest because the handlers finish nothing. A handler may itself wait for a packet that is not
/// read, so it cannot rest for ever.
const REST: Duration = Duration::from_secs(10);

/// A message of QoS 1 or 2 is acknowledged when its handlers have finished it, in the order of arrival [MQTT-4.6.0-2,
/// MQTT-4.6.0-3]: what a killed agent had not finished comes again. The broker's own window is thus the back-pressure;
/// beyond it reading rests. If it rested too long, QoS 0 is dropped and counted, and the others end the connection, which
/// makes the broker send them again.
///
/// ```text
/// QoS 1   PUBLISH ──▶ handlers ── PUBACK ──▶ over
/// QoS 2   PUBLISH ──▶ handlers ──▶ id kept ── PUBREC ──▶ PUBREL ──▶ id forgotten ── PUBCOMP ──▶ over
/// ```
///
/// While the id of a message of QoS 2 is kept, the same id brings no new message.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Not handed out yet.
    arrived: VecDeque<(Receipt, Message)>,
    /// Not finished, with their bytes.
    open: HashMap<Receipt, usize>,
    open_bytes: usize,
    /// Of QoS 1 and 2, received on this connection, in the order of arrival.
    unacknowledged: VecDeque<Unacknowledged>,
    /// The same of earlier connections: the broker sends them again.
    earlier: VecDeque<Unacknowledged>,
    /// Packet ids of messages of QoS 2 that were handled and whose PUBREL has not come.
    received: BTreeSet<u16>,
    /// PUBCOMPs to send, each once it is safe that its packet id is forgotten: a broker that has it may use the id for
    /// another message at once.
    completed: VecDeque<(u16, Mark)>,
    /// When nothing more could be taken, or the last message after that was finished.
    full_since: Option<Instant>,
    next: u64,
    dropped: u64,
}

/// A message whose PUBACK or PUBREC was not sent.
#[derive(Debug)]
struct Unacknowledged {
    receipt: Receipt,
    packet_id: u16,
    message: Message,
    /// Its handlers are done; of QoS 2 also the note of that has to be safe.
    finished: Option<Mark>,
}

impl Unacknowledged {
    /// Whether a packet that arrived brings this message again. The id alone says it with QoS 2; with QoS 1 it may have
    /// been used for another message by now.
    fn is_repeated_by(&self, message: &Message, packet_id: u16, dup: bool) -> bool {
        let is_same = match message.qos {
            QoS::ExactlyOnce => self.message.qos == QoS::ExactlyOnce,
            _ => dup && self.message == *message,
        };
        self.packet_id == packet_id && is_same
    }
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

    /// Takes a message of QoS 1 or 2. One that is repeated because its connection broke before it was acknowledged is not
    /// handed out again.
    pub fn push_acknowledged(
        &mut self,
        message: Message,
        packet_id: u16,
        dup: bool,
        journal: &Journal,
        now: Instant,
    ) -> Result<(), Violation> {
        let is_exactly_once = message.qos == QoS::ExactlyOnce && !broken::has(Defect::ForgetReceived);
        let is_known = |known: &Unacknowledged| known.is_repeated_by(&message, packet_id, dup);
        if is_exactly_once && self.unacknowledged.iter().any(is_known) {
            return Ok(());
        }
        if is_exactly_once && self.received.contains(&packet_id) {
            // The note that it was handled may not be safe yet.
            let (receipt, finished) = (self.next_receipt(), Some(journal.latest()));
            self.unacknowledged.push_back(Unacknowledged { receipt, packet_id, message, finished });
            return Ok(());
        }
        let known = self.earlier.iter().position(is_known).filter(|_| !broken::has(Defect::ForgetReceived));
        if let Some(known) = known.and_then(|index| self.earlier.remove(index)) {
            self.unacknowledged.push_back(known);
            return Ok(());
        }
        if self.is_full() {
            return Err(Violation::Overrun);
        }
        let receipt = self.open(message.clone(), now);
        self.unacknowledged.push_back(Unacknowledged { receipt, packet_id, message, finished: None });
        self.note_fullness(now);
        Ok(())
    }

    /// PUBREL: the broker will not repeat the message. It gets its PUBCOMP also for an id that we do not know (any more).
    pub fn pubrel(&mut self, packet_id: u16, journal: &mut Journal) {
        let is_early = |known: &Unacknowledged| known.packet_id == packet_id && known.message.qos == QoS::ExactlyOnce;
        if self.received.remove(&packet_id) {
            // A second PUBREC that still waits here would later be taken for that of the next message with this id.
            self.unacknowledged.retain(|known| known.finished.is_none() || !is_early(known));
            let mark = journal.note(Note::Forgotten(packet_id));
            self.completed.push_back((packet_id, mark));
        } else if self.unacknowledged.iter().any(is_early) {
            log::debug!("PUBREL {packet_id} comes before its PUBREC");
        } else {
            // The first of two PUBRELs may not be safe yet.
            self.completed.push_back((packet_id, journal.latest()));
        }
    }

    fn open(&mut self, message: Message, now: Instant) -> Receipt {
        let receipt = self.next_receipt();
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

    /// The next acknowledgement to send.
    pub fn next_acknowledgement(&mut self, now: Instant, journal: &Journal) -> Option<Packet> {
        if self.completed.front().is_some_and(|(_, mark)| journal.is_safe(*mark)) {
            let (packet_id, _) = self.completed.pop_front()?;
            return Some(Packet::PubComp(PubComp { pkid: packet_id }));
        }
        let is_ready = |first: &Unacknowledged| {
            first.finished.is_some_and(|mark| journal.is_safe(mark)) || broken::has(Defect::AckBeforeCommit)
        };
        self.unacknowledged.front().filter(|first| is_ready(first))?;
        let Unacknowledged { packet_id: pkid, message, .. } = self.unacknowledged.pop_front()?;
        self.note_fullness(now);
        Some(match message.qos {
            QoS::ExactlyOnce => Packet::PubRec(PubRec { pkid }),
            _ => Packet::PubAck(PubAck { pkid }),
        })
    }

    /// All handlers of a message have finished.
    pub fn finished(&mut self, receipt: Receipt, journal: &mut Journal, now: Instant) {
        let Some(bytes) = self.open.remove(&receipt) else { return };
        self.open_bytes -= bytes;
        let mut unacknowledged = self.unacknowledged.iter_mut().chain(&mut self.earlier);
        if let Some(known) = unacknowledged.find(|known| known.receipt == receipt) {
            let is_exactly_once = known.message.qos == QoS::ExactlyOnce;
            known.finished = Some(if is_exactly_once { journal.note(Note::Received(known.packet_id)) } else { 0 });
            if is_exactly_once {
                self.received.insert(known.packet_id);
            }
        }
        self.forget_handled();
        self.full_since = None;
        self.note_fullness(now);
    }

    /// Goes on with the packet ids that were kept.
    pub fn restore(&mut self, received: Vec<u16>) {
        self.received = received.into_iter().collect();
    }

    /// On a new connection the broker sends again what it has no acknowledgement for, unless it has forgotten the session.
    pub fn connected(&mut self, session_present: bool, journal: &mut Journal, now: Instant) {
        self.completed.clear();
        self.earlier.append(&mut self.unacknowledged);
        let kept = if session_present { LIMIT } else { 0 };
        self.earlier.drain(..self.earlier.len().saturating_sub(kept));
        self.forget_handled();
        if !session_present && !self.received.is_empty() {
            self.received.clear();
            journal.note(Note::ForgottenAll);
        }
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

    /// A message of QoS 2 of an earlier connection that was handled is known by its id alone. Kept here as well, it would be
    /// taken for the next message with this id.
    fn forget_handled(&mut self) {
        self.earlier.retain(|known| !(known.message.qos == QoS::ExactlyOnce && known.finished.is_some()));
    }

    fn next_receipt(&mut self) -> Receipt {
        self.next += 1;
        Receipt(self.next)
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
