//! The session against a broker that forgets, repeats, delays and hangs up: thousands of seeded runs on a simulated clock.
//!
//! Checked: what the caller was told is acknowledged has arrived, nothing is told twice, first deliveries are in the order
//! of publishing, no packet id is used twice at a time, and subscriptions and received messages end as they must.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::packet::{Packet, PubAck, Publish, SubAck, SubscribeReasonCode, UnsubAck, WireQoS};
use super::session::{Action, Limits, MessageId, Receipt, RequestId, Session, Violation};
use super::{Message, Policy, QoS, QueueLimits};

const RUNS: usize = 1500;

/// A broker that keeps to the protocol, on a connection that does not keep.
struct Broker {
    /// What it has seen of QoS 1, in the order of arrival, repeats included.
    arrived: Vec<u32>,
    subscribed: HashSet<String>,
    has_session: bool,
    /// Packets on their way to the client, each with the time it arrives at the earliest.
    answers: VecDeque<(Instant, Packet)>,
    /// Ids that it acknowledges for no reason.
    strays: Vec<u16>,
    /// Messages for the client that are not acknowledged, by packet id.
    outgoing: BTreeMap<u16, u32>,
    to_send: VecDeque<u32>,
    next_id: u16,
}

/// A client's view of one run.
struct World {
    random: Rng,
    now: Instant,
    session: Session,
    broker: Broker,
    is_connected: bool,
    /// Packets that the client sent and the broker has not read.
    on_wire: VecDeque<Packet>,
    /// Ids used by the client on this connection and not answered.
    ids: HashSet<u16>,
    published: Vec<MessageId>,
    acknowledged: HashSet<MessageId>,
    subscriptions: HashMap<RequestId, String>,
    wanted: HashSet<String>,
    /// Messages at work in handlers.
    busy: Vec<(Receipt, u32)>,
    handled: HashSet<u32>,
    repeats: usize,
    losses: usize,
}

fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload.try_into().unwrap())
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let now = Instant::now();
        let limits = Limits {
            window: random.u16(1..20),
            queue: [QueueLimits { count: random.usize(1..50), bytes: 8 << 20, age: None, policy: Policy::Block }; 3],
            max_packet: 1000,
            keep_alive: Duration::from_secs(30),
        };
        let mut session = Session::new(limits, now);
        session.start_ids_after(if random.bool() { u16::MAX - random.u16(..60) } else { 0 });
        let broker = Broker {
            arrived: Vec::new(),
            subscribed: HashSet::new(),
            has_session: false,
            answers: VecDeque::new(),
            strays: Vec::new(),
            outgoing: BTreeMap::new(),
            to_send: VecDeque::new(),
            next_id: 0,
        };
        Self {
            random,
            now,
            session,
            broker,
            is_connected: false,
            on_wire: VecDeque::new(),
            ids: HashSet::new(),
            published: Vec::new(),
            acknowledged: HashSet::new(),
            subscriptions: HashMap::new(),
            wanted: HashSet::new(),
            busy: Vec::new(),
            handled: HashSet::new(),
            repeats: 0,
            losses: 0,
        }
    }

    /// The connection ends with whatever is on its way; perhaps the broker forgets us.
    fn cut(&mut self) {
        if self.random.bool() {
            let read = self.random.usize(..=self.on_wire.len());
            (0..read).for_each(|_| self.broker_reads());
        }
        self.is_connected = false;
        self.on_wire.clear();
        self.broker.answers.clear();
        self.session.disconnected();
        if self.random.u8(..3) == 0 {
            self.losses += 1;
            self.broker.has_session = false;
            self.broker.subscribed.clear();
            // A broker without our session has nothing for us; the sender tries again later.
            let unacknowledged = std::mem::take(&mut self.broker.outgoing);
            self.broker.to_send.extend(unacknowledged.into_values());
        }
    }

    fn connect(&mut self) {
        self.is_connected = true;
        self.ids.clear();
        let session_present = std::mem::replace(&mut self.broker.has_session, true);
        self.session.connected(session_present, self.now);
        for (&pkid, &message) in &self.broker.outgoing {
            self.broker.answers.push_back((self.now, broker_publish(message, pkid, true)));
        }
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.session.poll(self.now) {
            match action {
                Action::Send(packet) => {
                    let pkid = match &packet {
                        Packet::Publish(publish) => publish.pkid,
                        Packet::Subscribe(subscribe) => subscribe.pkid,
                        Packet::Unsubscribe(unsubscribe) => unsubscribe.pkid,
                        _ => 0,
                    };
                    if pkid != 0 {
                        assert!(self.ids.insert(pkid), "the id {pkid} is in use");
                    }
                    self.on_wire.push_back(packet);
                }
                Action::Acknowledged(id) => {
                    let index = self.published.iter().position(|published| *published == id).unwrap() as u32;
                    assert!(self.broker.arrived.contains(&index), "{index} has not arrived");
                    assert!(self.acknowledged.insert(id), "{index} was acknowledged twice");
                }
                Action::Subscribed { request: Some(request), filter, granted } => {
                    assert_eq!(self.subscriptions.remove(&request), Some(filter), "answered twice");
                    assert!(granted.is_some());
                }
                Action::Subscribed { request: None, .. } => {}
                Action::Unsubscribed(request) => assert!(self.subscriptions.remove(&request).is_some()),
                Action::Deliver(receipt, message) => {
                    self.busy.push((receipt, number(&message.payload)));
                }
                Action::Written(_) => panic!("nothing of QoS 0 was published"),
                Action::Stored(_) => panic!("nothing durable was published"),
                Action::Failed(id, why) => panic!("{id:?} failed: {why}"),
                Action::Close(_) => self.cut(),
            }
        }
    }

    /// The broker reads one packet and answers it, sooner or later.
    fn broker_reads(&mut self) {
        let Some(packet) = self.on_wire.pop_front() else { return };
        let delay = Duration::from_millis(self.random.u64(..2000));
        let answer = match packet {
            Packet::Publish(publish) => {
                let index = number(&publish.payload);
                let is_repeat = self.broker.arrived.contains(&index);
                assert!(!is_repeat || publish.dup, "{index} is repeated without DUP");
                self.repeats += usize::from(is_repeat);
                self.broker.arrived.push(index);
                Packet::PubAck(PubAck { pkid: publish.pkid })
            }
            Packet::Subscribe(subscribe) => {
                assert!(subscribe.filters.len() <= 8);
                let codes = vec![SubscribeReasonCode::Success(WireQoS::AtLeastOnce); subscribe.filters.len()];
                self.broker.subscribed.extend(subscribe.filters.into_iter().map(|filter| filter.path));
                Packet::SubAck(SubAck::new(subscribe.pkid, codes))
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.broker.subscribed.retain(|filter| !unsubscribe.topics.contains(filter));
                Packet::UnsubAck(UnsubAck { pkid: unsubscribe.pkid })
            }
            Packet::PubAck(ack) => {
                let message = self.broker.outgoing.remove(&ack.pkid).expect("acknowledged what was not sent");
                assert!(self.handled.contains(&message), "acknowledged before it was handled");
                return;
            }
            Packet::PingReq => Packet::PingResp,
            other => panic!("{other:?}"),
        };
        self.broker.answers.push_back((self.now + delay, answer));
        if self.random.u8(..20) == 0 {
            // Acknowledges something that was never sent.
            self.broker.strays.push(self.random.u16(1..));
        }
    }

    /// The client reads what has arrived; one acknowledgement may overtake another.
    fn client_reads(&mut self) {
        let count = self.broker.answers.len();
        if count > 1 && self.random.u8(..4) == 0 {
            let is_answer = |packet: &Packet| !matches!(packet, Packet::Publish(_));
            if is_answer(&self.broker.answers[0].1) && is_answer(&self.broker.answers[1].1) {
                self.broker.answers.swap(0, 1);
            }
        }
        for pkid in std::mem::take(&mut self.broker.strays) {
            if self.is_connected && !self.ids.contains(&pkid) {
                self.session.received(Packet::PubAck(PubAck { pkid }), self.now).unwrap();
            }
        }
        while let Some((at, _)) = self.broker.answers.front() {
            if *at > self.now || !self.is_connected || !self.session.wants_input(self.now) {
                return;
            }
            let (_, packet) = self.broker.answers.pop_front().unwrap();
            if let Packet::PubAck(PubAck { pkid })
            | Packet::SubAck(SubAck { pkid, .. })
            | Packet::UnsubAck(UnsubAck { pkid }) = &packet
            {
                self.ids.remove(pkid);
            }
            if let Err(violation) = self.session.received(packet, self.now) {
                assert_eq!(violation, Violation::Overrun);
                self.cut();
            }
            self.carry_out();
        }
    }

    fn publish(&mut self) {
        let index = self.published.len() as u32;
        let message = Message::new("t", index.to_be_bytes().to_vec(), QoS::AtLeastOnce);
        if let Ok(id) = self.session.publish(message, self.now) {
            self.published.push(id);
        }
    }

    fn change_subscription(&mut self) {
        let filter = format!("f/{}", self.random.u8(..30));
        let request = if self.random.u8(..3) > 0 {
            self.wanted.insert(filter.clone());
            self.session.subscribe(&filter, QoS::AtLeastOnce)
        } else {
            self.wanted.remove(&filter);
            self.session.unsubscribe(&filter)
        };
        self.subscriptions.insert(request.unwrap(), filter);
    }

    fn broker_sends(&mut self) {
        const BROKER_WINDOW: usize = 20;
        if !self.is_connected || self.broker.outgoing.len() >= BROKER_WINDOW {
            return;
        }
        if let Some(message) = self.broker.to_send.pop_front() {
            self.broker.next_id = self.broker.next_id.checked_add(1).unwrap_or(1);
            self.broker.outgoing.insert(self.broker.next_id, message);
            self.broker.answers.push_back((self.now, broker_publish(message, self.broker.next_id, false)));
        }
    }

    fn handlers_finish(&mut self) {
        if !self.busy.is_empty() {
            let (receipt, message) = self.busy.swap_remove(self.random.usize(..self.busy.len()));
            self.handled.insert(message);
            self.session.finished(receipt, self.now);
        }
    }

    fn step(&mut self, is_calm: bool) {
        self.now += Duration::from_millis(self.random.u64(..100));
        match self.random.u8(..100) {
            0..2 if !is_calm => self.cut(),
            2..4 if !is_calm => self.now += Duration::from_secs(self.random.u64(..60)),
            4..34 if !is_calm => self.publish(),
            34..38 if !is_calm => self.change_subscription(),
            38..55 => self.broker_reads(),
            55..75 => self.client_reads(),
            75..85 => self.broker_sends(),
            85..95 => self.handlers_finish(),
            _ if !self.is_connected => self.connect(),
            _ => {}
        }
        self.carry_out();
    }

    fn is_settled(&self) -> bool {
        self.is_connected
            && self.on_wire.is_empty()
            && self.broker.answers.is_empty()
            && self.acknowledged.len() == self.published.len()
            && self.subscriptions.is_empty()
            && self.broker.to_send.is_empty()
            && self.broker.outgoing.is_empty()
    }
}

