//! A session, a broker, what is between them, and everything that can go wrong there.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use fastrand::Rng;

use super::broker::{Broker, number};
use super::nature::{Counts, MAX_PACKET, Nature, Published, payload};
use super::store::Disk;
use crate::mqtt::outbox_file::OutboxFile;
use crate::mqtt::packet::{self, Packet, PubAck, PubComp, PubRec, SubAck, UnsubAck, WireQoS};
use crate::mqtt::session::{
    Action, Limits, MessageId, Note, Receipt, RequestId, Session, Store, Undelivered, Violation,
};
use crate::mqtt::{Message, Outgoing, Priority, QoS};

pub struct World {
    pub nature: Nature,
    pub random: Rng,
    pub now: Instant,
    pub session: Session,
    pub broker: Broker,
    disk: Disk,
    /// A real one beside it, which has to agree.
    pub file: Option<OutboxFile>,
    /// A transaction that is being written.
    writing: Option<Vec<Note>>,
    pub is_connected: bool,
    /// Bytes that the connection carries before it breaks.
    bytes_left: usize,
    /// Packets that the client sent and the broker has not read.
    pub on_wire: VecDeque<Packet>,
    /// Ids used by the client on this connection and not answered.
    ids: HashSet<u16>,
    /// Ids of PUBRELs sent on this connection; the messages may be of an earlier one.
    released: HashSet<u16>,
    pub published: Vec<Published>,
    pub subscriptions: HashMap<RequestId, String>,
    pub wanted: HashSet<String>,
    /// Messages at work in handlers.
    busy: Vec<(Receipt, u32)>,
    /// Of QoS 2, handled, and the transaction with the handler's work and the packet id is not safe.
    uncommitted: Vec<(u16, u32)>,
    pub handled: HashMap<u32, usize>,
    /// Received messages that the broker may have sent twice because it forgot the session.
    pub sent_again: HashSet<u32>,
    pub counts: Counts,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let now = Instant::now();
        let nature = Nature::draw(&mut random);
        let mut session = Session::new(nature.limits, now);
        session.start_ids_after(if random.bool() { u16::MAX - random.u16(..60) } else { 0 });
        let disk = Disk::default();
        if nature.has_disk {
            session.restore(disk.kept(), now);
        }
        let broker = Broker::new(&mut random);
        Self {
            nature,
            random,
            now,
            session,
            broker,
            disk,
            file: None,
            writing: None,
            is_connected: false,
            bytes_left: 0,
            on_wire: VecDeque::new(),
            ids: HashSet::new(),
            released: HashSet::new(),
            published: Vec::new(),
            subscriptions: HashMap::new(),
            wanted: HashSet::new(),
            busy: Vec::new(),
            uncommitted: Vec::new(),
            handled: HashMap::new(),
            sent_again: HashSet::new(),
            counts: Counts::default(),
        }
    }

    /// One thing happens. In calm times nothing new is asked, and nothing but a bad link goes wrong.
    pub fn step(&mut self, is_calm: bool) {
        self.now += Duration::from_millis(self.random.u64(..100));
        match self.random.u8(..100) {
            0..2 if !is_calm => self.cut(),
            2 if !is_calm => self.kill(),
            3 if !is_calm => self.time_passes(),
            4 if !is_calm => self.broker.repeat(&mut self.random, self.now),
            5 if !is_calm => self.send_garbage(),
            6..34 if !is_calm => self.publish(),
            34..38 if !is_calm => self.change_subscription(),
            38..55 => self.broker_reads(),
            55..75 => self.client_reads(),
            75..80 if self.is_connected => self.broker.send(self.now),
            80..88 => self.handlers_finish(),
            88..95 => self.write(is_calm),
            _ if !self.is_connected => self.connect(),
            _ => {}
        }
        self.carry_out();
        self.check_bounds();
    }

    fn check_bounds(&self) {
        let Limits { window, queue, .. } = self.nature.limits;
        for priority in Priority::ALL {
            // What was kept may have been in flight before a kill.
            let bound = queue[0].count + if self.counts.kills > 0 { usize::from(window) } else { 0 };
            assert!(self.session.queued_of(priority) <= bound, "the queue has no bound");
        }
        assert!(self.session.in_flight() <= usize::from(window), "the window has no bound");
        assert!(self.busy.len() <= 128 && self.session.notes() <= 2000, "the memory has no bound");
    }

    pub fn connect(&mut self) {
        self.is_connected = true;
        self.counts.connects += 1;
        self.bytes_left = self.nature.bytes.map_or(usize::MAX, |bytes| self.random.usize(bytes / 2..=bytes));
        self.ids.clear();
        self.released.clear();
        self.on_wire.clear();
        self.broker.answers.clear();
        let is_session_present = self.broker.connect(self.now);
        self.session.connected(is_session_present, self.now);
        if !is_session_present {
            // Killed before this is written, the agent would not know, and the broker would not say it again.
            self.write_all();
        }
    }

    /// The connection ends with whatever is on its way; perhaps the broker forgets us.
    pub fn cut(&mut self) {
        self.counts.cuts += 1;
        self.leave_wire();
        if self.nature.hangs_up && self.random.bool() {
            self.session.hung_up();
        }
        self.session.disconnected();
    }

    fn leave_wire(&mut self) {
        if self.random.bool() {
            let read = self.random.usize(..=self.on_wire.len());
            (0..read).for_each(|_| self.broker_reads());
        }
        self.is_connected = false;
        self.on_wire.clear();
        self.broker.answers.clear();
        if self.random.u8(..8) == 0 {
            self.counts.losses += 1;
            for &index in &self.broker.arrived {
                // It was passed on, and the client does not know for sure that all was said about it.
                let published = &mut self.published[index as usize];
                published.may_repeat |= !published.is_acknowledged || self.disk.has(published.id);
            }
            self.sent_again.extend(self.broker.forget());
        }
    }

    /// The agent dies at this instant, and starts again.
    fn kill(&mut self) {
        if !self.nature.has_disk {
            return;
        }
        self.counts.kills += 1;
        self.leave_wire();
        if let Some(notes) = self.writing.take().filter(|_| self.random.bool()) {
            self.commit(&notes);
        }
        for published in &mut self.published {
            published.is_uncertain |= !published.is_stored && !published.is_acknowledged;
            if published.failed.is_some() && self.disk.has(published.id) {
                // It was given up, and the disk does not know yet.
                (published.failed, published.is_uncertain) = (None, true);
            }
        }
        self.busy.clear();
        self.uncommitted.clear();
        self.subscriptions.clear();
        self.file = self.file.take().map(|file| {
            let path = file.path().to_owned();
            drop(file);
            let (file, kept) = OutboxFile::open(&path).unwrap();
            assert_eq!(kept, self.disk.kept());
            file
        });
        self.session = Session::new(self.nature.limits, self.now);
        self.session.restore(self.disk.kept(), self.now);
        let mut wanted: Vec<_> = self.wanted.iter().cloned().collect();
        wanted.sort();
        for filter in wanted {
            let request = self.session.subscribe(&filter, QoS::ExactlyOnce).unwrap();
            self.subscriptions.insert(request, filter);
        }
    }

    /// Much time passes; the broker may be silent meanwhile.
    fn time_passes(&mut self) {
        let seconds = self.random.u64(..60);
        if self.random.bool() {
            self.broker.mute_until = Some(self.now + Duration::from_secs(seconds));
        } else {
            self.now += Duration::from_secs(seconds);
        }
    }

    /// The disk takes a transaction, or begins one. It may be full.
    fn write(&mut self, is_calm: bool) {
        match self.writing.take() {
            Some(notes) if !is_calm && self.random.u8(..20) == 0 => {
                self.session.stored(notes, Err("the disk is full".into()), self.now);
            }
            Some(notes) => {
                self.commit(&notes);
                self.session.stored(notes, Ok(()), self.now);
            }
            None => self.writing = self.session.take_notes(self.now),
        }
    }

    fn write_all(&mut self) {
        self.now += Duration::from_secs(2);
        while let Some(notes) = self.writing.take().or_else(|| self.session.take_notes(self.now)) {
            self.commit(&notes);
            self.session.stored(notes, Ok(()), self.now);
        }
    }

    fn commit(&mut self, notes: &[Note]) {
        self.disk.commit(notes);
        if let Some(file) = &mut self.file {
            file.commit(notes).unwrap();
        }
        for note in notes {
            let Note::Received(packet_id) = note else { continue };
            if let Some(place) = self.uncommitted.iter().rposition(|(known, _)| known == packet_id) {
                *self.handled.entry(self.uncommitted[place].1).or_default() += 1;
                self.uncommitted.retain(|(known, _)| known != packet_id);
            }
        }
    }

    pub fn carry_out(&mut self) {
        while let Some(action) = self.session.poll(self.now) {
            match action {
                Action::Send(packet) => self.client_sends(packet),
                Action::Acknowledged(id) => {
                    let index = self.index(id);
                    let published = &mut self.published[index];
                    assert!(self.broker.arrived.contains(&(index as u32)), "{index} has not arrived");
                    assert!(!published.is_acknowledged || self.counts.kills > 0, "{index} was acknowledged twice");
                    published.is_acknowledged = true;
                }
                Action::Stored(id) => {
                    // It may have been given up meanwhile.
                    let published = self.published.iter_mut().rfind(|published| published.id == id).unwrap();
                    assert!(published.is_durable && !published.is_stored);
                    published.is_stored = true;
                }
                Action::Failed(id, why) => {
                    let index = self.index(id);
                    let has_arrived = self.broker.arrived.contains(&(index as u32));
                    assert!(!has_arrived || why == Undelivered::HungUp, "{index} has arrived, but {why}");
                    assert!(self.published[index].failed.replace(why).is_none(), "{index} failed twice");
                }
                Action::Subscribed { request: Some(request), filter, granted } => {
                    assert_eq!(self.subscriptions.remove(&request), Some(filter), "answered twice");
                    assert!(granted.is_some());
                }
                Action::Subscribed { request: None, .. } => {}
                Action::Unsubscribed(request) => assert!(self.subscriptions.remove(&request).is_some()),
                Action::Deliver(receipt, message) => self.busy.push((receipt, number(&message.payload))),
                Action::Written(_) => panic!("nothing of QoS 0 was published"),
                Action::Close(_) => self.cut(),
            }
        }
    }

    fn index(&self, id: MessageId) -> usize {
        self.published.iter().rposition(|published| published.id == id && !published.is_gone()).unwrap()
    }

    fn client_sends(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet::encode(&packet, &mut bytes).unwrap();
        if !self.is_connected {
            return;
        }
        let pkid = match &packet {
            Packet::Publish(publish) => {
                self.check_content(publish);
                publish.pkid
            }
            Packet::Subscribe(subscribe) => subscribe.pkid,
            Packet::Unsubscribe(unsubscribe) => unsubscribe.pkid,
            _ => 0,
        };
        if pkid != 0 {
            assert!(self.ids.insert(pkid), "the id {pkid} is in use");
        }
        if let Packet::PubRel(packet::PubRel { pkid }) = packet {
            self.released.insert(pkid);
        }
        if bytes.len() > self.bytes_left {
            return self.cut();
        }
        self.bytes_left -= bytes.len();
        self.on_wire.push_back(packet);
    }

    fn check_content(&self, publish: &packet::Publish) {
        let index = number(&publish.payload);
        assert_eq!(publish.payload, payload(index));
        assert_eq!(publish.topic, self.published[index as usize].lane);
        let failed = &self.published[index as usize].failed;
        assert!(failed.is_none(), "{index} is sent after all: {failed:?}");
    }

    /// The broker reads one packet.
    fn broker_reads(&mut self) {
        if self.broker.mute_until.is_some_and(|until| self.now < until) {
            return;
        }
        let Some(packet) = self.on_wire.pop_front() else { return };
        self.broker.read(packet, &self.handled, &mut self.random, self.now);
    }

    /// The client reads what has arrived.
    fn client_reads(&mut self) {
        if self.random.u8(..4) == 0 {
            self.broker.reorder();
        }
        for pkid in std::mem::take(&mut self.broker.strays) {
            if self.is_connected && !self.ids.contains(&pkid) && !self.released.contains(&pkid) {
                self.session.received(Packet::PubAck(PubAck { pkid }), self.now).unwrap();
            }
        }
        while self.is_connected && self.session.wants_input(self.now) {
            if self.broker.answers.front().is_none_or(|(at, _)| *at > self.now) {
                return;
            }
            let (_, packet) = self.broker.answers.pop_front().unwrap();
            self.receive(packet);
            self.carry_out();
        }
    }

    fn receive(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet::encode(&packet, &mut bytes).unwrap();
        if bytes.len() > self.bytes_left {
            return self.cut();
        }
        self.bytes_left -= bytes.len();
        let packet = packet::decode(&mut bytes, MAX_PACKET).unwrap().unwrap();
        match &packet {
            Packet::PubAck(PubAck { pkid })
            | Packet::PubComp(PubComp { pkid })
            | Packet::SubAck(SubAck { pkid, .. })
            | Packet::UnsubAck(UnsubAck { pkid }) => drop(self.ids.remove(pkid)),
            Packet::PubRec(PubRec { .. }) | Packet::PubRel(_) | Packet::Publish(_) | Packet::PingResp => {}
            other => panic!("{other:?}"),
        }
        if let Err(violation) = self.session.received(packet, self.now) {
            assert_eq!(violation, Violation::Overrun);
            self.cut();
        }
    }

    /// Bytes that are no packet, or one larger than allowed.
    fn send_garbage(&mut self) {
        if !self.is_connected || self.random.u8(..4) > 0 {
            return;
        }
        let garbage: [&[u8]; 4] = [&[0xf0, 0], &[0x30, 0xff, 0xff, 0x7f], &[0x36, 5], &[0x40, 2, 0, 0]];
        let bytes = self.random.choice(garbage).unwrap();
        packet::decode(&mut BytesMut::from(bytes), MAX_PACKET).unwrap_err();
        self.counts.malformed += 1;
        self.cut();
    }

    fn publish(&mut self) {
        let index = self.published.len() as u32;
        let qos = if self.random.bool() { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let priority = self.random.choice(Priority::ALL).unwrap();
        let lane = format!("t/{}/{qos:?}/{priority:?}", self.random.u8(..3));
        let message = Message::new(lane.clone(), payload(index), qos);
        let outgoing = Outgoing { message, priority, is_durable: self.random.bool(), reports_sent: false };
        let is_durable = self.nature.has_disk && (outgoing.is_durable || qos == QoS::ExactlyOnce);
        if let Ok(id) = self.session.publish(outgoing, self.now) {
            self.published.push(Published {
                id,
                lane,
                qos,
                is_durable,
                is_stored: false,
                is_acknowledged: false,
                failed: None,
                is_uncertain: false,
                may_repeat: false,
            });
        }
    }

    fn change_subscription(&mut self) {
        let filter = format!("f/{}", self.random.u8(..30));
        let request = if self.random.u8(..3) > 0 || self.nature.has_disk {
            self.wanted.insert(filter.clone());
            self.session.subscribe(&filter, QoS::ExactlyOnce)
        } else {
            self.wanted.remove(&filter);
            self.session.unsubscribe(&filter)
        };
        if let Ok(request) = request {
            self.subscriptions.insert(request, filter);
        }
    }

    /// A handler is done. Of a message of QoS 2 what it did is safe together with the packet id.
    fn handlers_finish(&mut self) {
        if self.busy.is_empty() {
            return;
        }
        let (receipt, index) = self.busy.swap_remove(self.random.usize(..self.busy.len()));
        let sent = self.broker.outgoing.iter().find(|(_, outgoing)| outgoing.index == index);
        match sent {
            Some((&pkid, outgoing)) if self.nature.has_disk && outgoing.qos() == WireQoS::ExactlyOnce => {
                self.uncommitted.push((pkid, index));
            }
            _ => *self.handled.entry(index).or_default() += 1,
        }
        self.session.finished(receipt, self.now);
    }

    pub fn is_settled(&self) -> bool {
        self.is_connected
            && self.on_wire.is_empty()
            && self.broker.answers.is_empty()
            && (self.session.in_flight(), self.session.queued()) == (0, 0)
            && self.subscriptions.is_empty()
            && self.broker.outgoing.is_empty()
            && (self.broker.to_send.is_empty() || self.broker.subscribed.is_empty())
            && self.writing.is_none()
            && self.session.is_written_down()
    }

    /// What the disk has when all is over.
    pub fn rest(&self) -> usize {
        let kept = self.disk.kept();
        kept.in_flight.len() + kept.queued.len() + kept.received.len()
    }
}
