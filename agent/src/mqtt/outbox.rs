//! The way out: messages that wait to be sent, and those in flight, which wait for their acknowledgement.
//!
//! ```text
//! QoS 0   queue ── PUBLISH ──▶ gone
//! QoS 1   queue ── PUBLISH ──▶ Publish ── PUBACK ──▶ done
//! QoS 2   queue ── PUBLISH ──▶ Publish ── PUBREC ──▶ Release (PUBREL) ── PUBCOMP ──▶ done
//! ```
//!
//! What is in flight goes out again on each connection, in the order of the first time: the PUBLISH with DUP in the
//! phase `Publish`, the PUBREL in the phase `Release`.

use std::collections::VecDeque;
use std::time::Instant;

use super::broken::{self, Defect};
use super::journal::{Journal, Kept, Mark, Note};
use super::packet::{Packet, PubRel, Publish};
use super::packet_ids::PacketIds;
use super::queue::{Dropped, Queue, QueueState};
use super::session::{Action, MessageId, Undelivered, Violation};
use super::window::Window;
use super::{Error, Message, Outgoing, Priority, QoS, QueueLimits};

/// Connections that the broker may close on a message before it is given up. Some brokers, as AWS IoT Core, say so that
/// the client may not publish to the topic; without an end to it the message would keep back all others for ever.
const HANGUPS: u8 = 5;

/// Messages on their way to the broker. Only an acknowledgement takes an assured one (QoS 1 and 2) out that was sent.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: Queue,
    /// In the order in which they were sent first. Each connection sends them from the front, so that at any time the
    /// first `sent` of them were sent on the present connection.
    in_flight: VecDeque<InFlight>,
    sent: usize,
    in_flight_bytes: usize,
    /// PUBRELs to send, in the order of their PUBRECs [MQTT-4.6.0-4].
    releases: VecDeque<(u16, Mark)>,
    window: Window,
    next: u64,
    max_packet: usize,
    dropped: Dropped,
    /// The note of the last durable message that was given up. What comes after that message must not go out before: with
    /// a kill in between, the one given up would come back and be late.
    given_up: Mark,
}

#[derive(Debug)]
struct InFlight {
    id: MessageId,
    packet_id: u16,
    /// Kept in the phase `Release` too: a broker that forgot the session gets it again.
    message: Message,
    is_durable: bool,
    reports_sent: bool,
    phase: Phase,
    /// What must be safe before the packet of this phase may go out.
    awaits: Mark,
    /// Sent on an earlier connection, so that the broker may have it already.
    is_repeated: bool,
    /// Connections that the broker closed when it got just this message.
    hangups: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Publish,
    Release,
}

impl Outbox {
    /// The limits of the queue are those of [`Priority::ALL`], in that order.
    pub fn new(window: usize, queue: [QueueLimits; 3], max_packet: usize) -> Self {
        Self {
            queue: Queue::new(queue),
            in_flight: VecDeque::new(),
            sent: 0,
            in_flight_bytes: 0,
            releases: VecDeque::new(),
            window: Window::new(window),
            next: 0,
            max_packet,
            dropped: Dropped::default(),
            given_up: 0,
        }
    }

    /// Goes on with what was kept.
    pub fn restore(&mut self, kept: Kept, ids: &mut PacketIds, now: Instant) {
        for kept in kept.in_flight {
            self.next = self.next.max(kept.id.0);
            ids.reserve(kept.packet_id);
            self.in_flight_bytes += kept.message.size();
            self.in_flight.push_back(InFlight {
                id: kept.id,
                packet_id: kept.packet_id,
                message: kept.message,
                is_durable: true,
                reports_sent: false,
                phase: if kept.is_released { Phase::Release } else { Phase::Publish },
                awaits: 0,
                is_repeated: true,
                hangups: 0,
            });
        }
        for (id, priority, message) in kept.queued {
            self.next = self.next.max(id.0);
            self.queue.restore(id, priority, message, now);
        }
    }