fn broker_publish(message: u32, pkid: u16, dup: bool) -> Packet {
    Packet::Publish(Publish { pkid, dup, ..Publish::new("in", WireQoS::AtLeastOnce, message.to_be_bytes()) })
}

/// One run; gives the messages published, repeated by us, and the sessions lost.
fn run(seed: u64) -> (usize, usize, usize) {
    let mut world = World::new(seed);
    let incoming = world.random.u32(..100);
    world.broker.to_send.extend(0..incoming);
    for _ in 0..world.random.usize(100..1500) {
        world.step(false);
    }
    for _ in 0..20_000 {
        if world.is_settled() {
            break;
        }
        world.step(true);
    }
    assert!(world.is_settled(), "something is stuck: {:?}", world.session);
    assert_eq!((world.session.in_flight(), world.session.queued()), (0, 0));

    let mut seen = HashSet::new();
    let first: Vec<u32> = world.broker.arrived.iter().copied().filter(|index| seen.insert(*index)).collect();
    assert_eq!(first, (0..world.published.len() as u32).collect::<Vec<_>>(), "lost or out of order");

    assert_eq!(world.broker.subscribed, world.wanted);
    assert_eq!(world.handled.len(), incoming as usize);
    (world.published.len(), world.repeats, world.losses)
}

#[test]
fn no_fault_of_the_connection_or_the_broker_loses_repeats_or_reorders_an_acknowledged_message() {
    let seed = super::test_seed();
    let mut random = Rng::with_seed(seed);
    let (mut messages, mut repeats, mut losses) = (0, 0, 0);
    for run_number in 0..RUNS {
        let run_seed = if run_number == 0 { seed } else { random.u64(..) };
        println!("run {run_number}: SEED={run_seed}");
        let (m, r, l) = run(run_seed);
        (messages, repeats, losses) = (messages + m, repeats + r, losses + l);
    }
    println!("{messages} messages, {repeats} of them arrived again, {losses} sessions lost");
    assert!(messages > RUNS * 20 && repeats > RUNS && losses > RUNS, "the faults were not there");
}

#[test]
fn the_ids_wrap_around_past_65535_with_some_always_in_flight() {
    let seed = super::test_seed();
    let mut world = World::new(seed);
    world.connect();
    let mut unacknowledged = VecDeque::new();
    let mut count = 0u32;
    while count < 140_000 {
        if world.session.publish(Message::new("t", "", QoS::AtLeastOnce), world.now).is_ok() {
            count += 1;
        }
        while let Some(action) = world.session.poll(world.now) {
            if let Action::Send(Packet::Publish(publish)) = action {
                assert!(publish.pkid != 0 && !unacknowledged.contains(&publish.pkid), "SEED={seed}");
                unacknowledged.push_back(publish.pkid);
            }
        }
        // The first one is answered very late, so that the numbers come around to it.
        let late = usize::from(count % 70_000 != 0);
        if unacknowledged.len() > late && world.random.u8(..4) > 0 {
            let pkid = unacknowledged.remove(world.random.usize(late..unacknowledged.len())).unwrap();
            world.session.received(Packet::PubAck(PubAck { pkid }), world.now).unwrap();
        }
        if unacknowledged.len() == 1 && world.session.queued() > 0 {
            let pkid = unacknowledged.pop_front().unwrap();
            world.session.received(Packet::PubAck(PubAck { pkid }), world.now).unwrap();
        }
    }
}
