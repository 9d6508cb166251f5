//! What broker, application and disk know of each other in one run; from here it is decided what goes wrong next.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use fastrand::Rng;
use rumqttc::mqttbytes::{Error as WireError, v4};
use smol::channel::Sender;

use super::line::Then;
use super::nature::{BACKOFF, KEEP_ALIVE, Nature, TIMEOUT};
use crate::mqtt::packet::{self, Packet, PubAck, PubComp, PubRec, SubAck, UnsubAck, WireQoS};
use crate::mqtt::session::{Kept, Note};
use crate::mqtt::simulation::broker::{Broker, Outgoing, number};
use crate::mqtt::simulation::nature::{MAX_PACKET, payload};
use crate::mqtt::{Dropped, Error, QoS};

/// How much later than it must a client may see that a connection is dead, on a machine with much else to do.
const SLACK: Duration = Duration::from_secs(5);

/// What the application knows of a message that it published.
#[derive(Debug)]
pub struct Published {
    pub lane: String,
    pub qos: QoS,
    /// The disk has it, the application was told.
    pub is_stored: bool,
    pub is_acknowledged: bool,
    /// It was given up, the application was told.
    pub failed: Option<String>,
    /// Killed before it was told that the message is stored or acknowledged.
    pub is_uncertain: bool,
    /// The broker forgot the session while the message was on its way: it may arrive twice.
    pub may_repeat: bool,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub connects: u32,
    pub kills: usize,
    pub losses: usize,
    pub lost_connacks: usize,
    pub garbage: usize,
    pub silences: usize,
    pub full: usize,
    /// Messages that the client may have lost since nothing could tell it that its session was forgotten.
    pub excused: usize,
    /// All that gives the client something to do.
    pub events: u64,
}

pub struct World {
    pub nature: Nature,
    pub random: Rng,
    pub broker: Broker,
    /// Nothing goes wrong any more.
    pub is_calm: bool,
    pub published: Vec<Published>,
    /// Received messages with the number of times that their handling was committed.
    pub handled: HashMap<u32, usize>,
    /// Received messages in the order in which the handler was done with them for the first time.
    pub order: Vec<u32>,
    /// Of QoS 2, handled, and the transaction with the packet id is not safe.
    uncommitted: Vec<(u16, u32)>,
    /// Received messages that the broker sent twice because it forgot the session.
    pub sent_again: HashSet<u32>,
    /// What the disk had when this life of the agent began.
    restored: HashSet<u32>,
    /// Ids used by the client on this connection and not answered.
    ids: HashSet<u16>,
    /// When the last connection of this life of the agent began.
    begun: Option<Instant>,
    /// Connections that may come at once: those of the life before that waited to be accepted, and the first of this one.
    unhurried: u32,
    /// The client was accepted on this connection.
    is_welcome: bool,
    /// The client may not know yet that its session was forgotten.
    is_unconfirmed: bool,
    next_send: Instant,
    /// Events until the agent is killed, and where to say so.
    pub kill_in: Option<u32>,
    pub killer: Sender<()>,
    /// Messages that each life of the client counted as given up, with anybody told or not.
    pub given_up: Vec<Dropped>,
    /// Of what the broker has for the agent.
    qos_of: HashMap<u32, WireQoS>,
    pub counts: Counts,
}

impl World {
    pub fn new(nature: Nature, mut random: Rng, killer: Sender<()>) -> Self {
        let mut broker = Broker::new(&mut random);
        broker.delay = nature.delay;
        for index in 0..nature.incoming {
            let qos = if random.bool() { WireQoS::AtLeastOnce } else { WireQoS::ExactlyOnce };
            broker.to_send.push_back((index, qos));
        }
        let qos_of = broker.to_send.iter().copied().collect();
        Self {
            nature,
            random,
            broker,
            is_calm: false,
            published: Vec::new(),
            handled: HashMap::new(),
            order: Vec::new(),
            uncommitted: Vec::new(),
            sent_again: HashSet::new(),
            restored: HashSet::new(),
            ids: HashSet::new(),
            begun: None,
            unhurried: 0,
            is_welcome: false,
            is_unconfirmed: false,
            next_send: Instant::now(),
            kill_in: None,
            killer,
            given_up: Vec::new(),
            qos_of,
            counts: Counts::default(),
        }
    }