    /// Whether one more message may wait, or is dealt with otherwise. A single message always may wait, however large.
    pub fn has_room(&self, outgoing: &Outgoing) -> bool {
        self.queue.has_room(outgoing, self.in_flight_bytes)
    }

    /// How many messages more of each priority may wait, as far as their number alone counts.
    pub fn room(&self) -> [usize; 3] {
        self.queue.room()
    }

    /// Appends a message. The ones that it drives out of the queue are said to have failed.
    pub fn push(
        &mut self,
        mut outgoing: Outgoing,
        journal: &mut Journal,
        actions: &mut VecDeque<Action>,
        now: Instant,
    ) -> Result<MessageId, Error> {
        outgoing.message.check(self.max_packet)?;
        let qos = outgoing.message.qos;
        let is_durable = qos == QoS::ExactlyOnce || (outgoing.is_durable && qos != QoS::AtMostOnce);
        outgoing.is_durable = is_durable && journal.is_on();
        let id = MessageId(self.next + 1);
        let note = outgoing.is_durable.then(|| {
            let (priority, message) = (outgoing.priority, outgoing.message.clone());
            Note::Queued { id, priority, message }
        });
        let driven_out = self.queue.push(id, outgoing, self.in_flight_bytes, now);
        let driven_out = driven_out.inspect_err(|error| {
            self.dropped.newest += u64::from(matches!(error, Error::Dropped));
        })?;
        self.next += 1;
        for (old, why) in driven_out {
            self.give_up(old.id, old.is_durable, why, journal, actions);
        }
        if let Some(note) = note {
            journal.note(note);
        }
        Ok(id)
    }

    /// Gives up what has waited too long.
    pub fn expire(&mut self, journal: &mut Journal, actions: &mut VecDeque<Action>, now: Instant) {
        for old in self.queue.expired(now) {
            self.give_up(old.id, old.is_durable, Undelivered::Expired, journal, actions);
        }
    }

    /// Whether any message can wait too long.
    pub fn is_timed(&self) -> bool {
        self.queue.has_ages()
    }

    /// When the next message will have waited too long.
    pub fn expires(&self) -> Option<Instant> {
        self.queue.expires()
    }

    /// The next PUBREL.
    pub fn next_release(&mut self, journal: &Journal) -> Option<Packet> {
        let (packet_id, _) = *self.releases.front().filter(|(_, mark)| journal.is_safe(*mark))?;
        self.releases.pop_front();
        Some(Packet::PubRel(PubRel { pkid: packet_id }))
    }

    /// The next packet to send: first what an earlier connection left, then new messages while the window has room. The
    /// id of a message whose sending is to be reported comes along; one of QoS 0 leaves the outbox here.
    pub fn next(&mut self, ids: &mut PacketIds, journal: &mut Journal) -> Option<(Packet, Option<MessageId>)> {
        self.fill_window(ids, journal);
        if let Some(unsent) = self.in_flight.get(self.sent) {
            if self.sent >= self.window.allowed() || !journal.is_safe(unsent.awaits) {
                return None;
            }
            self.sent += 1;
            let reports_sent = unsent.reports_sent && unsent.phase == Phase::Publish;
            return Some((unsent.packet(), reports_sent.then_some(unsent.id)));
        }
        if self.queue.front()?.message.is_assured() {
            return None;
        }
        let waiting = self.queue.pop()?;
        Some((publish(waiting.message, 0, false), Some(waiting.id)))
    }

    /// Gives packet ids to waiting messages, as many as the window takes. The durable ones have to be written down before
    /// they go out, which is done for all at once.
    fn fill_window(&mut self, ids: &mut PacketIds, journal: &mut Journal) {
        while self.in_flight.len() < self.window.size() && self.queue.front().is_some_and(|w| w.message.is_assured()) {
            let Some(packet_id) = ids.take() else { return };
            let Some(waiting) = self.queue.pop() else { return ids.free(packet_id) };
            let note = Note::Sending { id: waiting.id, packet_id };
            self.in_flight_bytes += waiting.message.size();
            self.in_flight.push_back(InFlight {
                id: waiting.id,
                packet_id,
                message: waiting.message,
                is_durable: waiting.is_durable,
                reports_sent: waiting.reports_sent,
                phase: Phase::Publish,
                awaits: if waiting.is_durable { journal.note(note) } else { self.given_up },
                is_repeated: false,
                hangups: 0,
            });
        }
    }

