//! Subscriptions.

use super::*;

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
fn after_a_connect_without_an_answer_subscriptions_are_restored_whatever_the_broker_says() {
    let mut bench = subscribed(2);
    bench.session.disconnected();
    bench.session.unanswered();
    bench.connect(true);
    let again = bench.subscribes();
    assert_eq!(again.len(), 1, "the answer that got lost may have said that the session is new");
    bench.suback(again[0].0, &[1, 1]).unwrap();
    bench.session.disconnected();
    bench.connect(true);
    assert_eq!(bench.subscribes(), [], "this time it is known");
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
fn request_ids_differ() {
    let mut bench = Bench::new();
    let ids: Vec<RequestId> =
        ["a", "a", "b"].map(|filter| bench.session.subscribe(filter, QoS::AtMostOnce).unwrap()).into();
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
}
