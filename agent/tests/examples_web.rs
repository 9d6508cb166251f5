//! The examples of the web server run and do what they say.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running example; ended with its value.
struct Example(Child);

impl Example {
    /// Starts it and reads the address it prints.
    fn start(name: &str, arguments: &[&str]) -> (Self, String) {
        Self::run(Command::new(program(name)).args(arguments))
    }

    /// Starts it with so many file descriptors and no more.
    fn start_with_descriptors(name: &str, limit: u32, arguments: &[&str]) -> (Self, String) {
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        Self::run(Command::new("sh").arg("-c").arg(script).arg(program(name)).args(arguments))
    }

    fn run(command: &mut Command) -> (Self, String) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Example(child), line.trim().trim_start_matches("http://").to_owned())
    }

    /// The most memory it ever used, in KiB.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program of an example. `cargo test` builds examples beside its tests, `cargo test --test NAME` does not.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    let program = profile.join("examples").join(name);
    if !program.exists() {
        let target = profile.parent().unwrap();
        let kind = if profile.ends_with("release") { "release" } else { "dev" };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "-q", "-p", "ioto", "--example", name, "--profile", kind]).arg("--target-dir").arg(target);
        assert!(cargo.status().unwrap().success());
    }
    program
}

#[test]
fn ten_million_lines_arrive_from_a_server_that_stays_small() {
    const BODY: usize = 20_000_000;
    let (example, address) = Example::start("lines", &["http://127.0.0.1:0"]);
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut sender = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let head = format!("POST /lines HTTP/1.0\r\nContent-Length: {BODY}\r\n\r\n");
        sender.write_all(head.as_bytes()).unwrap();
        let block = vec![b'x'; 50_000];
        for _ in 0..BODY / block.len() {
            sender.write_all(&block).unwrap();
        }
    });

    let mut reader = BufReader::with_capacity(1 << 20, stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    assert_eq!(first, format!("received {BODY} bytes\n"));
    let (mut lines, mut block) = (0, vec![0; 16 * 10_000]);
    while reader.read_exact(&mut block).is_ok() {
        assert!(block.chunks_exact(16).all(|line| line.starts_with(b"line ") && line.ends_with(b"\n")));
        lines += 10_000;
    }
    sending.join().unwrap();
    assert_eq!((lines, &block[block.len() - 16..]), (10_000_000, &b"line 0010000000\n"[..]));
    let peak = example.peak();
    println!("peak {peak} KiB");
    assert!(peak < 20 * 1024, "{peak} KiB");
}

#[test]
fn a_server_out_of_file_descriptors_serves_again_when_there_are_some() {
    let (_example, address) = Example::start_with_descriptors("lines", 24, &["http://127.0.0.1:0", "3"]);
    let ask = || {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(b"GET /lines HTTP/1.0\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    };
    assert!(ask().ends_with("line 0000000003\n"));
    let crowd: Vec<_> = (0..60).map(|_| TcpStream::connect(&address).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(300));
    drop(crowd);
    assert!(ask().ends_with("line 0000000003\n"));
}