    /// PUBACK: the broker has the message of QoS 1. Gives nothing when no such packet was sent on this connection.
    pub fn puback(
        &mut self,
        packet_id: u16,
        ids: &mut PacketIds,
        journal: &mut Journal,
    ) -> Result<Option<MessageId>, Violation> {
        let Some(place) = self.place(packet_id) else { return Ok(None) };
        if self.in_flight[place].message.qos != QoS::AtLeastOnce {
            return Err(Violation::WrongAck("PUBACK"));
        }
        Ok(self.done(place, ids, journal))
    }

    /// PUBREC: the broker has the message of QoS 2, and gets the PUBREL. It also gets one for what we do not know (any
    /// more), as nothing else makes it forget the packet id.
    pub fn pubrec(&mut self, packet_id: u16, journal: &mut Journal) -> Result<(), Violation> {
        let Some(place) = self.place(packet_id) else {
            if !self.in_flight.iter().any(|sent| sent.packet_id == packet_id) {
                self.release(packet_id, journal.latest());
            }
            return Ok(());
        };
        let sent = &mut self.in_flight[place];
        if sent.message.qos != QoS::ExactlyOnce {
            return Err(Violation::WrongAck("PUBREC"));
        }
        if sent.phase == Phase::Publish {
            sent.phase = Phase::Release;
            sent.awaits = if sent.is_durable { journal.note(Note::Released(sent.id)) } else { 0 };
            self.window.acknowledged();
        }
        let awaits = self.in_flight[place].awaits;
        self.release(packet_id, awaits);
        Ok(())
    }

    /// PUBCOMP: all is said about the message of QoS 2.
    pub fn pubcomp(&mut self, packet_id: u16, ids: &mut PacketIds, journal: &mut Journal) -> Option<MessageId> {
        let place = self.place(packet_id)?;
        let is_released = self.in_flight[place].phase == Phase::Release;
        let is_answer = is_released && !self.releases.iter().any(|(waiting, _)| *waiting == packet_id);
        if is_answer { self.done(place, ids, journal) } else { None }
    }

    /// Has a PUBREL sent, once for however many PUBRECs come before it goes.
    fn release(&mut self, packet_id: u16, awaits: Mark) {
        if !self.releases.iter().any(|(waiting, _)| *waiting == packet_id) {
            self.releases.push_back((packet_id, awaits));
        }
    }

    /// What was sent on this connection with this packet id.
    fn place(&self, packet_id: u16) -> Option<usize> {
        self.in_flight.iter().take(self.sent).position(|sent| sent.packet_id == packet_id)
    }

    fn done(&mut self, place: usize, ids: &mut PacketIds, journal: &mut Journal) -> Option<MessageId> {
        let done = self.take(place, ids)?;
        self.window.acknowledged();
        if done.is_durable {
            journal.note(Note::Done(done.id));
        }
        Some(done.id)
    }

    fn take(&mut self, place: usize, ids: &mut PacketIds) -> Option<InFlight> {
        let taken = self.in_flight.remove(place)?;
        self.sent -= usize::from(place < self.sent);
        self.in_flight_bytes -= taken.message.size();
        ids.free(taken.packet_id);
        Some(taken)
    }

