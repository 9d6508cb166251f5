//! Messages from the broker.

use super::*;

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
