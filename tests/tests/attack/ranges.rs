//! Requests for thousands of ranges of a file.

use std::io::{Read, Write};
use std::thread;

use crate::attackers::connect_from;
use crate::others::{alone, are_served_during, memory, server};

const MEGABYTE: usize = 1 << 20;

/// A header of at most 9 KB with ranges.
fn ranges(kind: usize) -> String {
    let mut text = String::from("bytes=");
    let mut number = 0;
    while text.len() < 9000 {
        match kind % 3 {
            0 => text.push_str("0-,"),
            1 => text.push_str(&format!("{}-{},", number * 2, number * 2)),
            _ => text.push_str(&format!("{number}-,-{},", number + 1)),
        }
        number += 1;
    }
    text.trim_end_matches(',').to_owned()
}

#[test]
fn range_bombs_send_no_more_than_the_file_and_disturb_nobody() {
    let _alone = alone();
    for threads in [1, 2] {
        throw_at(threads);
    }
}

fn throw_at(threads: usize) {
    let mut agent = server(threads);
    let big = agent.scratch().write("www/big.bin", "");
    std::fs::File::options().write(true).open(big).and_then(|file| file.set_len(MEGABYTE as u64)).expect("a file");
    agent.start();
    let (address, before) = (agent.address(), memory(&agent));
    are_served_during(&agent, &format!("600 range bombs, threads: {threads}"), || {
        thread::scope(|scope| {
            for attacker in 0..3 {
                scope.spawn(move || {
                    for number in 0..200 {
                        let mut stream = connect_from(attacker, address).expect("connected");
                        let range = ranges(number);
                        let request = format!(
                            "GET /big.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nRange: {range}\r\n\r\n"
                        );
                        stream.write_all(request.as_bytes()).expect("sent");
                        let (mut received, mut buf) = (0, vec![0; 65536]);
                        loop {
                            match stream.read(&mut buf).expect("an answer") {
                                0 => break,
                                read => received += read,
                            }
                        }
                        assert!(received > 0 && received < MEGABYTE + 10_000, "{received} bytes");
                    }
                });
            }
        });
    });
    let grown = memory(&agent).saturating_sub(before);
    assert!(grown < 16 * 1024, "range bombs left {grown} KiB behind");
}