    /// The broker has accepted us.
    ///
    /// One that has forgotten the session gets every message again that it did not confirm to the end, also one of QoS 2
    /// whose PUBREL was sent. That a PUBLISH must not follow the PUBREL [MQTT-4.3.3-1] protects the exchange that both
    /// sides remember; this one has ended with the session, and a PUBREL for it would be answered with PUBCOMP by a
    /// broker that has forgotten the message with the rest, and so lose it. The price: a broker that passed the message
    /// on before it forgot passes it on twice. Against one that kept its state the PUBREL is all that goes out, and the
    /// message is taken exactly once.
    ///
    /// What nobody can see: a broker that forgot the session and whose CONNACK did not reach us says at the next attempt
    /// that the session is present.
    pub fn connected(&mut self, is_session_present: bool, ids: &mut PacketIds, journal: &mut Journal) {
        if is_session_present {
            return;
        }
        for sent in self.in_flight.iter_mut().filter(|sent| sent.phase == Phase::Release) {
            sent.phase = Phase::Publish;
            sent.awaits = if sent.is_durable { journal.note(Note::Unreleased(sent.id)) } else { 0 };
        }
        while broken::has(Defect::DropOnLostSession) && self.take(0, ids).is_some() {}
    }

    /// The connection is gone: what is in flight is to be sent again.
    pub fn disconnected(&mut self) {
        self.window.disconnected(self.sent > 0);
        self.in_flight.iter_mut().take(self.sent).for_each(|sent| sent.is_repeated = true);
        self.sent = 0;
        self.releases.clear();
        if broken::has(Defect::ForgetRelease) {
            self.in_flight.iter_mut().for_each(|sent| sent.phase = Phase::Publish);
        }
        if broken::has(Defect::ResendWithoutOrder) {
            self.in_flight.make_contiguous().reverse();
        }
    }

    /// The broker closed the connection in order; to be said before [`disconnected`](Self::disconnected). When it does so again and
    /// again on the same message and nothing else, the message is given up.
    pub fn hung_up(&mut self, ids: &mut PacketIds, journal: &mut Journal, actions: &mut VecDeque<Action>) {
        let is_alone = self.sent == 1 && self.window.is_fruitless();
        let Some(first) = self.in_flight.front_mut().filter(|first| is_alone && first.phase == Phase::Publish) else {
            return;
        };
        first.hangups += 1;
        if first.hangups < HANGUPS {
            return;
        }
        if let Some(first) = self.take(0, ids) {
            self.give_up(first.id, first.is_durable, Undelivered::HungUp, journal, actions);
        }
    }

    /// The message could not be written down. It was not sent, since that waits for it.
    pub fn not_stored(&mut self, id: MessageId, why: &str, ids: &mut PacketIds, actions: &mut VecDeque<Action>) {
        let place = self.in_flight.iter().position(|unsent| unsent.id == id);
        let is_known = match place {
            Some(place) => self.take(place, ids).is_some(),
            None => self.queue.remove(id).is_some(),
        };
        if is_known {
            let why = Undelivered::NotStored(why.into());
            self.dropped.count(&why);
            actions.push_back(Action::Failed(id, why));
        }
    }

    fn give_up(
        &mut self,
        id: MessageId,
        is_durable: bool,
        why: Undelivered,
        journal: &mut Journal,
        actions: &mut VecDeque<Action>,
    ) {
        if is_durable {
            self.given_up = journal.note(Note::Done(id));
            journal.hurry();
        }
        self.dropped.count(&why);
        actions.push_back(Action::Failed(id, why));
    }

    /// Messages that were not sent yet.
    pub fn waiting(&self) -> usize {
        Priority::ALL.into_iter().map(|priority| self.queue.waiting(priority)).sum()
    }

    /// Those of one priority.
    pub fn waiting_of(&self, priority: Priority) -> usize {
        self.queue.waiting(priority)
    }

    /// Figures of the queue of one priority.
    pub fn queue_state(&self, priority: Priority, now: Instant) -> QueueState {
        self.queue.state(priority, now)
    }

    /// Messages that were sent and not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Messages that were given up.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }
}

impl InFlight {
    fn packet(&self) -> Packet {
        match self.phase {
            Phase::Publish => publish(self.message.clone(), self.packet_id, self.is_repeated),
            Phase::Release => Packet::PubRel(PubRel { pkid: self.packet_id }),
        }
    }
}

fn publish(message: Message, pkid: u16, dup: bool) -> Packet {
    let Message { topic, payload, qos, retain } = message;
    Packet::Publish(Publish { dup, qos: qos.into(), retain, topic, pkid, payload })
}
