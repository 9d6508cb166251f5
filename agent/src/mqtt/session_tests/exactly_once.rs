//! QoS 2 in both directions, and what is kept of it.

use crate::mqtt::packet::{PubComp, PubRec, PubRel};
use crate::mqtt::session::{Kept, KeptInFlight, Note, Undelivered};

use super::*;

fn pubrec(pkid: u16) -> Packet {
    Packet::PubRec(PubRec { pkid })
}

fn pubrel(pkid: u16) -> Packet {
    Packet::PubRel(PubRel { pkid })
}

fn pubcomp(pkid: u16) -> Packet {
    Packet::PubComp(PubComp { pkid })
}

/// A session that has notes written.
fn kept(kept: Kept) -> Bench {
    let mut bench = Bench::new();
    bench.session.restore(kept, bench.now);
    bench.connect(true);
    bench
}

impl Bench {
    fn send_exactly_once(&mut self) -> MessageId {
        let id = self.publish("a", QoS::ExactlyOnce);
        assert_eq!(self.sent(), owned(&[("a", 1, false)]));
        id
    }

    fn take(&mut self, pkid: u16, dup: bool) -> Vec<Action> {
        let publish = Publish { pkid, dup, ..Publish::new("t", WireQoS::ExactlyOnce, *b"in") };
        self.receive(Packet::Publish(publish)).unwrap();
        self.actions()
    }

    fn answer(&mut self, packet: Packet) -> Vec<Action> {
        self.receive(packet).unwrap();
        self.actions()
    }

    /// Has everything written that is to be.
    fn commit(&mut self) -> Vec<Note> {
        let notes = self.session.take_notes(self.now).unwrap_or_default();
        if !notes.is_empty() {
            self.session.stored(notes.clone(), Ok(()), self.now);
        }
        notes
    }
}

#[test]
fn a_message_goes_out_in_two_steps_and_is_acknowledged_after_the_second() {
    let mut bench = Bench::connected();
    let id = bench.send_exactly_once();
    assert_eq!(bench.answer(pubrec(1)), [Action::Send(pubrel(1))]);
    assert_eq!(bench.answer(pubrec(1)), [Action::Send(pubrel(1))], "the broker repeats itself");
    assert_eq!(bench.answer(pubcomp(1)), [Action::Acknowledged(id)]);
    assert_eq!(bench.answer(pubcomp(1)), []);
    assert_eq!(bench.answer(pubrec(7)), [Action::Send(pubrel(7))], "nothing else makes the broker forget it");
}

#[test]
fn after_the_pubrec_only_the_pubrel_is_repeated() {
    let mut bench = Bench::connected();
    let id = bench.send_exactly_once();
    bench.session.disconnected();
    bench.connect(true);
    assert_eq!(bench.sent(), owned(&[("a", 1, true)]));
    bench.receive(pubrec(1)).unwrap();
    for _ in 0..3 {
        bench.session.disconnected();
        bench.connect(true);
        assert_eq!(bench.actions(), [Action::Send(pubrel(1))]);
    }
    assert_eq!(bench.answer(pubcomp(1)), [Action::Acknowledged(id)]);
}

