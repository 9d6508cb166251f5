//! What is repeated, and what is not.

#![cfg(feature = "fetch")]
#![allow(clippy::unwrap_used)]

mod fetch_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fetch_support::Server;
use ioto::fetch::{Body, Client, Error};

/// Fails so many requests in this way and answers the others with 200; the server, and how many requests came.
fn failing(times: usize, answer: &'static str) -> (Server, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = requests.clone();
    let server = Server::new(move |peer| {
        while peer.request().is_some() {
            if counter.fetch_add(1, Ordering::SeqCst) >= times {
                peer.answer(200, "", "good");
            } else if answer.is_empty() {
                return;
            } else {
                peer.send(answer.as_bytes());
            }
        }
    });
    (server, requests)
}

const BUSY: &str = "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nbusy";

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    let (server, requests) = failing(1, BUSY);
    let start = Instant::now();
    let response = smol::block_on(Client::default().get(&server.url).retries(2).send()).unwrap();
    assert_eq!((response.status(), requests.load(Ordering::SeqCst)), (200, 2));
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.connections(), 1, "on the same connection");
}

#[test]
fn a_connection_that_breaks_is_made_anew_so_many_times() {
    let (server, requests) = failing(2, "");
    let response = smol::block_on(Client::default().get(&server.url).retries(2).send()).unwrap();
    assert_eq!((response.status(), requests.load(Ordering::SeqCst)), (200, 3));
    let (server, requests) = failing(9, "");
    let error = smol::block_on(Client::default().get(&server.url).retries(1).send()).unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(requests.load(Ordering::SeqCst), 2);
}

#[test]
fn what_may_not_be_repeated_is_not() {
    for answer in ["", BUSY] {
        let (server, requests) = failing(9, answer);
        let _ = smol::block_on(Client::default().post(&server.url).body("x").retries(3).send());
        assert_eq!(requests.load(Ordering::SeqCst), 1, "POST");
        let once = Body::reader(Some(1), smol::io::Cursor::new("x"));
        let _ = smol::block_on(Client::default().put(&server.url).body(once).retries(3).send());
        assert_eq!(requests.load(Ordering::SeqCst), 2, "a body that is read once");
        let _ = smol::block_on(Client::default().post(&server.url).body("x").repeatable(true).retries(1).send());
        assert_eq!(requests.load(Ordering::SeqCst), 4, "POST that may be");
    }
}

#[test]
fn what_does_not_pass_by_itself_is_not_repeated() {
    let (server, requests) = failing(9, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    let response = smol::block_on(Client::default().get(&server.url).retries(3).send()).unwrap();
    assert_eq!((response.status(), requests.load(Ordering::SeqCst)), (404, 1));
    let (server, requests) = failing(9, "HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n");
    let error = smol::block_on(Client::default().get(&server.url).retries(3).send()).unwrap_err();
    assert!(matches!(error, Error::Response { .. }), "{error}");
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[test]
fn nobody_waits_longer_than_there_is_time() {
    for (wait, timeout) in [("3600", None), ("20", Some(Duration::from_secs(2)))] {
        let answer = format!("HTTP/1.1 429 Slow\r\nRetry-After: {wait}\r\nContent-Length: 0\r\n\r\n");
        let server = Server::answering(answer);
        let start = Instant::now();
        let mut request = Client::default().get(&server.url).retries(3);
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        assert_eq!(smol::block_on(request.send()).unwrap().status(), 429);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}
