//! Messages on their way to the broker.

use super::*;

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
        assert_eq!(bench.sent(), owned(&[("b", 2, true)]), "as many as were acknowledged before");
        bench.receive(Packet::PubAck(PubAck { pkid: 2 })).unwrap();
        assert_eq!(bench.sent(), owned(&[("c", 3, true), ("d", 4, true)]));
        for (pkid, id) in [(3, ids[2]), (4, ids[3])] {
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
    assert_eq!(bench.sent(), owned(&[("a", 1, true)]), "one at first, as nothing was acknowledged before");
    bench.receive(Packet::PubAck(PubAck { pkid: 1 })).unwrap();
    assert_eq!(bench.sent(), owned(&[("b", 2, false), ("c", 0, false)]));
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
    for _ in 0..QUEUE.count {
        bench.publish("x", QoS::AtLeastOnce);
    }
    assert!(!bench.session.has_room(&Message::new("t", "x", QoS::AtLeastOnce).into()));
    assert!(matches!(
        bench.session.publish(Message::new("t", "x", QoS::AtLeastOnce), bench.now),
        Err(Error::QueueFull)
    ));
    let large = Message::new("t", vec![0; 1000], QoS::AtMostOnce);
    assert!(matches!(bench.session.publish(large, bench.now), Err(Error::TooLarge { size: 1010, limit: 1000 })));
    assert!(matches!(bench.session.publish(Message::new("a/#", "", QoS::AtMostOnce), bench.now), Err(Error::Topic(_))));
}

#[test]
fn the_queue_is_bounded_in_bytes_too() {
    let limits = Limits { queue: [QueueLimits { count: 1_000_000, ..QUEUE }; 3], max_packet: 2_000_000, ..LIMITS };
    let mut session = Session::new(limits, Instant::now());
    let message = || Message::new("t", vec![0; 1_000_000], QoS::AtLeastOnce);
    let taken = (0..100).take_while(|_| session.publish(message(), Instant::now()).is_ok()).count();
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
