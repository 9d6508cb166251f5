//! A broker that keeps to the protocol, and makes use of all the freedom that this leaves.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::mqtt::packet::{
    Packet, PubAck, PubComp, PubRec, PubRel, Publish, SubAck, SubscribeReasonCode, UnsubAck, WireQoS,
};

/// Messages that it sends without an acknowledgement.
const WINDOW: usize = 20;

/// How long an answer takes at most.
const DELAY: Duration = Duration::from_secs(2);

pub struct Broker {
    /// It passes a message of QoS 2 on at the PUBREL, and otherwise at the PUBLISH: both are allowed (section 4.3.3).
    pub is_late: bool,
    pub has_session: bool,
    /// What it passed on, in that order.
    pub arrived: Vec<u32>,
    /// Packet ids of QoS 2 that wait for their PUBREL.
    pub received: BTreeMap<u16, u32>,
    pub subscribed: HashSet<String>,
    /// Packets on their way to the client, each with the time it arrives at the earliest.
    pub answers: VecDeque<(Instant, Packet)>,
    /// Ids that it acknowledges for no reason.
    pub strays: Vec<u16>,
    /// Messages for the client that are not acknowledged, by packet id.
    pub outgoing: BTreeMap<u16, Outgoing>,
    pub to_send: VecDeque<(u32, WireQoS)>,
    next_id: u16,
    turns: u64,
    /// Each answer takes up to so long.
    pub delay: Duration,
    /// Until then it answers nothing.
    pub mute_until: Option<Instant>,
    pub repeats: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    pub index: u32,
    qos: WireQoS,
    is_released: bool,
    /// When it was sent first: the others go out again in this order.
    turn: u64,
}

/// The number of a message, which is at the beginning of its payload.
pub fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

impl Broker {
    pub fn new(random: &mut Rng) -> Self {
        Self {
            is_late: random.bool(),
            has_session: false,
            arrived: Vec::new(),
            received: BTreeMap::new(),
            subscribed: HashSet::new(),
            answers: VecDeque::new(),
            strays: Vec::new(),
            outgoing: BTreeMap::new(),
            to_send: VecDeque::new(),
            next_id: 0,
            turns: 0,
            delay: DELAY,
            mute_until: None,
            repeats: 0,
        }
    }

    /// The connection begins; whether it knows the client. What was not acknowledged it sends again.
    pub fn connect(&mut self, now: Instant) -> bool {
        let mut again: Vec<_> = self.outgoing.iter().collect();
        again.sort_by_key(|(_, outgoing)| outgoing.turn);
        self.answers.extend(again.into_iter().map(|(&pkid, outgoing)| (now, outgoing.packet(pkid, true))));
        std::mem::replace(&mut self.has_session, true)
    }

    /// Forgets the client. The senders of the messages that it had for it try again later; which ones these are.
    pub fn forget(&mut self) -> Vec<u32> {
        self.has_session = false;
        self.subscribed.clear();
        self.received.clear();
        let mut unacknowledged: Vec<_> = std::mem::take(&mut self.outgoing).into_values().collect();
        unacknowledged.sort_by_key(|outgoing| outgoing.turn);
        self.to_send.extend(unacknowledged.iter().map(|outgoing| (outgoing.index, outgoing.qos)));
        unacknowledged.into_iter().map(|outgoing| outgoing.index).collect()
    }

