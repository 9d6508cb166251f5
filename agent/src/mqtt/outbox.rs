//! The way out: messages that wait to be sent, and those that wait for their acknowledgement.

use std::collections::VecDeque;

use super::packet::{Packet, Publish, WireQoS};
use super::packet_ids::PacketIds;
use super::session::MessageId;
use super::{Error, Message, QoS};

/// Messages in the order in which they were published. Only an acknowledgement takes one of QoS 1 out.
///
/// It lives in memory; a durable one is to stand behind the same functions.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Not sent yet.
    waiting: VecDeque<(MessageId, Message)>,
    /// Sent at least once, in that order. A connection sends them from the front, so that at any time the first `sent`
    /// of them were sent on the present connection.
    in_flight: VecDeque<InFlight>,
    sent: usize,
    bytes: usize,
    next: u64,
    limits: OutboxLimits,
}

/// Bounds of the way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutboxLimits {
    pub window: usize,
    pub queue: usize,
    pub queue_bytes: usize,
    pub max_packet: usize,
}

#[derive(Debug)]
struct InFlight {
    id: MessageId,
    packet_id: u16,
    message: Message,
    /// Sent on an earlier connection, so that the broker may have it already.
    repeated: bool,
}

impl Outbox {
    pub fn new(limits: OutboxLimits) -> Self {
        Self { waiting: VecDeque::new(), in_flight: VecDeque::new(), sent: 0, bytes: 0, next: 0, limits }
    }

    /// Whether one more message of this size may wait. A single message always may, however large.
    pub fn has_room(&self, message: &Message) -> bool {
        let fits = self.waiting.len() < self.limits.queue && self.bytes + message.size() <= self.limits.queue_bytes;
        fits || (self.waiting.is_empty() && self.in_flight.is_empty())
    }

    /// Appends a message.
    pub fn push(&mut self, message: Message) -> Result<MessageId, Error> {
        message.check(self.limits.max_packet)?;
        if !self.has_room(&message) {
            return Err(Error::QueueFull);
        }
        self.next += 1;
        let id = MessageId(self.next);
        self.bytes += message.size();
        self.waiting.push_back((id, message));
        Ok(id)
    }

    /// The next packet to send: first what an earlier connection left unacknowledged, then new messages while the window
    /// has room. A message of QoS 0 leaves the outbox here, so its id comes along.
    pub fn next(&mut self, ids: &mut PacketIds) -> Option<(Packet, Option<MessageId>)> {
        if let Some(unsent) = self.in_flight.get(self.sent) {
            self.sent += 1;
            return Some((unsent.packet(), None));
        }
        if self.in_flight.len() >= self.limits.window && self.waiting.front()?.1.qos != QoS::AtMostOnce {
            return None;
        }
        let (id, message) = self.waiting.pop_front()?;
        if message.qos == QoS::AtMostOnce {
            self.bytes -= message.size();
            return Some((packet(message, 0, false), Some(id)));
        }
        let Some(packet_id) = ids.take() else {
            self.waiting.push_front((id, message));
            return None;
        };
        let in_flight = InFlight { id, packet_id, message, repeated: false };
        let packet = in_flight.packet();
        self.in_flight.push_back(in_flight);
        self.sent += 1;
        Some((packet, None))
    }

    /// The broker has the message with this packet id: which one it was. Nothing when no such packet was sent on this
    /// connection.
    pub fn acknowledged(&mut self, packet_id: u16, ids: &mut PacketIds) -> Option<MessageId> {
        let index = self.in_flight.iter().take(self.sent).position(|sent| sent.packet_id == packet_id)?;
        let done = self.in_flight.remove(index)?;
        self.sent -= 1;
        self.bytes -= done.message.size();
        ids.free(packet_id);
        Some(done.id)
    }

    /// The connection is gone: what is in flight is to be sent again, whether or not the broker still knows us.
    pub fn disconnected(&mut self) {
        self.in_flight.iter_mut().take(self.sent).for_each(|sent| sent.repeated = true);
        self.sent = 0;
    }

    /// Messages that were not sent yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Messages that were sent and not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

impl InFlight {
    fn packet(&self) -> Packet {
        packet(self.message.clone(), self.packet_id, self.repeated)
    }
}

fn packet(message: Message, pkid: u16, dup: bool) -> Packet {
    let qos = match message.qos {
        QoS::AtMostOnce => WireQoS::AtMostOnce,
        QoS::AtLeastOnce => WireQoS::AtLeastOnce,
    };
    Packet::Publish(Publish { dup, qos, retain: message.retain, topic: message.topic, pkid, payload: message.payload })
}
