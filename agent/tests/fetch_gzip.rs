//! Compressed responses, honest and not.

#![cfg(feature = "fetch")]
#![allow(clippy::unwrap_used)]

mod fetch_support;

use std::process::Command;

use fetch_support::Server;
use ioto::fetch::{Client, Error};

const LIMIT: usize = 1 << 20;

/// What Python makes of an expression over `z`, a function that compresses.
fn python(expression: &str) -> Vec<u8> {
    let script = format!("import gzip, sys\nz = gzip.compress\nsys.stdout.buffer.write({expression})");
    let output = Command::new("python3").args(["-c", &script]).output().expect("these tests need python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn get(body: &[u8], compressed: bool, limit: usize) -> Result<Vec<u8>, Error> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
    let server = Server::answering([head.as_bytes(), body].concat());
    let request = Client::default().get(&server.url).compressed(compressed);
    smol::block_on(async { request.send().await?.bytes(limit).await })
}

#[test]
fn gzip_is_asked_for_and_undone_on_wish_alone() {
    let plain = python("b''.join(b'line %d\\n' % n for n in range(20000))");
    let body = python("z(b''.join(b'line %d\\n' % n for n in range(20000)))");
    assert_eq!(get(&body, true, LIMIT).unwrap(), plain);
    assert_eq!(get(&body, false, LIMIT).unwrap(), body);
    assert_eq!(get(&python("z(b'one, ') + z(b'two')"), true, LIMIT).unwrap(), b"one, two");
    assert_eq!(get(&python("z(b'')"), true, LIMIT).unwrap(), b"");
    let server = Server::mirror();
    let asked = |yes| {
        let request = Client::default().get(&server.url).compressed(yes);
        smol::block_on(async { request.send().await.unwrap().text(LIMIT).await }).unwrap()
    };
    assert!(asked(true).contains("Accept-Encoding: gzip\n") && !asked(false).contains("Accept-Encoding"));
}

#[test]
fn a_connection_is_kept_after_a_compressed_body() {
    let body = python("z(b'x' * 5000)");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
    let server = Server::answering([head.as_bytes(), &body].concat());
    let client = Client::default();
    for _ in 0..3 {
        let response = smol::block_on(client.get(&server.url).compressed(true).send()).unwrap();
        assert_eq!(smol::block_on(response.bytes(LIMIT)).unwrap().len(), 5000);
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn what_is_damaged_or_cut_is_an_error_that_names_the_host() {
    let whole = python("z(bytes(range(256)) * 40)");
    for end in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        let error = get(&whole[..end], true, LIMIT);
        // Nothing at all is an empty body, which has no coding.
        assert!(end == 0 || matches!(error, Err(Error::Encoding { .. })), "cut at {end}: {error:?}");
    }
    for (place, what) in [(0, "not"), (whole.len() - 1, "checksum"), (whole.len() - 5, "checksum")] {
        let mut bad = whole.clone();
        bad[place] ^= 0x55;
        let text = get(&bad, true, LIMIT).unwrap_err().to_string();
        assert!(text.contains(what) && text.contains("127.0.0.1"), "{text}");
    }
    let rubbish = [&whole[..], b"and more"].concat();
    assert!(matches!(get(&rubbish, true, LIMIT), Err(Error::Encoding { .. })));
}

#[test]
fn a_bomb_ends_at_the_limit() {
    let bomb = python("z(b'\\0' * 50000000)");
    assert!(bomb.len() < 100_000);
    assert!(matches!(get(&bomb, true, LIMIT), Err(Error::TooLarge { limit: LIMIT })));
}
