//! The MQTT session: what is in flight and what to do about it. No I/O: packets and time in, actions out.
//!
//! A session outlives its connections. Whoever runs it says when one is up and when it is gone, gives it the packets that
//! arrive, and carries out its actions in the order they come.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::inbox::Inbox;
use super::journal::Journal;
use super::keep_alive::KeepAlive;
use super::outbox::Outbox;
use super::pace::Pace;
use super::packet::{Packet, Publish};
use super::packet_ids::PacketIds;
use super::profile::Profile;
use super::subscriptions::Subscriptions;
use super::{Error, Message, Outgoing, Priority, QoS};

pub use super::action::{Action, MessageId, Reason, Receipt, RequestId, Undelivered, Violation};
pub use super::journal::{Kept, KeptInFlight, Note, Store};
pub use super::queue::{Dropped, QueueState};
pub use super::{Policy, QueueLimits};

/// Bounds of a session.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages that wait for their acknowledgement at a time; at least 1.
    pub window: u16,
    /// Bounds of the messages that wait to be sent, for each of [`Priority::ALL`].
    pub queue: [QueueLimits; 3],
    /// Bytes of one packet that we send.
    pub max_packet: usize,
    /// Silence after which to ping; zero: never.
    pub keep_alive: Duration,
}

/// The session of one client with one broker.
#[derive(Debug)]
pub struct Session {
    is_connected: bool,
    /// The broker may have begun a new session without our knowledge.
    is_doubtful: bool,
    /// Whether packets were wanted when last looked at.
    is_reading: bool,
    is_writable: bool,
    ids: PacketIds,
    outbox: Outbox,
    subscriptions: Subscriptions,
    inbox: Inbox,
    alive: KeepAlive,
    journal: Journal,
    answers: VecDeque<Action>,
    /// The message of the packet that was given out last, if that is to be said.
    written: Option<MessageId>,
    pace: Pace,
    /// Messages wait until then for their turn.
    held_until: Option<Instant>,
    /// The connection was found well at that moment, so that it need not be looked at again for each packet that goes out
    /// at the same one.
    well_at: Option<Instant>,
}

