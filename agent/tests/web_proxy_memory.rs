//! Bodies of any length through a proxy in little memory. Alone in its program: it measures the whole process.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod proxy_support;
mod web_support;

use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

use proxy_support::{Program, front};
use web_support::{MEGABYTE, field, read_response};

/// The most memory this process ever had resident, in KiB.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const LENGTH: usize = 100 * MEGABYTE;

/// Counts what it gets, and sends as much, slowly at first: who sends has to wait.
fn program() -> Program {
    Program::start(|conn| {
        let mut buffer = vec![0; MEGABYTE];
        while let Some(head) = conn.head() {
            std::thread::sleep(Duration::from_millis(300));
            let mut received = 0;
            if field(&head, "transfer-encoding").is_some() {
                while let Some(chunk) = conn.chunk().filter(|chunk| !chunk.is_empty()) {
                    received += chunk.len();
                }
            } else {
                let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
                while received < length {
                    let part = (length - received).min(MEGABYTE);
                    conn.stream.read_exact(&mut buffer[..part]).unwrap();
                    received += part;
                }
            }
            if head.starts_with("GET") {
                conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
                buffer.fill(b'x');
                (0..100).for_each(|_| conn.send(&buffer));
            } else {
                let text = received.to_string();
                conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
            }
        }
    })
}

#[test]
fn a_hundred_megabytes_go_through_in_little_memory() {
    let program = program();
    let (server, _dir) = front(&program.address, |_| {});
    let block = vec![b'x'; MEGABYTE];
    let mut buffer = vec![0; MEGABYTE];
    let mut stream = server.connect();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4194304\r\n\r\n").unwrap();
    (0..4).for_each(|_| stream.write_all(&block).unwrap());
    assert_eq!(read_response(&mut stream).1, b"4194304");
    let before = peak();

    stream.write_all(format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {LENGTH}\r\n\r\n").as_bytes()).unwrap();
    (0..100).for_each(|_| stream.write_all(&block).unwrap());
    assert_eq!(read_response(&mut stream).1, LENGTH.to_string().as_bytes());

    stream.write_all(b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    for _ in 0..100 {
        stream.write_all(b"100000\r\n").unwrap();
        stream.write_all(&block).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut stream).1, LENGTH.to_string().as_bytes());

    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut buffer[..1]).unwrap();
        head.push(buffer[0]);
    }
    // A client that reads late makes the program wait, not the server gather.
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..100 {
        stream.read_exact(&mut buffer).unwrap();
        assert!(buffer.iter().all(|byte| *byte == b'x'));
    }
    let grown = peak() - before;
    println!("the peak grew by {grown} KiB");
    assert!(grown < 6 * 1024, "{grown} KiB");
}
