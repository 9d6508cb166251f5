//! The rules of the session, one by one, with a clock of their own.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use super::packet::{
    ConnAck, ConnectReturnCode, Packet, PubAck, Publish, SubAck, SubscribeReasonCode, UnsubAck, WireQoS,
};
use super::session::{Action, Limits, MessageId, Reason, Receipt, RequestId, Session, Violation};
use super::{Error, Message, QoS};

const SECOND: Duration = Duration::from_secs(1);
const LIMITS: Limits = Limits { window: 3, queue: 5, max_packet: 1000, keep_alive: Duration::from_secs(60) };

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
        self.session.publish(Message::new("t", payload, qos)).unwrap()
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

#[test]
fn the_window_bounds_what_is_in_flight_and_acknowledgements_move_it() {
    let mut bench = Bench::connected();
    let ids: Vec<_> = ["a", "b", "c", "d"].map(|p| bench.publish(p, QoS::AtLeastOnce)).into();
    assert_eq!(bench.sent(), owned(&[("a", 1, false), ("b", 2, false), ("c", 3, false)]));
    let actions = bench.ack(2);
    assert_eq!(actions[0], Action::Acknowledged(ids[1]));
    assert!(matches!(&actions[1], Action::Send(Packet::Publish(p)) if p.pkid == 4 && &p.payload[..] == b"d"));
    assert_eq!(actions.len(), 2);
    assert_eq!((bench.session.in_flight(), bench.session.queued()), (3, 0));
}

#[test]
fn nothing_goes_out_before_there_is_a_connection() {
    let mut bench = Bench::new();
    bench.publish("a", QoS::AtLeastOnce);
    bench.publish("b", QoS::AtMostOnce);
    bench.session.subscribe("f", QoS::AtMostOnce).unwrap();
    assert_eq!(bench.actions(), []);
    assert_eq!(bench.session.deadline(), None);
}

#[test]
fn unacknowledged_messages_go_out_again_in_order_with_dup_whether_or_not_the_session_was_present() {
    for session_present in [true, false] {
        let mut bench = Bench::connected();
        let ids: Vec<_> = ["a", "b", "c", "d"].map(|p| bench.publish(p, QoS::AtLeastOnce)).into();
        bench.sent();
        assert_eq!(bench.ack(1)[0], Action::Acknowledged(ids[0]));
        bench.session.disconnected();
        bench.connect(session_present);
        assert_eq!(bench.sent(), owned(&[("b", 2, true), ("c", 3, true), ("d", 4, true)]));
        for (pkid, id) in [(2, ids[1]), (3, ids[2]), (4, ids[3])] {
            assert_eq!(bench.ack(pkid), [Action::Acknowledged(id)]);
        }
    }
}

#[test]
fn messages_published_while_offline_go_out_after_the_repeated_ones() {
    let mut bench = Bench::connected();
    bench.publish("a", QoS::AtLeastOnce);
    bench.sent();
    bench.session.disconnected();
    bench.publish("b", QoS::AtLeastOnce);
    bench.publish("c", QoS::AtMostOnce);
    bench.connect(false);
    assert_eq!(bench.sent(), owned(&[("a", 1, true), ("b", 2, false), ("c", 0, false)]));
}

#[test]
fn a_puback_counts_only_for_what_was_sent_on_this_connection() {
    let mut bench = Bench::connected();
    let id = bench.publish("a", QoS::AtLeastOnce);
    bench.sent();
    assert_eq!(bench.ack(9), [], "an id that was never used");
    bench.session.disconnected();
    bench.connect(false);
    bench.receive(Packet::PubAck(PubAck { pkid: 1 })).unwrap();
    assert_eq!(bench.sent(), owned(&[("a", 1, true)]), "not sent yet, so not acknowledged");
    assert_eq!(bench.ack(1), [Action::Acknowledged(id)]);
    assert_eq!(bench.ack(1), [], "acknowledged once");
}

#[test]
fn a_message_of_qos_0_leaves_the_session_when_it_is_sent() {
    let mut bench = Bench::connected();
    let id = bench.publish("a", QoS::AtMostOnce);
    let actions = bench.actions();
    assert!(matches!(&actions[0], Action::Send(Packet::Publish(p)) if p.pkid == 0));
    assert_eq!(actions[1..], [Action::Written(id)]);
    bench.session.disconnected();
    bench.connect(true);
    assert_eq!(bench.actions(), []);
}

