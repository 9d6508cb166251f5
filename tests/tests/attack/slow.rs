//! Clients that send or read as slowly as they can.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use ioto_tests::eventually;

use crate::attackers::{open, rest, status};
use crate::others::{alone, are_served_during, descriptors, memory, server};

const ROUTES: &str = "{web: {
    timeouts: {inactivity: '3 secs'},
    routes: [{match: '/up/', methods: ['GET', 'PUT']}, {match: ''}],
}}";

#[test]
fn bodies_at_a_byte_a_second_are_ended_and_disturb_nobody() {
    let _alone = alone();
    for threads in [1, 2] {
        drip_at(threads);
    }
}

fn drip_at(threads: usize) {
    let mut agent = server(threads);
    agent.configure("up", ROUTES);
    agent.scratch().write("www/up/there", "");
    agent.start();
    let address = agent.address();
    are_served_during(&agent, &format!("200 bodies at 1 byte/s, threads: {threads}"), || {
        let mut slow = Vec::new();
        for number in 0..200 {
            let head = format!("PUT /up/{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n");
            slow.extend(open(1, address, head.as_bytes()));
        }
        let began = Instant::now();
        // Three seconds are granted; the slowest machine has noticed long before twelve.
        while began.elapsed() < Duration::from_secs(12) {
            let open = slow.iter_mut().filter_map(|stream| stream.write_all(b"x").ok()).count();
            if open == 0 {
                break;
            }
            thread::sleep(Duration::from_secs(1));
        }
        println!("all were ended after {:?}", began.elapsed());
        let answers: Vec<u16> = slow.iter().map(|stream| status(&rest(stream))).collect();
        assert!(answers.iter().all(|status| *status == 408), "{answers:?}");
    });
}

#[test]
fn readers_that_never_read_are_cut_and_disturb_nobody() {
    let _alone = alone();
    for threads in [1, 2] {
        leave_unread_at(threads);
    }
}

fn leave_unread_at(threads: usize) {
    let mut agent = server(threads);
    agent.configure("up", ROUTES);
    let big = agent.scratch().write("www/big.bin", "");
    std::fs::File::options().write(true).open(big).and_then(|file| file.set_len(200 << 20)).expect("a big file");
    agent.start();
    let (address, idle, before) = (agent.address(), descriptors(&agent), memory(&agent));
    are_served_during(&agent, &format!("200 readers that never read, threads: {threads}"), || {
        let lazy = open(200, address, b"GET /big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n");
        thread::sleep(Duration::from_millis(500));
        let grown = memory(&agent).saturating_sub(before);
        assert!(grown < 32 * 1024, "200 that never read take {grown} KiB");
        eventually("those that never read are cut", Duration::from_secs(15), || {
            (descriptors(&agent) <= idle + 10).then_some(())
        });
        drop(lazy);
    });
}