impl Session {
    /// A session that knows nothing yet, without a connection.
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            is_connected: false,
            is_doubtful: false,
            is_reading: true,
            is_writable: true,
            ids: PacketIds::default(),
            outbox: Outbox::new(limits.window.max(1).into(), limits.queue, limits.max_packet),
            subscriptions: Subscriptions::new(limits.max_packet),
            inbox: Inbox::default(),
            alive: KeepAlive::new(limits.keep_alive, now),
            journal: Journal::default(),
            answers: VecDeque::new(),
            written: None,
            pace: Pace::default(),
            held_until: None,
            well_at: None,
        }
    }

    /// Goes on where the session stopped whose notes were kept, and has notes written from now on.
    pub fn restore(&mut self, mut kept: Kept, now: Instant) {
        self.journal = Journal::on();
        self.inbox.restore(std::mem::take(&mut kept.received));
        self.outbox.restore(kept, &mut self.ids, now);
    }

    /// Keeps the rules of a broker about the pace of messages and the number of subscriptions.
    pub fn keep_to(&mut self, profile: &Profile, now: Instant) {
        self.pace = Pace::new(profile, now);
        self.subscriptions.set_limit(profile.subscriptions);
    }

    /// The broker, or who looks after it, wants fewer messages from us; in time this is forgotten.
    pub fn throttle(&mut self, now: Instant) {
        self.pace.throttle(now);
    }

    /// Whether anything waits to be sent or to be answered.
    pub fn has_work(&self) -> bool {
        self.outbox.waiting() + self.outbox.in_flight() > 0 || self.subscriptions.are_asked()
    }

    /// CONNECT went out and no answer came. If the broker had forgotten the session it has begun a new one, and will say of
    /// that the next time that it is present: so the subscriptions are then restored whatever it says.
    pub fn unanswered(&mut self) {
        self.is_doubtful = true;
    }

    /// The broker accepted us. What was not acknowledged goes out again, oldest first [MQTT-4.4.0-1]; also when the
    /// broker has forgotten the session, and then the subscriptions are restored before.
    pub fn connected(&mut self, session_present: bool, now: Instant) {
        self.disconnected();
        self.is_connected = true;
        self.is_writable = true;
        self.inbox.connected(session_present, &mut self.journal, now);
        self.outbox.connected(session_present, &mut self.ids, &mut self.journal);
        let is_doubtful = std::mem::take(&mut self.is_doubtful);
        self.subscriptions.connected(session_present && !is_doubtful);
        self.alive.sent(now);
        self.alive.restart(now);
    }

    /// The broker closed the connection in order, not by a reset; [`disconnected`](Self::disconnected) follows.
    pub fn hung_up(&mut self) {
        self.outbox.hung_up(&mut self.ids, &mut self.journal, &mut self.answers);
    }

    /// The connection is gone. Nothing else is; messages wait for the next one.
    pub fn disconnected(&mut self) {
        if !std::mem::replace(&mut self.is_connected, false) {
            return;
        }
        self.outbox.disconnected();
        self.subscriptions.disconnected(&mut self.ids);
    }

    /// A packet arrived. An error means: close the connection, keep the session.
    pub fn received(&mut self, packet: Packet, now: Instant) -> Result<(), Violation> {
        self.alive.received(now);
        match packet {
            Packet::Publish(publish) => self.take_message(publish, now),
            Packet::PubAck(ack) => {
                let id = self.outbox.puback(ack.pkid, &mut self.ids, &mut self.journal)?;
                self.acknowledged(id, "PUBACK", ack.pkid)
            }
            Packet::PubRec(ack) => self.outbox.pubrec(ack.pkid, &mut self.journal),
            Packet::PubComp(ack) => {
                let id = self.outbox.pubcomp(ack.pkid, &mut self.ids, &mut self.journal);
                self.acknowledged(id, "PUBCOMP", ack.pkid)
            }
            Packet::PubRel(ack) => {
                self.inbox.pubrel(ack.pkid, &mut self.journal);
                Ok(())
            }
            Packet::SubAck(ack) => {
                self.subscriptions.suback(ack.pkid, &ack.return_codes, &mut self.ids, &mut self.answers)
            }
            Packet::UnsubAck(ack) => self.subscriptions.unsuback(ack.pkid, &mut self.ids, &mut self.answers),
            Packet::PingResp => Ok(()),
            Packet::ConnAck(_) => Err(Violation::Unexpected("a second CONNACK")),
            _ => Err(Violation::Unexpected("a client's packet")),
        }
    }

    fn acknowledged(&mut self, id: Option<MessageId>, packet: &str, packet_id: u16) -> Result<(), Violation> {
        match id {
            Some(id) => self.answers.push_back(Action::Acknowledged(id)),
            None => log::debug!("{packet} {packet_id} acknowledges nothing that was sent"),
        }
        Ok(())
    }

    /// Queues a message. Errors: a bad topic, a message too large for a packet, or a full queue.
    pub fn publish(&mut self, message: impl Into<Outgoing>, now: Instant) -> Result<MessageId, Error> {
        self.outbox.push(message.into(), &mut self.journal, &mut self.answers, now)
    }

    /// Whether the time of what is done matters. As long as no message can wait too long and nothing is kept, an earlier
    /// moment than the present one will do for [`publish`](Self::publish) and for
    /// [`poll_answer`](Self::poll_answer).
    pub fn is_timed(&self) -> bool {
        self.journal.is_on() || self.outbox.is_timed()
    }

    /// Whether [`publish`](Self::publish) would take this message now.
    pub fn has_room(&self, message: &Outgoing) -> bool {
        self.outbox.has_room(message)
    }

    /// How many messages more may wait, for each of [`Priority::ALL`], as far as their number alone counts.
    pub fn room(&self) -> [usize; 3] {
        self.outbox.room()
    }

    /// Asks for the messages of a filter; the answer is [`Action::Subscribed`]. Asking again for a filter never lowers
    /// its quality of service. Errors: a bad filter, or too many.
    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> Result<RequestId, Error> {
        self.subscriptions.subscribe(filter.into(), qos)
    }

    /// As [`subscribe`](Self::subscribe), but the broker is not asked when it has granted as much; then that comes along.
    pub fn join(&mut self, filter: &str, qos: QoS) -> Result<(RequestId, Option<QoS>), Error> {
        self.subscriptions.join(filter, qos)
    }

    /// Ends a subscription; the answer is [`Action::Unsubscribed`]. Errors as for [`subscribe`](Self::subscribe).
    pub fn unsubscribe(&mut self, filter: &str) -> Result<RequestId, Error> {
        self.subscriptions.unsubscribe(filter.into())
    }

    /// All handlers of a message have finished with it.
    pub fn finished(&mut self, receipt: Receipt, now: Instant) {
        self.inbox.finished(receipt, &mut self.journal, now);
    }

    /// The notes for the next transaction of the [`Store`]; [`stored`](Self::stored) is to follow before there are others.
    pub fn take_notes(&mut self, now: Instant) -> Option<Vec<Note>> {
        self.journal.take(now)
    }

    /// All notes that were not taken, at the end of the session.
    pub fn take_rest(&mut self) -> Option<Vec<Note>> {
        self.journal.take_rest()
    }

    /// What came of the transaction with these notes. When it failed, the messages in it that were not kept before fail
    /// with it; the other notes are tried again.
    pub fn stored(&mut self, notes: Vec<Note>, outcome: Result<(), String>, now: Instant) {
        let queued = notes.iter().filter(|note| matches!(note, Note::Queued { .. })).filter_map(Note::message);
        match outcome {
            Ok(()) => {
                self.answers.extend(queued.map(Action::Stored));
                self.journal.committed();
            }
            Err(why) => {
                log::error!("the messages cannot be kept: {why}");
                let given_up: Vec<MessageId> = queued.collect();
                for id in &given_up {
                    self.outbox.not_stored(*id, &why, &mut self.ids, &mut self.answers);
                }
                self.journal.failed(notes, &given_up, now);
            }
        }
    }

    /// The next thing to do, until `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        if let Some(answer) = self.poll_answer(now) {
            return Some(answer);
        }
        if let Some((receipt, message)) = self.inbox.next_message() {
            return Some(Action::Deliver(receipt, message));
        }
        if !self.is_connected {
            return None;
        }
        let is_reading = self.wants_input(now);
        if is_reading && !self.is_reading {
            self.alive.restart(now);
        }
        self.is_reading = is_reading;
        if self.well_at != Some(now) {
            if self.alive.dead_at(is_reading).is_some_and(|dead| now >= dead) {
                self.disconnected();
                return Some(Action::Close(Reason::Dead));
            }
            if self.alive.ping_due(is_reading).is_some_and(|due| now >= due) {
                self.alive.pinged(now);
                return Some(Action::Send(Packet::PingReq));
            }
            self.well_at = Some(now);
        }
        let packet = self.next_packet(now)?;
        self.alive.sent(now);
        Some(Action::Send(packet))
    }

    /// The next thing to do that needs no connection and hands out nothing: what came of messages and requests.
    pub fn poll_answer(&mut self, now: Instant) -> Option<Action> {
        if let Some(id) = self.written.take() {
            return Some(Action::Written(id));
        }
        if self.answers.is_empty() && self.outbox.is_timed() {
            self.outbox.expire(&mut self.journal, &mut self.answers, now);
        }
        self.answers.pop_front()
    }

    /// When to call [`poll`](Self::poll) again although nothing happened.
    pub fn deadline(&self) -> Option<Instant> {
        let always = [self.outbox.expires(), self.journal.deadline()].into_iter().flatten().min();
        if !self.is_connected {
            return always;
        }
        let alive = [self.alive.ping_due(self.is_reading), self.alive.dead_at(self.is_reading)];
        let others = [self.inbox.resumes().filter(|_| !self.is_reading), self.held_until, always];
        alive.into_iter().chain(others).flatten().min()
    }

    /// Whether packets can be written now. While they cannot, `poll` brings none but pings, so that what waits to be
    /// written stays bounded.
    pub fn set_writable(&mut self, is_writable: bool) {
        self.is_writable = is_writable;
    }

    /// Whether the next packet should be read; not while the handlers are behind.
    pub fn wants_input(&self, now: Instant) -> bool {
        self.inbox.wants_input(now)
    }

    /// Messages that were not sent yet.
    pub fn queued(&self) -> usize {
        self.outbox.waiting()
    }

    /// Messages that were sent and not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.outbox.in_flight()
    }

    /// Messages of one priority that were not sent yet.
    pub fn queued_of(&self, priority: Priority) -> usize {
        self.outbox.waiting_of(priority)
    }

    /// Figures of the queue of one priority.
    pub fn queue_state(&self, priority: Priority, now: Instant) -> QueueState {
        self.outbox.queue_state(priority, now)
    }

    /// Messages that were given up.
    pub fn given_up(&self) -> Dropped {
        self.outbox.dropped()
    }

    /// Whether all notes are safe.
    pub fn is_written_down(&self) -> bool {
        self.journal.is_empty()
    }

    /// Filters that the broker granted.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.granted()
    }

    /// Received messages of QoS 0 that were dropped because the handlers were behind.
    pub fn dropped(&self) -> u64 {
        self.inbox.dropped()
    }

    fn take_message(&mut self, publish: Publish, now: Instant) -> Result<(), Violation> {
        let qos = QoS::from(publish.qos);
        // A copy: the received payload is a part of the read buffer and would keep all of that in memory.
        let payload = Bytes::copy_from_slice(&publish.payload);
        let message = Message { topic: publish.topic, payload, qos, retain: publish.retain };
        match qos {
            QoS::AtMostOnce => self.inbox.push(message, now),
            QoS::AtLeastOnce | QoS::ExactlyOnce => {
                self.inbox.push_acknowledged(message, publish.pkid, publish.dup, &self.journal, now)?
            }
        }
        Ok(())
    }

    /// What keeps the connection alive went before. First acknowledgements, they free the broker; then requests and
    /// messages.
    fn next_packet(&mut self, now: Instant) -> Option<Packet> {
        if !self.is_writable {
            return None;
        }
        if let Some(packet) = self.inbox.next_acknowledgement(now, &self.journal) {
            return Some(packet);
        }
        if let Some(packet) = self.outbox.next_release(&self.journal) {
            return Some(packet);
        }
        if let Some(packet) = self.subscriptions.next(&mut self.ids) {
            return Some(packet);
        }
        self.held_until = self.pace.held_until(now).filter(|_| self.outbox.waiting() + self.outbox.in_flight() > 0);
        if self.held_until.is_some() {
            return None;
        }
        let (packet, written) = self.outbox.next(&mut self.ids, &mut self.journal)?;
        self.pace.published(now);
        self.written = written;
        Some(packet)
    }

    /// Notes that wait to be written.
    #[cfg(test)]
    pub(super) fn notes(&self) -> usize {
        self.journal.pending()
    }

    /// Makes the next packet id the one after `last`.
    #[cfg(test)]
    pub(super) fn start_ids_after(&mut self, last: u16) {
        self.ids.start_after(last);
    }
}
