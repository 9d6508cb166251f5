//! The MQTT session: what is in flight and what to do about it. No I/O: packets and time in, actions out.
//!
//! A session outlives its connections. Whoever runs it says when one is up and when it is gone, gives it the packets that
//! arrive, and carries out its actions in the order they come.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::inbox::Inbox;
use super::keep_alive::KeepAlive;
use super::outbox::{Outbox, OutboxLimits};
use super::pace::Pace;
use super::packet::{Packet, PubAck, Publish, WireQoS};
use super::packet_ids::PacketIds;
use super::profile::Profile;
use super::subscriptions::Subscriptions;
use super::{Error, Message, QoS};

/// Bytes of messages on their way out that are held at most, whatever their count.
const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// Names a published message until it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub(super) u64);

/// Names a request to subscribe or unsubscribe until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

/// Names a received message until its handlers have finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt(pub(super) u64);

/// Bounds of a session.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages that wait for their acknowledgement at a time; at least 1.
    pub window: u16,
    /// Messages that wait to be sent; at least 1. Together with those in flight they may hold 8 MiB.
    pub queue: usize,
    /// Bytes of one packet that we send.
    pub max_packet: usize,
    /// Silence after which to ping; zero: never.
    pub keep_alive: Duration,
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Send this packet.
    Send(Packet),
    /// The message of QoS 0 in the packet just before: it counts as sent once that is written.
    Written(MessageId),
    /// The broker has this message. Said once for each message.
    Acknowledged(MessageId),
    /// The broker answered a SUBSCRIBE; without a request it was one that restores a subscription.
    Subscribed {
        /// The request, said once for each.
        request: Option<RequestId>,
        /// Its filter.
        filter: String,
        /// The quality of service granted; nothing when the broker refused.
        granted: Option<QoS>,
    },
    /// The broker has ended a subscription.
    Unsubscribed(RequestId),
    /// Give the message to its handlers, and call [`Session::finished`] when all of them are done with it.
    Deliver(Receipt, Message),
    /// Close the connection, and call [`Session::connected`] on the next one.
    Close(Reason),
}

/// Why the session gives a connection up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing was heard for one and a half keep-alive intervals.
    Dead,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dead => f.write_str("nothing was heard from the broker for one and a half keep-alive intervals"),
        }
    }
}

/// What the broker did that its state does not allow. The connection is to be closed; the session goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A packet that only clients send, or a second CONNACK.
    Unexpected(&'static str),
    /// A message of QoS 2, which we never subscribe to. An earlier client with our client id may have.
    ExactlyOnce,
    /// A SUBACK with another number of codes than the SUBSCRIBE had filters.
    SubAck {
        /// Filters asked for.
        filters: usize,
        /// Codes answered.
        codes: usize,
    },
    /// An UNSUBACK that answers a SUBSCRIBE.
    UnsubAck,
    /// More messages without acknowledgement than we hold while our handlers are busy. The broker sends them again.
    Overrun,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexpected(packet) => write!(f, "the broker sent {packet}, which it must not send now"),
            Self::ExactlyOnce => f.write_str(
                "the broker sent a message of QoS 2, which was not asked for: if another program used this client id \
                 (mqtt.clientId), choose another one or end its session",
            ),
            Self::SubAck { filters, codes } => {
                write!(f, "the broker answered a SUBSCRIBE of {filters} filters with {codes} codes")
            }
            Self::UnsubAck => f.write_str("the broker answered a SUBSCRIBE with an UNSUBACK"),
            Self::Overrun => f.write_str(
                "the message handlers did not finish in time while the broker kept sending; it will send them again",
            ),
        }
    }
}

impl std::error::Error for Violation {}

/// The session of one client with one broker.
#[derive(Debug)]
pub struct Session {
    is_connected: bool,
    /// Whether packets were wanted when last looked at.
    is_reading: bool,
    is_writable: bool,
    ids: PacketIds,
    outbox: Outbox,
    subscriptions: Subscriptions,
    inbox: Inbox,
    alive: KeepAlive,
    answers: VecDeque<Action>,
    pace: Pace,
    /// Messages wait until then for their turn.
    held_until: Option<Instant>,
}