    /// Something happens; it may be the last thing before the agent is killed.
    fn tick(&mut self) {
        self.counts.events += 1;
        let Some(left) = &mut self.kill_in else { return };
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.kill_in = None;
            self.killer.try_send(()).unwrap();
        }
    }

    fn one_in(&mut self, count: u16) -> bool {
        !self.is_calm && self.random.u16(..count) == 0
    }

    /// A connection begins. How many bytes it carries in, and out.
    pub fn begin(&mut self) -> (usize, usize) {
        self.counts.connects += 1;
        self.tick();
        let gap = self.begun.replace(Instant::now()).map(|begun| begun.elapsed());
        let is_due = self.unhurried > 0 || gap.is_none_or(|gap| gap >= BACKOFF);
        assert!(is_due, "the next connection comes already after {gap:?}");
        self.unhurried = self.unhurried.saturating_sub(1);
        self.is_welcome = false;
        self.ids.clear();
        self.broker.answers.clear();
        self.broker.strays.clear();
        match self.nature.bytes.filter(|_| !self.is_calm) {
            Some(bytes) => (self.random.usize(1..bytes), self.random.usize(1..bytes)),
            None => (usize::MAX, usize::MAX),
        }
    }

    pub fn end(&mut self) {
        self.tick();
        if self.is_unconfirmed && !self.nature.is_unseen {
            self.broker.has_session = false;
        }
    }

    pub fn cuts_in_peace(&mut self) -> bool {
        self.nature.hangs_up && self.random.bool()
    }

    /// Takes the packets that came in, and gives the bytes that go out.
    pub fn step(&mut self, input: &mut BytesMut, now: Instant) -> (Vec<u8>, Then) {
        let mut output = BytesMut::new();
        loop {
            match v4::Packet::read(input, MAX_PACKET) {
                Ok(Packet::Connect(_)) => {
                    if let Some(then) = self.welcome(&mut output, now) {
                        return (output.into(), then);
                    }
                }
                Ok(packet) => self.take(packet, now),
                Err(WireError::InsufficientBytes(_)) => break,
                Err(error) => panic!("the client sends what is no packet: {error}"),
            }
        }
        if self.is_welcome && now >= self.next_send && !self.broker.to_send.is_empty() {
            self.broker.send(now);
            self.next_send = now + Duration::from_micros(self.random.u64(..4000));
        }
        if let Some(then) = self.misbehave(&mut output, now) {
            return (output.into(), then);
        }
        self.answer(&mut output, now);
        let next = self.broker.answers.front().map_or(now + Duration::from_millis(50), |(at, _)| *at);
        let send =
            if self.broker.to_send.is_empty() { next } else { self.next_send.max(now + Duration::from_millis(1)) };
        (output.into(), Then::Wait(next.min(send)))
    }

    /// Answers a CONNECT, or does not.
    fn welcome(&mut self, output: &mut BytesMut, now: Instant) -> Option<Then> {
        self.tick();
        if self.nature.is_silent && self.one_in(8) {
            self.counts.silences += 1;
            return Some(Then::Wither(TIMEOUT + SLACK));
        }
        if self.one_in(20) {
            return Some(Then::Cut);
        }
        if self.one_in(20) {
            output.extend_from_slice(&[0x20, 2, 0, 3]);
            return Some(Then::Wither(SLACK));
        }
        if self.nature.forgets && self.one_in(5) {
            self.forget();
        }
        let is_present = self.broker.connect(now);
        (self.is_welcome, self.is_unconfirmed) = (true, !is_present);
        output.extend_from_slice(&[0x20, 2, u8::from(is_present), 0]);
        if self.nature.loses_connacks && self.one_in(4) {
            self.counts.lost_connacks += 1;
            output.truncate(self.random.usize(..4));
            return Some(Then::Cut);
        }
        None
    }

    /// The broker forgets the client.
    fn forget(&mut self) {
        self.counts.losses += 1;
        for &index in &self.broker.arrived {
            // It was passed on, and the client does not know for sure that all was said about it.
            let published = &mut self.published[index as usize];
            published.may_repeat |= !published.is_acknowledged || self.restored.contains(&index);
        }
        if self.nature.is_unseen {
            self.counts.excused += self.broker.received.len();
        }
        let again = self.broker.forget();
        self.sent_again.extend(again);
    }

    fn take(&mut self, packet: Packet, now: Instant) {
        self.tick();
        self.is_unconfirmed = false;
        let pkid = match &packet {
            Packet::Publish(publish) => {
                let index = number(&publish.payload);
                assert_eq!(publish.payload, payload(index));
                assert_eq!(publish.topic, self.published[index as usize].lane);
                publish.pkid
            }
            Packet::Subscribe(subscribe) => subscribe.pkid,
            Packet::PubRec(PubRec { pkid }) => {
                self.excuse(*pkid);
                0
            }
            Packet::Disconnect => return,
            _ => 0,
        };
        assert!(pkid == 0 || self.ids.insert(pkid), "the id {pkid} is in use");
        self.broker.read(packet, &self.handled, &mut self.random, now);
    }

    /// A message of QoS 2 that is taken for one of the session before, of which the client does not know that it ended.
    fn excuse(&mut self, pkid: u16) {
        let index = self.broker.outgoing.get(&pkid).map(|outgoing| outgoing.index);
        if let Some(index) = index.filter(|index| self.nature.is_unseen && !self.handled.contains_key(index)) {
            assert!(self.counts.losses > 0, "{index} was not handled");
            self.handled.insert(index, 0);
        }
    }

    /// What a broker should not do, or need not.
    fn misbehave(&mut self, output: &mut BytesMut, now: Instant) -> Option<Then> {
        if !self.is_welcome {
            return None;
        }
        if self.one_in(8) {
            self.broker.reorder();
        }
        if self.one_in(8) {
            let mut random = self.random.fork();
            self.broker.repeat(&mut random, now);
        }
        for _ in std::mem::take(&mut self.broker.strays) {
            // The client has no such ids in these short runs.
            let pkid = self.random.u16(60_000..);
            let stray = self.random.choice([
                Packet::PubAck(PubAck { pkid }),
                Packet::PubRec(PubRec { pkid }),
                Packet::PubComp(PubComp { pkid }),
                Packet::UnsubAck(UnsubAck { pkid }),
            ]);
            self.broker.answers.extend(stray.map(|packet| (now, packet)));
        }
        if self.nature.sends_garbage && self.one_in(60) {
            let garbage: [&[u8]; 6] =
                [&[0xf0, 0], &[0x30, 0xff, 0xff, 0x7f], &[0x36, 5], &[0x40, 2, 0, 0], &[0x82, 0], &[0x20, 2, 0, 0]];
            output.extend_from_slice(self.random.choice(garbage).unwrap());
            self.counts.garbage += 1;
            return Some(Then::Wither(SLACK));
        }
        if self.nature.is_silent && self.counts.silences < 2 && self.one_in(60) {
            self.counts.silences += 1;
            return Some(Then::Wither(KEEP_ALIVE + KEEP_ALIVE / 2 + SLACK));
        }
        None
    }

    fn answer(&mut self, output: &mut BytesMut, now: Instant) {
        while self.broker.answers.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, packet)) = self.broker.answers.pop_front() else { return };
            match &packet {
                Packet::PubAck(PubAck { pkid })
                | Packet::PubComp(PubComp { pkid })
                | Packet::SubAck(SubAck { pkid, .. })
                | Packet::UnsubAck(UnsubAck { pkid }) => drop(self.ids.remove(pkid)),
                _ => {}
            }
            self.tick();
            packet::encode(&packet, output).unwrap();
        }
    }

    /// The next message that the application publishes.
    pub fn publish(&mut self, lane: String, qos: QoS) -> u32 {
        self.tick();
        self.published.push(Published {
            lane,
            qos,
            is_stored: false,
            is_acknowledged: false,
            failed: None,
            is_uncertain: false,
            may_repeat: false,
        });
        self.published.len() as u32 - 1
    }

    /// What the application was told: that the broker has the message, or else that the disk has it.
    pub fn told(&mut self, index: u32, result: Result<(), Error>, is_acknowledged: bool, is_stored: bool) {
        // Without any knowledge that the session is over, a PUBCOMP may be for nothing.
        let has_arrived = self.broker.arrived.contains(&index) || self.counts.excused > 0;
        let published = &mut self.published[index as usize];
        match result {
            Ok(()) => {
                assert!(has_arrived || !is_acknowledged, "{index} has not arrived");
                published.is_acknowledged = is_acknowledged;
                published.is_stored = is_stored;
            }
            Err(Error::Closed) => {}
            Err(error) => published.failed = Some(error.to_string()),
        }
    }

    /// How many messages may be missing although nobody was told so.
    pub fn excused(&self) -> usize {
        let all = |dropped: &Dropped| {
            let Dropped { oldest, newest, coalesced, expired, hung_up, not_stored } = *dropped;
            (oldest + newest + coalesced + expired + hung_up + not_stored) as usize
        };
        let given_up: usize = self.given_up.iter().map(all).sum();
        assert!(self.nature.gives_up() || given_up == 0, "messages were given up: {:?}", self.given_up);
        let told = self.published.iter().filter(|published| published.failed.is_some()).count();
        given_up.saturating_sub(told) + self.counts.excused
    }

    /// A handler is done with a message. What it did for one of QoS 2 is safe together with the packet id.
    pub fn finish(&mut self, index: u32) {
        self.tick();
        if !self.order.contains(&index) {
            self.order.push(index);
        }
        let sent = self.broker.outgoing.iter().find(|(_, outgoing)| outgoing.index == index);
        match sent {
            Some((&pkid, outgoing)) if self.nature.has_disk && outgoing.qos() == WireQoS::ExactlyOnce => {
                self.uncommitted.push((pkid, index));
            }
            _ => self.count_handled(index),
        }
    }

    /// The received message may be handled once only.
    pub fn is_exact(&self, index: u32) -> bool {
        self.qos_of[&index] == WireQoS::ExactlyOnce && !self.sent_again.contains(&index)
    }

    fn count_handled(&mut self, index: u32) {
        *self.handled.entry(index).or_default() += 1;
    }

    /// How long a transaction takes before and after the commit, and whether it fails.
    pub fn transaction(&mut self) -> (Duration, bool, Duration) {
        self.tick();
        if self.is_calm {
            return (Duration::ZERO, false, Duration::ZERO);
        }
        let is_full = self.nature.is_full && self.one_in(12);
        self.counts.full += usize::from(is_full);
        let mut some = || Duration::from_micros(self.random.u64(..1500));
        (some(), is_full, some())
    }

    pub fn committed(&mut self, notes: &[Note]) {
        for note in notes {
            let Note::Received(packet_id) = note else { continue };
            if let Some(place) = self.uncommitted.iter().rposition(|(known, _)| known == packet_id) {
                let (_, index) = self.uncommitted[place];
                self.count_handled(index);
                self.uncommitted.retain(|(known, _)| known != packet_id);
            }
        }
        self.tick();
    }

    /// The agent is dead. What was given up with nobody told may be lost.
    pub fn killed(&mut self) {
        self.counts.kills += 1;
        self.kill_in = None;
        self.unhurried = 3;
        self.uncommitted.clear();
        for published in &mut self.published {
            published.is_uncertain |= !published.is_stored && !published.is_acknowledged;
        }
    }

    /// The agent starts with what the disk has kept.
    pub fn starts(&mut self, kept: &Kept) {
        self.restored = kept.in_flight.iter().map(|kept| number(&kept.message.payload)).collect();
        let broker = &self.broker;
        let has_arrived = |index: &u32| broker.arrived.contains(index);
        let is_stale = kept.in_flight.iter().any(|kept| {
            kept.is_released
                && !broker.received.contains_key(&kept.packet_id)
                && !has_arrived(&number(&kept.message.payload))
        });
        let is_known = |pkid: &u16| {
            let is_handled = |outgoing: &&Outgoing| self.handled.contains_key(&outgoing.index);
            broker.outgoing.get(pkid).filter(is_handled).is_some_and(|outgoing| outgoing.qos() == WireQoS::ExactlyOnce)
        };
        if is_stale || !kept.received.iter().all(is_known) {
            // Killed before it had written down that the session was forgotten.
            assert!(self.counts.losses > 0, "the disk has what is over: {kept:?}");
            if !self.nature.is_unseen {
                self.forget();
            }
        }
    }
}
