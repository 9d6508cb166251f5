//! The rules of the session, one by one, with a clock of their own.

#![allow(clippy::unwrap_used)]

mod exactly_once;
mod living;
mod receiving;
mod sending;
mod subscribing;

use std::time::{Duration, Instant};

use crate::mqtt::packet::{
    ConnAck, ConnectReturnCode, Packet, PubAck, Publish, SubAck, SubscribeReasonCode, UnsubAck, WireQoS,
};
use crate::mqtt::session::{Action, Limits, MessageId, Reason, Receipt, RequestId, Session, Violation};
use crate::mqtt::{Error, Message, Policy, QoS, QueueLimits};

const SECOND: Duration = Duration::from_secs(1);
const QUEUE: QueueLimits = QueueLimits { count: 5, bytes: 8 << 20, age: None, policy: Policy::Block };
const LIMITS: Limits = Limits { window: 3, queue: [QUEUE; 3], max_packet: 1000, keep_alive: Duration::from_secs(60) };

/// A session and its clock.
struct Bench {
    session: Session,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        Self { session: Session::new(LIMITS, now), now }
    }

    fn connected() -> Self {
        let mut bench = Self::new();
        bench.connect(false);
        bench
    }

    fn connect(&mut self, session_present: bool) {
        self.session.connected(session_present, self.now);
    }

    fn publish(&mut self, payload: &'static str, qos: QoS) -> MessageId {
        self.session.publish(Message::new("t", payload, qos), self.now).unwrap()
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.session.poll(self.now)).collect()
    }

    /// The messages that go out now: payload, packet id, DUP.
    fn sent(&mut self) -> Vec<(String, u16, bool)> {
        let publish = |action| match action {
            Action::Send(Packet::Publish(p)) => Some((String::from_utf8(p.payload.to_vec()).unwrap(), p.pkid, p.dup)),
            _ => None,
        };
        self.actions().into_iter().filter_map(publish).collect()
    }

    fn ack(&mut self, pkid: u16) -> Vec<Action> {
        self.receive(Packet::PubAck(PubAck { pkid })).unwrap();
        self.actions()
    }

    fn receive(&mut self, packet: Packet) -> Result<(), Violation> {
        self.session.received(packet, self.now)
    }

    fn message(&mut self, pkid: u16) -> Result<(), Violation> {
        let qos = if pkid == 0 { WireQoS::AtMostOnce } else { WireQoS::AtLeastOnce };
        self.receive(Packet::Publish(Publish { pkid, ..Publish::new("t", qos, *b"in") }))
    }

    fn repeat(&mut self, pkid: u16, payload: &'static str) -> Result<(), Violation> {
        self.receive(Packet::Publish(Publish {
            pkid,
            dup: true,
            ..Publish::new("t", WireQoS::AtLeastOnce, payload.as_bytes())
        }))
    }

    fn receipts(&mut self) -> Vec<Receipt> {
        self.actions().into_iter().filter_map(|a| if let Action::Deliver(r, _) = a { Some(r) } else { None }).collect()
    }

    fn finish(&mut self, receipt: Receipt) {
        self.session.finished(receipt, self.now);
    }

    fn suback(&mut self, pkid: u16, codes: &[u8]) -> Result<(), Violation> {
        let return_codes = codes.iter().map(|code| SubscribeReasonCode::try_from(*code).unwrap()).collect();
        self.receive(Packet::SubAck(SubAck { pkid, return_codes }))
    }

    /// Filters of each SUBSCRIBE that goes out now, with the packet id.
    fn subscribes(&mut self) -> Vec<(u16, Vec<(String, WireQoS)>)> {
        let subscribe = |action| match action {
            Action::Send(Packet::Subscribe(s)) => {
                Some((s.pkid, s.filters.into_iter().map(|f| (f.path, f.qos)).collect()))
            }
            _ => None,
        };
        self.actions().into_iter().filter_map(subscribe).collect()
    }
}

fn owned(sent: &[(&str, u16, bool)]) -> Vec<(String, u16, bool)> {
    sent.iter().map(|(payload, pkid, dup)| (payload.to_string(), *pkid, *dup)).collect()
}

fn puback(pkid: u16) -> Action {
    Action::Send(Packet::PubAck(PubAck { pkid }))
}