impl Session {
    /// A session that knows nothing yet, without a connection.
    pub fn new(limits: Limits, now: Instant) -> Self {
        let outbox = OutboxLimits {
            window: limits.window.max(1).into(),
            queue: limits.queue.max(1),
            queue_bytes: QUEUE_BYTES,
            max_packet: limits.max_packet,
        };
        Self {
            is_connected: false,
            is_reading: true,
            is_writable: true,
            ids: PacketIds::default(),
            outbox: Outbox::new(outbox),
            subscriptions: Subscriptions::new(limits.max_packet),
            inbox: Inbox::default(),
            alive: KeepAlive::new(limits.keep_alive, now),
            answers: VecDeque::new(),
            pace: Pace::default(),
            held_until: None,
        }
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

    /// The broker accepted us. What was not acknowledged goes out again, oldest first [MQTT-4.4.0-1]; also when the
    /// broker has forgotten the session, and then the subscriptions are restored before.
    pub fn connected(&mut self, session_present: bool, now: Instant) {
        self.disconnected();
        self.is_connected = true;
        self.is_writable = true;
        self.inbox.connected(session_present, now);
        self.subscriptions.connected(session_present);
        self.alive.sent(now);
        self.alive.restart(now);
    }

    /// The connection is gone. Nothing else is; messages wait for the next one.
    pub fn disconnected(&mut self) {
        self.is_connected = false;
        self.outbox.disconnected();
        self.subscriptions.disconnected(&mut self.ids);
    }

    /// A packet arrived. An error means: close the connection, keep the session.
    pub fn received(&mut self, packet: Packet, now: Instant) -> Result<(), Violation> {
        self.alive.received(now);
        match packet {
            Packet::Publish(publish) => self.take_message(publish, now),
            Packet::PubAck(ack) => {
                match self.outbox.acknowledged(ack.pkid, &mut self.ids) {
                    Some(id) => self.answers.push_back(Action::Acknowledged(id)),
                    None => log::debug!("PUBACK {} acknowledges nothing that was sent", ack.pkid),
                }
                Ok(())
            }
            Packet::SubAck(ack) => {
                self.subscriptions.suback(ack.pkid, &ack.return_codes, &mut self.ids, &mut self.answers)
            }
            Packet::UnsubAck(ack) => self.subscriptions.unsuback(ack.pkid, &mut self.ids, &mut self.answers),
            Packet::PingResp => Ok(()),
            Packet::ConnAck(_) => Err(Violation::Unexpected("a second CONNACK")),
            Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_) => {
                Err(Violation::Unexpected("an acknowledgement of QoS 2"))
            }
            _ => Err(Violation::Unexpected("a client's packet")),
        }
    }

    /// Queues a message. Errors: a bad topic, a message too large for a packet, or a full queue.
    pub fn publish(&mut self, message: Message) -> Result<MessageId, Error> {
        self.outbox.push(message)
    }

    /// Whether [`publish`](Self::publish) would take this message now.
    pub fn has_room(&self, message: &Message) -> bool {
        self.outbox.has_room(message)
    }

    /// Asks for the messages of a filter; the answer is [`Action::Subscribed`]. Asking again for a filter never lowers
    /// its quality of service. Errors: a bad filter, or too many.
    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> Result<RequestId, Error> {
        self.subscriptions.subscribe(filter.into(), qos)
    }

    /// Ends a subscription; the answer is [`Action::Unsubscribed`]. Errors as for [`subscribe`](Self::subscribe).
    pub fn unsubscribe(&mut self, filter: &str) -> Result<RequestId, Error> {
        self.subscriptions.unsubscribe(filter.into())
    }

    /// All handlers of a message have finished with it.
    pub fn finished(&mut self, receipt: Receipt, now: Instant) {
        self.inbox.finished(receipt, now);
    }

    /// The next thing to do, until `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        if let Some(answer) = self.answers.pop_front() {
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
        if self.alive.dead_at(is_reading).is_some_and(|dead| now >= dead) {
            self.disconnected();
            return Some(Action::Close(Reason::Dead));
        }
        let packet = self.next_packet(now)?;
        self.alive.sent(now);
        Some(Action::Send(packet))
    }

    /// When to call [`poll`](Self::poll) again although nothing happened.
    pub fn deadline(&self) -> Option<Instant> {
        if !self.is_connected {
            return None;
        }
        let alive = [self.alive.ping_due(self.is_reading), self.alive.dead_at(self.is_reading)];
        let others = [self.inbox.resumes().filter(|_| !self.is_reading), self.held_until];
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

    /// Filters that the broker granted.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.granted()
    }

    /// Received messages of QoS 0 that were dropped because the handlers were behind.
    pub fn dropped(&self) -> u64 {
        self.inbox.dropped()
    }

    fn take_message(&mut self, publish: Publish, now: Instant) -> Result<(), Violation> {
        let qos = match publish.qos {
            WireQoS::AtMostOnce => QoS::AtMostOnce,
            WireQoS::AtLeastOnce => QoS::AtLeastOnce,
            WireQoS::ExactlyOnce => return Err(Violation::ExactlyOnce),
        };
        // A copy: the received payload is a part of the read buffer and would keep all of that in memory.
        let payload = Bytes::copy_from_slice(&publish.payload);
        let message = Message { topic: publish.topic, payload, qos, retain: publish.retain };
        match qos {
            QoS::AtMostOnce => self.inbox.push(message, now),
            QoS::AtLeastOnce => self.inbox.push_acknowledged(message, publish.pkid, publish.dup, now)?,
        }
        Ok(())
    }

    /// What keeps the connection alive first; then acknowledgements, they free the broker; then requests and messages.
    fn next_packet(&mut self, now: Instant) -> Option<Packet> {
        if self.alive.ping_due(self.is_reading).is_some_and(|due| now >= due) {
            self.alive.pinged(now);
            return Some(Packet::PingReq);
        }
        if !self.is_writable {
            return None;
        }
        if let Some(pkid) = self.inbox.next_acknowledgement(now) {
            return Some(Packet::PubAck(PubAck { pkid }));
        }
        if let Some(packet) = self.subscriptions.next(&mut self.ids) {
            return Some(packet);
        }
        self.held_until = self.pace.held_until(now).filter(|_| self.outbox.waiting() + self.outbox.in_flight() > 0);
        if self.held_until.is_some() {
            return None;
        }
        let (packet, written) = self.outbox.next(&mut self.ids)?;
        self.pace.published(now);
        if let Some(id) = written {
            self.answers.push_back(Action::Written(id));
        }
        Some(packet)
    }

    /// Makes the next packet id the one after `last`.
    #[cfg(test)]
    pub(super) fn start_ids_after(&mut self, last: u16) {
        self.ids.start_after(last);
    }
}