#[test]
fn a_broker_that_forgot_the_session_gets_the_message_again_from_its_beginning() {
    let mut bench = Bench::connected();
    let id = bench.send_exactly_once();
    bench.answer(pubrec(1));
    bench.session.disconnected();
    bench.connect(false);
    assert_eq!(bench.sent(), owned(&[("a", 1, true)]));
    assert_eq!(bench.answer(pubrec(1)), [Action::Send(pubrel(1))]);
    assert_eq!(bench.answer(pubcomp(1)), [Action::Acknowledged(id)]);
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_ends_the_connection() {
    let mut bench = Bench::connected();
    bench.publish("a", QoS::ExactlyOnce);
    bench.publish("b", QoS::AtLeastOnce);
    bench.actions();
    assert_eq!(bench.receive(Packet::PubAck(PubAck { pkid: 1 })), Err(Violation::WrongAck("PUBACK")));
    assert_eq!(bench.receive(pubrec(2)), Err(Violation::WrongAck("PUBREC")));
    assert_eq!(bench.answer(pubcomp(1)), [], "no PUBREL was sent");
}

#[test]
fn a_received_message_is_handed_out_once_until_its_pubrel() {
    let mut bench = Bench::connected();
    let [Action::Deliver(receipt, message)] = &bench.take(5, false)[..] else { panic!("not handed out") };
    assert_eq!(message.qos, QoS::ExactlyOnce);
    assert_eq!(bench.take(5, true), [], "repeated while the handler is at work");
    bench.session.disconnected();
    bench.connect(true);
    assert_eq!(bench.take(5, true), [], "and on another connection");
    bench.finish(*receipt);
    assert_eq!(bench.actions(), [Action::Send(pubrec(5))]);
    assert_eq!(bench.take(5, true), [Action::Send(pubrec(5))]);
    bench.session.disconnected();
    bench.connect(true);
    assert_eq!(bench.take(5, true), [Action::Send(pubrec(5))]);
    assert_eq!(bench.answer(pubrel(5)), [Action::Send(pubcomp(5))]);
    assert_eq!(bench.answer(pubrel(5)), [Action::Send(pubcomp(5))], "the broker repeats itself");
    assert!(matches!(bench.take(5, false)[..], [Action::Deliver(..)]), "a new message");
}

#[test]
fn ids_of_a_forgotten_session_bring_new_messages() {
    let mut bench = Bench::connected();
    bench.take(5, false);
    bench.finish(Receipt(1));
    bench.actions();
    bench.session.disconnected();
    bench.connect(false);
    assert!(matches!(bench.take(5, false)[..], [Action::Deliver(..)]));
}

#[test]
fn nothing_goes_out_before_the_disk_has_what_it_depends_on() {
    let mut bench = kept(Kept::default());
    let id = bench.publish("a", QoS::ExactlyOnce);
    assert_eq!(bench.actions(), [], "the message is not kept");
    assert!(matches!(bench.commit()[..], [Note::Queued { .. }, Note::Sending { packet_id: 1, .. }]));
    let actions = bench.actions();
    assert_eq!(actions[0], Action::Stored(id));
    assert!(matches!(&actions[1..], [Action::Send(Packet::Publish(p))] if p.pkid == 1));
    assert_eq!(bench.answer(pubrec(1)), [], "that it was released is not kept");
    assert_eq!(bench.commit(), [Note::Released(id)]);
    assert_eq!(bench.actions(), [Action::Send(pubrel(1))]);
    assert_eq!(bench.answer(pubcomp(1)), [Action::Acknowledged(id)]);
    assert_eq!(bench.commit(), [], "nothing waits for that, so it can wait for others");
    bench.now = bench.session.deadline().unwrap();
    assert_eq!(bench.commit(), [Note::Done(id)]);

    bench.take(9, false);
    bench.finish(Receipt(1));
    assert_eq!(bench.actions(), [], "that it was handled is not kept");
    assert_eq!(bench.commit(), [Note::Received(9)]);
    assert_eq!(bench.actions(), [Action::Send(pubrec(9))]);
    for _ in 0..2 {
        assert_eq!(bench.answer(pubrel(9)), [], "that it is over is not kept");
    }
    assert_eq!(bench.commit(), [Note::Forgotten(9)]);
    assert_eq!(bench.actions(), [Action::Send(pubcomp(9)), Action::Send(pubcomp(9))]);
}

#[test]
fn a_session_goes_on_where_the_kept_one_stopped() {
    let message = |payload: &'static str, qos| Message::new("t", payload, qos);
    let in_flight = |id, packet_id, is_released, message| KeptInFlight { id, packet_id, is_released, message };
    let mut bench = kept(Kept {
        in_flight: vec![
            in_flight(MessageId(4), 9, false, message("a", QoS::AtLeastOnce)),
            in_flight(MessageId(3), 7, true, message("b", QoS::ExactlyOnce)),
        ],
        queued: vec![(MessageId(5), Default::default(), message("c", QoS::AtLeastOnce))],
        received: vec![5],
    });
    assert!(matches!(bench.commit()[..], []));
    let actions = bench.actions();
    assert!(matches!(&actions[0], Action::Send(Packet::Publish(p)) if p.pkid == 9 && p.dup));
    assert_eq!(actions[1..], [Action::Send(pubrel(7))]);
    assert_eq!(bench.commit(), [Note::Sending { id: MessageId(5), packet_id: 10 }]);
    assert_eq!(bench.sent(), owned(&[("c", 10, false)]));
    assert_eq!(bench.take(5, true), [Action::Send(pubrec(5))], "it was handled before");
    assert_eq!(bench.publish("d", QoS::AtMostOnce), MessageId(6));
}

#[test]
fn a_message_that_cannot_be_kept_fails_and_the_rest_is_tried_again() {
    let mut bench = kept(Kept::default());
    let first = bench.publish("a", QoS::ExactlyOnce);
    bench.actions();
    bench.commit();
    bench.actions();
    bench.receive(pubrec(1)).unwrap();
    let second = bench.publish("b", QoS::ExactlyOnce);
    bench.actions();
    let notes = bench.session.take_notes(bench.now).unwrap();
    bench.session.stored(notes, Err("the disk is full".into()), bench.now);
    assert_eq!(bench.actions(), [Action::Failed(second, Undelivered::NotStored("the disk is full".into()))]);
    assert_eq!(bench.commit(), [], "not at once");
    assert_eq!(bench.session.deadline(), Some(bench.now + SECOND));
    bench.now += SECOND;
    assert_eq!(bench.commit(), [Note::Released(first)]);
    assert_eq!(bench.actions(), [Action::Send(pubrel(1))]);
    assert_eq!(bench.session.given_up().not_stored, 1);
}

#[test]
fn a_link_that_breaks_again_and_again_gets_few_messages_at_first() {
    let mut bench = Bench::connected();
    for payload in ["a", "b", "c"] {
        bench.publish(payload, QoS::AtLeastOnce);
    }
    assert_eq!(bench.sent().len(), 3);
    bench.session.disconnected();
    bench.connect(true);
    assert_eq!(bench.sent(), owned(&[("a", 1, true)]), "nothing came back on the connection before");
    assert_eq!(bench.ack(1).len(), 3, "now two may be on their way");
}

#[test]
fn a_message_for_which_the_broker_hangs_up_is_given_up_and_the_others_go_on() {
    let mut bench = Bench::connected();
    let poison = bench.publish("poison", QoS::AtLeastOnce);
    let good = bench.publish("good", QoS::AtLeastOnce);
    for connection in 0..6 {
        let sent = bench.sent();
        assert_eq!(sent[0].0, "poison");
        assert_eq!(sent.len(), if connection == 0 { 2 } else { 1 });
        bench.session.hung_up();
        bench.session.disconnected();
        bench.connect(true);
    }
    let actions = bench.actions();
    assert_eq!(actions[0], Action::Failed(poison, Undelivered::HungUp));
    assert_eq!(bench.ack(2), [Action::Acknowledged(good)]);
    assert_eq!(bench.session.given_up().hung_up, 1);
}

#[test]
fn a_dead_link_gives_no_message_up() {
    let mut bench = Bench::connected();
    let id = bench.publish("a", QoS::AtLeastOnce);
    for _ in 0..100 {
        assert_eq!(bench.sent().len(), 1);
        bench.session.disconnected();
        bench.connect(true);
    }
    bench.actions();
    assert_eq!(bench.ack(1), [Action::Acknowledged(id)]);
}
