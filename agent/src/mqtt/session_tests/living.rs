//! How a connection ends.

use super::*;

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
    assert_eq!(bench.suback(1, &[0, 0]), Err(Violation::SubAck { filters: 1, codes: 2 }));
    assert_eq!(bench.receive(Packet::UnsubAck(UnsubAck { pkid: 1 })), Err(Violation::UnsubAck));
    assert_eq!(bench.suback(99, &[0]), Ok(()), "an answer to nothing is only logged");
    assert_eq!(bench.receive(Packet::UnsubAck(UnsubAck { pkid: 99 })), Ok(()));
    bench.session.disconnected();
    bench.connect(true);
    let sent = bench.sent();
    assert_eq!(bench.ack(sent[0].1), [Action::Acknowledged(id)]);
}