#[test]
fn a_full_queue_and_a_message_too_large_are_refused() {
    let mut bench = Bench::new();
    for _ in 0..LIMITS.queue {
        bench.publish("x", QoS::AtLeastOnce);
    }
    assert!(!bench.session.has_room(&Message::new("t", "x", QoS::AtLeastOnce)));
    assert!(matches!(bench.session.publish(Message::new("t", "x", QoS::AtLeastOnce)), Err(Error::QueueFull)));
    let large = Message::new("t", vec![0; 1000], QoS::AtMostOnce);
    assert!(matches!(bench.session.publish(large), Err(Error::TooLarge { size: 1010, limit: 1000 })));
    assert!(matches!(bench.session.publish(Message::new("a/#", "", QoS::AtMostOnce)), Err(Error::Topic(_))));
}

#[test]
fn the_queue_is_bounded_in_bytes_too() {
    let limits = Limits { queue: 1_000_000, max_packet: 2_000_000, ..LIMITS };
    let mut session = Session::new(limits, Instant::now());
    let message = || Message::new("t", vec![0; 1_000_000], QoS::AtLeastOnce);
    let taken = (0..100).take_while(|_| session.publish(message()).is_ok()).count();
    assert_eq!(taken, 8, "8 MiB");
}

#[test]
fn ids_are_shared_between_all_kinds_of_packets_and_never_clash() {
    let mut bench = Bench::connected();
    bench.publish("a", QoS::AtLeastOnce);
    assert_eq!(bench.sent(), owned(&[("a", 1, false)]));
    bench.session.start_ids_after(u16::MAX - 1);
    bench.session.subscribe("f", QoS::AtLeastOnce).unwrap();
    bench.session.unsubscribe("g").unwrap();
    bench.publish("b", QoS::AtLeastOnce);
    let ids: Vec<_> = bench
        .actions()
        .iter()
        .map(|action| match action {
            Action::Send(Packet::Subscribe(s)) => s.pkid,
            Action::Send(Packet::Unsubscribe(u)) => u.pkid,
            Action::Send(Packet::Publish(p)) => p.pkid,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, [u16::MAX, 2, 3], "1 is in flight, 0 is no id");
}

#[test]
fn ids_come_back_with_the_answers() {
    let mut bench = Bench::connected();
    for n in 0..70_000 {
        let filter =
            if n % 3 == 2 { bench.session.unsubscribe("f") } else { bench.session.subscribe("f", QoS::AtMostOnce) };
        filter.unwrap();
        match bench.actions().pop() {
            Some(Action::Send(Packet::Subscribe(subscribe))) => bench.suback(subscribe.pkid, &[0]).unwrap(),
            Some(Action::Send(Packet::Unsubscribe(unsubscribe))) => {
                bench.receive(Packet::UnsubAck(UnsubAck { pkid: unsubscribe.pkid })).unwrap();
            }
            other => panic!("{n}: {other:?}"),
        }
        bench.actions();
    }
}

#[test]
fn a_subscription_is_granted_or_refused() {
    let mut bench = Bench::connected();
    let a = bench.session.subscribe("a", QoS::AtLeastOnce).unwrap();
    let b = bench.session.subscribe("b/#", QoS::AtMostOnce).unwrap();
    let expected = vec![("a".into(), WireQoS::AtLeastOnce), ("b/#".into(), WireQoS::AtMostOnce)];
    assert_eq!(bench.subscribes(), [(1, expected)]);
    bench.suback(1, &[1, 0x80]).unwrap();
    let granted = Action::Subscribed { request: Some(a), filter: "a".into(), granted: Some(QoS::AtLeastOnce) };
    let refused = Action::Subscribed { request: Some(b), filter: "b/#".into(), granted: None };
    assert_eq!(bench.actions(), [granted, refused]);
    assert_eq!(bench.session.subscriptions(), 1);
    bench.session.disconnected();
    bench.connect(false);
    assert_eq!(
        bench.subscribes(),
        [(1 + 1, vec![("a".into(), WireQoS::AtLeastOnce)])],
        "the refused one is not asked for"
    );
}

fn subscribed(count: usize) -> Bench {
    let mut bench = Bench::connected();
    for n in 0..count {
        bench.session.subscribe(&format!("f/{n}"), QoS::AtLeastOnce).unwrap();
    }
    for (pkid, filters) in bench.subscribes() {
        bench.suback(pkid, &vec![1; filters.len()]).unwrap();
    }
    bench.actions();
    bench
}

#[test]
fn a_lost_session_restores_all_subscriptions_with_at_most_8_filters_a_packet() {
    let mut bench = subscribed(20);
    assert_eq!(bench.session.subscriptions(), 20);
    bench.session.disconnected();
    bench.connect(true);
    assert_eq!(bench.subscribes(), [], "a session that is present has them");
    bench.session.disconnected();
    bench.connect(false);
    let packets = bench.subscribes();
    assert_eq!(packets.iter().map(|(_, filters)| filters.len()).collect::<Vec<_>>(), [8, 8, 4]);
    let filters: Vec<_> = packets.iter().flat_map(|(_, filters)| filters).map(|(filter, _)| filter.clone()).collect();
    assert_eq!(filters, (0..20).map(|n| format!("f/{n}")).collect::<Vec<_>>());
}

#[test]
fn a_restored_subscription_is_asked_for_again_until_the_broker_answers() {
    let mut bench = subscribed(2);
    bench.session.disconnected();
    bench.connect(false);
    assert_eq!(bench.subscribes().len(), 1);
    bench.session.disconnected();
    bench.connect(true);
    let packets = bench.subscribes();
    assert_eq!(packets.len(), 1, "that session was made by the connection before, without subscriptions");
    bench.suback(packets[0].0, &[1, 1]).unwrap();
    bench.actions();
    bench.session.disconnected();
    bench.connect(true);
    assert_eq!(bench.subscribes(), []);
}

#[test]
fn requests_without_an_answer_are_asked_again_on_the_next_connection() {
    let mut bench = subscribed(1);
    let gone = bench.session.unsubscribe("f/0").unwrap();
    let wanted = bench.session.subscribe("g", QoS::AtMostOnce).unwrap();
    assert_eq!(bench.actions().len(), 2);
    bench.session.disconnected();
    bench.connect(true);
    let actions = bench.actions();
    let Action::Send(Packet::Unsubscribe(unsubscribe)) = &actions[0] else { panic!("{actions:?}") };
    let Action::Send(Packet::Subscribe(subscribe)) = &actions[1] else { panic!("{actions:?}") };
    bench.receive(Packet::UnsubAck(UnsubAck { pkid: unsubscribe.pkid })).unwrap();
    bench.suback(subscribe.pkid, &[0]).unwrap();
    let answer = Action::Subscribed { request: Some(wanted), filter: "g".into(), granted: Some(QoS::AtMostOnce) };
    assert_eq!(bench.actions(), [Action::Unsubscribed(gone), answer]);
    bench.session.disconnected();
    bench.connect(false);
    assert_eq!(bench.subscribes()[0].1, [("g".into(), WireQoS::AtMostOnce)]);
}

#[test]
fn the_last_request_for_a_filter_wins() {
    let mut bench = Bench::connected();
    bench.session.subscribe("a", QoS::AtLeastOnce).unwrap();
    bench.actions();
    bench.session.unsubscribe("a").unwrap();
    assert_eq!(bench.actions(), [], "its answer could overtake the other one");
    bench.suback(1, &[1]).unwrap();
    assert!(matches!(bench.actions()[1], Action::Send(Packet::Unsubscribe(_))));
    bench.session.disconnected();
    bench.connect(false);
    assert_eq!(bench.subscribes(), [], "unsubscribed before the answer came");
}

#[test]
fn subscribing_again_never_lowers_the_quality_of_service() {
    let mut bench = subscribed(1);
    bench.session.subscribe("f/0", QoS::AtMostOnce).unwrap();
    assert_eq!(bench.subscribes()[0].1, [("f/0".into(), WireQoS::AtLeastOnce)]);
}

#[test]
fn subscriptions_are_bounded_and_checked() {
    let mut bench = Bench::new();
    assert!(matches!(bench.session.subscribe("a#", QoS::AtMostOnce), Err(Error::Filter(_))));
    assert!(matches!(bench.session.subscribe(&"x".repeat(1000), QoS::AtMostOnce), Err(Error::TooLarge { .. })));
    let taken = (0..1000).take_while(|n| bench.session.subscribe(&n.to_string(), QoS::AtMostOnce).is_ok()).count();
    assert_eq!(taken, 256);
    let ended = (0..1000).take_while(|n| bench.session.unsubscribe(&n.to_string()).is_ok()).count();
    assert_eq!(ended, 512, "each can be ended, but not for ever");
}

#[test]
fn long_filters_share_a_packet_only_as_far_as_it_may_be_large() {
    let mut bench = Bench::connected();
    for n in 0..4 {
        bench.session.subscribe(&format!("{n}{}", "x".repeat(400)), QoS::AtMostOnce).unwrap();
    }
    let sizes: Vec<_> = bench.subscribes().iter().map(|(_, filters)| filters.len()).collect();
    assert_eq!(sizes, [2, 2]);
}

#[test]
fn a_message_is_acknowledged_when_its_handlers_are_done_in_the_order_of_arrival() {
    let mut bench = Bench::connected();
    for pkid in [7, 0, 8, 9] {
        bench.message(pkid).unwrap();
    }
    let receipts = bench.receipts();
    assert_eq!(receipts.len(), 4);
    bench.finish(receipts[2]);
    assert_eq!(bench.actions(), [], "7 is not done");
    bench.finish(receipts[0]);
    assert_eq!(bench.actions(), [puback(7), puback(8)]);
    bench.finish(receipts[1]);
    bench.finish(receipts[3]);
    bench.finish(receipts[3]);
    assert_eq!(bench.actions(), [puback(9)]);
}

#[test]
fn a_message_that_the_broker_repeats_is_handed_out_once_until_it_is_acknowledged() {
    let mut bench = Bench::connected();
    for pkid in [7, 8] {
        bench.message(pkid).unwrap();
    }
    let receipts = bench.receipts();
    bench.session.disconnected();
    bench.finish(receipts[0]);
    bench.connect(true);
    assert_eq!(bench.actions(), [], "nothing is acknowledged that was not sent on this connection");
    bench.repeat(7, "in").unwrap();
    assert_eq!(bench.actions(), [puback(7)], "finished in the meantime");
    bench.repeat(8, "in").unwrap();
    assert_eq!(bench.actions(), [], "still at work");
    bench.finish(receipts[1]);
    assert_eq!(bench.actions(), [puback(8)]);
    bench.repeat(7, "in").unwrap();
    assert_eq!(bench.receipts().len(), 1, "after its acknowledgement the id stands for a new message");
}

#[test]
fn the_same_id_with_another_content_or_without_dup_is_a_new_message() {
    for is_other_content in [true, false] {
        let mut bench = Bench::connected();
        bench.message(7).unwrap();
        bench.receipts();
        bench.session.disconnected();
        bench.connect(true);
        if is_other_content { bench.repeat(7, "other") } else { bench.message(7) }.unwrap();
        assert_eq!(bench.receipts().len(), 1);
    }
    let mut bench = Bench::connected();
    bench.message(7).unwrap();
    bench.receipts();
    bench.session.disconnected();
    bench.connect(false);
    bench.repeat(7, "in").unwrap();
    assert_eq!(bench.receipts().len(), 1, "a broker without our session repeats nothing of it");
}

#[test]
fn reading_rests_while_the_handlers_are_behind_and_pings_go_on() {
    let mut bench = Bench::connected();
    let mut count = 0;
    while bench.session.wants_input(bench.now) {
        bench.message(0).unwrap();
        count += 1;
    }
    assert_eq!(count, 128);
    let receipts = bench.receipts();
    bench.now += 5 * SECOND;
    assert!(!bench.session.wants_input(bench.now));
    bench.finish(receipts[0]);
    assert!(bench.session.wants_input(bench.now));
    bench.message(0).unwrap();
    assert_eq!(bench.receipts().len(), 1);
    for second in 0..200 {
        if second % 9 == 0 {
            bench.finish(receipts[1 + second / 9]);
            bench.message(0).unwrap();
        }
        bench.now += SECOND;
        let actions = bench.actions();
        assert!(!actions.iter().any(|a| matches!(a, Action::Close(_))), "unread answers are no dead connection");
        count += actions.iter().filter(|a| **a == Action::Send(Packet::PingReq)).count();
    }
    assert_eq!(count, 128 + 3);
    assert_eq!(bench.session.dropped(), 0);
}

#[test]
fn handlers_that_finish_nothing_cannot_stop_the_reading_for_ever() {
    let mut bench = Bench::connected();
    for _ in 0..128 {
        bench.message(0).unwrap();
    }
    bench.actions();
    let resumes = bench.session.deadline().unwrap();
    assert_eq!(resumes, bench.now + 10 * SECOND);
    bench.now = resumes;
    assert!(bench.session.wants_input(bench.now));
    bench.actions();
    assert!(bench.session.deadline().unwrap() > bench.now, "no busy loop");
    bench.message(0).unwrap();
    assert_eq!(bench.session.dropped(), 1);
    assert_eq!(bench.message(5), Err(Violation::Overrun), "the broker will send it again");
}

#[test]
fn the_bytes_of_received_messages_are_bounded() {
    let mut bench = Bench::connected();
    let mut count = 0;
    while bench.session.wants_input(bench.now) {
        let large = Publish { pkid: 1 + count, ..Publish::new("t", WireQoS::AtLeastOnce, vec![0; 128 * 1024]) };
        bench.receive(Packet::Publish(large)).unwrap();
        count += 1;
    }
    assert_eq!(count, 32);
}

#[test]
fn a_ping_follows_silence_and_a_dead_connection_is_closed_within_one_and_a_half_intervals() {
    let mut bench = Bench::connected();
    let start = bench.now;
    assert_eq!(bench.session.deadline(), Some(start + 60 * SECOND));
    bench.now = start + 60 * SECOND;
    assert_eq!(bench.actions(), [Action::Send(Packet::PingReq)]);
    bench.receive(Packet::PingResp).unwrap();
    bench.now = bench.session.deadline().unwrap();
    assert_eq!(bench.now, start + 120 * SECOND);
    assert_eq!(bench.actions(), [Action::Send(Packet::PingReq)]);
    bench.now = bench.session.deadline().unwrap();
    assert_eq!(bench.now, start + 150 * SECOND);
    let id = bench.publish("kept", QoS::AtLeastOnce);
    assert_eq!(bench.actions(), [Action::Close(Reason::Dead)]);
    bench.connect(true);
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(bench.ack(1), [Action::Acknowledged(id)]);
}

#[test]
fn while_nothing_can_be_written_only_pings_come_and_then_the_end() {
    let mut bench = Bench::connected();
    bench.publish("a", QoS::AtLeastOnce);
    bench.session.set_writable(false);
    assert_eq!(bench.actions(), []);
    bench.now += 60 * SECOND;
    assert_eq!(bench.actions(), [Action::Send(Packet::PingReq)]);
    assert!(bench.session.deadline().unwrap() > bench.now);
    bench.now += 30 * SECOND;
    assert_eq!(bench.actions(), [Action::Close(Reason::Dead)]);
}

#[test]
fn packets_that_a_broker_must_not_send_end_the_connection_but_not_the_session() {
    let mut bench = Bench::connected();
    let id = bench.publish("a", QoS::AtLeastOnce);
    bench.session.subscribe("f", QoS::AtMostOnce).unwrap();
    bench.actions();
    let second = Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, true));
    assert!(matches!(bench.receive(second), Err(Violation::Unexpected(_))));
    assert!(matches!(bench.receive(Packet::PingReq), Err(Violation::Unexpected(_))));
    let exactly_once = Publish { pkid: 3, ..Publish::new("t", WireQoS::ExactlyOnce, *b"x") };
    assert_eq!(bench.receive(Packet::Publish(exactly_once)), Err(Violation::ExactlyOnce));
    assert_eq!(bench.suback(1, &[0, 0]), Err(Violation::SubAck { filters: 1, codes: 2 }));
    assert_eq!(bench.receive(Packet::UnsubAck(UnsubAck { pkid: 1 })), Err(Violation::UnsubAck));
    assert_eq!(bench.suback(99, &[0]), Ok(()), "an answer to nothing is only logged");
    assert_eq!(bench.receive(Packet::UnsubAck(UnsubAck { pkid: 99 })), Ok(()));
    bench.session.disconnected();
    bench.connect(true);
    let sent = bench.sent();
    assert_eq!(bench.ack(sent[0].1), [Action::Acknowledged(id)]);
}

#[test]
fn request_ids_differ() {
    let mut bench = Bench::new();
    let ids: Vec<RequestId> =
        ["a", "a", "b"].map(|filter| bench.session.subscribe(filter, QoS::AtMostOnce).unwrap()).into();
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
}
