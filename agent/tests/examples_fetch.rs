//! The examples of the client run.

#![cfg(feature = "fetch")]
#![allow(clippy::unwrap_used)]

mod fetch_support;

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;

use fetch_support::Server;

/// Cargo builds the examples beside the tests.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let path: PathBuf = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    assert!(
        path.exists(),
        "{} is missing: run all of `cargo test -p ioto`, or `cargo build --examples`",
        path.display()
    );
    Command::new(path)
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn fetch_gets_and_posts() {
    let server = Server::mirror();
    let got = text(&example("fetch").arg(format!("{}/a?b", server.url)).output().unwrap());
    assert!(got.starts_with("GET /a?b HTTP/1.1\n"), "{got}");
    let posted = text(&example("fetch").args([&server.url, "{\"value\": 21.5}"]).output().unwrap());
    assert!(posted.starts_with("POST / ") && posted.ends_with("\n\n{\"value\": 21.5}\n"), "{posted}");
    assert_eq!(example("fetch").output().unwrap().status.code(), Some(2));
    let failed = example("fetch").arg("gopher://device").output().unwrap();
    let message = String::from_utf8_lossy(&failed.stderr);
    assert!(failed.status.code() == Some(1) && message.contains("only http:// and https://"), "{message}");
}

#[test]
fn fetch_stream_prints_as_it_arrives() {
    let (next, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = Server::new(move |peer| {
        peer.request();
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for n in 0..3 {
            peer.send(format!("7\r\nline {n}\n\r\n").as_bytes());
            // Nothing more comes before the line was seen.
            wait.lock().unwrap().recv().unwrap();
        }
        peer.send(b"0\r\n\r\n");
    });
    let mut child =
        example("fetch_stream").arg(&server.url).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for n in 0..3 {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, format!("line {n}\n"));
        next.send(()).unwrap();
    }
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    assert!(child.wait().unwrap().success());
}