    /// Reads one packet and answers it, sooner or later. `handled` are messages that the client may acknowledge.
    pub fn read(&mut self, packet: Packet, handled: &HashMap<u32, usize>, random: &mut Rng, now: Instant) {
        let answer = match packet {
            Packet::Publish(publish) => self.take(publish),
            Packet::PubRel(PubRel { pkid }) => {
                if let Some(index) = self.received.remove(&pkid).filter(|_| self.is_late) {
                    self.arrived.push(index);
                }
                Packet::PubComp(PubComp { pkid })
            }
            Packet::PubRec(PubRec { pkid }) => {
                if let Some(outgoing) = self.outgoing.get_mut(&pkid) {
                    assert!(handled.contains_key(&outgoing.index), "PUBREC before it was handled");
                    outgoing.is_released = true;
                }
                Packet::PubRel(PubRel { pkid })
            }
            Packet::PubAck(PubAck { pkid }) => {
                let outgoing = self.outgoing.remove(&pkid).expect("acknowledged what was not sent");
                assert!(handled.contains_key(&outgoing.index), "PUBACK before it was handled");
                return;
            }
            Packet::PubComp(PubComp { pkid }) => {
                // The answer to a repeated PUBREL may come when the id is used again.
                if self.outgoing.get(&pkid).is_some_and(|outgoing| outgoing.is_released) {
                    self.outgoing.remove(&pkid);
                }
                return;
            }
            Packet::Subscribe(subscribe) => {
                assert!(subscribe.filters.len() <= 8);
                let codes = vec![SubscribeReasonCode::Success(WireQoS::AtLeastOnce); subscribe.filters.len()];
                self.subscribed.extend(subscribe.filters.into_iter().map(|filter| filter.path));
                Packet::SubAck(SubAck::new(subscribe.pkid, codes))
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.subscribed.retain(|filter| !unsubscribe.topics.contains(filter));
                Packet::UnsubAck(UnsubAck { pkid: unsubscribe.pkid })
            }
            Packet::PingReq => Packet::PingResp,
            other => panic!("{other:?}"),
        };
        let delay = self.delay.mul_f64(random.f64());
        self.answers.push_back((now + delay, answer));
        if random.u8(..20) == 0 {
            self.strays.push(random.u16(1..));
        }
    }

    fn take(&mut self, publish: Publish) -> Packet {
        let (pkid, index) = (publish.pkid, number(&publish.payload));
        if publish.qos == WireQoS::AtLeastOnce {
            let is_repeat = self.arrived.contains(&index);
            assert!(!is_repeat || publish.dup, "{index} is repeated without DUP");
            self.repeats += usize::from(is_repeat);
            self.arrived.push(index);
            return Packet::PubAck(PubAck { pkid });
        }
        match self.received.get(&pkid) {
            Some(known) => {
                assert_eq!(*known, index, "the packet id {pkid} is used for another message before its PUBREL");
                assert!(publish.dup, "{index} is repeated without DUP");
                self.repeats += 1;
            }
            None => {
                self.received.insert(pkid, index);
                if !self.is_late {
                    self.arrived.push(index);
                }
            }
        }
        Packet::PubRec(PubRec { pkid })
    }

    /// One acknowledgement may overtake another, but for those that decide the order in which it passes messages on.
    pub fn reorder(&mut self) {
        let is_free = |packet: &Packet| match packet {
            Packet::Publish(_) | Packet::PubRel(_) => false,
            Packet::PubRec(_) => !self.is_late,
            _ => true,
        };
        if self.answers.len() > 1 && is_free(&self.answers[0].1) && is_free(&self.answers[1].1) {
            self.answers.swap(0, 1);
        }
    }

    /// Sends the next message that it has for the client.
    pub fn send(&mut self, now: Instant) {
        if self.outgoing.len() >= WINDOW || self.subscribed.is_empty() {
            return;
        }
        let Some((index, qos)) = self.to_send.pop_front() else { return };
        while self.next_id == 0 || self.outgoing.contains_key(&self.next_id) {
            // Ids are few, so that they come around soon.
            self.next_id = self.next_id % 30 + 1;
        }
        self.turns += 1;
        let outgoing = Outgoing { index, qos, is_released: false, turn: self.turns };
        self.outgoing.insert(self.next_id, outgoing);
        self.answers.push_back((now, outgoing.packet(self.next_id, false)));
        self.next_id = self.next_id % 30 + 1;
    }

    /// Repeats a packet that was not acknowledged.
    pub fn repeat(&mut self, random: &mut Rng, now: Instant) {
        let many = self.outgoing.iter().filter(|(_, outgoing)| outgoing.qos == WireQoS::ExactlyOnce);
        if let Some((&pkid, outgoing)) = random.choice(many.collect::<Vec<_>>()) {
            self.answers.push_back((now, outgoing.packet(pkid, true)));
        }
    }
}

impl Outgoing {
    pub fn qos(&self) -> WireQoS {
        self.qos
    }

    fn packet(&self, pkid: u16, dup: bool) -> Packet {
        if self.is_released {
            return Packet::PubRel(PubRel { pkid });
        }
        Packet::Publish(Publish { pkid, dup, ..Publish::new("in", self.qos, self.index.to_be_bytes()) })
    }
}
