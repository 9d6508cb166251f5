//! Bodies of any length in little memory. Alone in its program: it measures the whole process.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::fs;
use std::io::{Read, Write};

use web_support::{MEGABYTE, read_response, start};

/// The most memory this process ever had resident, in KiB.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_hundred_megabytes_go_both_ways_in_little_memory() {
    let (server, dir) = start(|_| ());
    let file = fs::File::create(dir.0.join("big.bin")).unwrap();
    file.set_len(100 * MEGABYTE as u64).unwrap();
    let before = peak();
    let length = 100 * MEGABYTE;

    let mut stream = server.connect();
    stream.write_all(format!("PUT /count HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n").as_bytes()).unwrap();
    let block = vec![b'x'; MEGABYTE];
    for _ in 0..100 {
        stream.write_all(&block).unwrap();
    }
    assert_eq!(read_response(&mut stream).1, format!("{length}\n").as_bytes());

    stream.write_all(b"PUT /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    for _ in 0..100 {
        stream.write_all(b"100000\r\n").unwrap();
        stream.write_all(&block).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut stream).1, format!("{length}\n").as_bytes());

    stream.write_all(b"GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let (mut received, mut buf) = (0, vec![0; MEGABYTE]);
    let mut tail = Vec::new();
    while !tail.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut buf[..1]).unwrap();
        tail.push(buf[0]);
    }
    while received < length {
        received += stream.read(&mut buf).unwrap();
    }
    assert_eq!(received, length);

    stream.write_all(b"GET /big?mb=100 HTTP/1.0\r\n\r\n").unwrap();
    let mut received = 0;
    loop {
        match stream.read(&mut buf).unwrap() {
            0 => break,
            read => received += read,
        }
    }
    assert!(received > length && received < length + 1000, "{received}");
    let grown = peak() - before;
    println!("peak grew by {grown} KiB");
    assert!(grown < 10 * 1024, "{grown} KiB");
}
