//! Server-Sent Events over connections that end.

#![cfg(feature = "fetch")]
#![allow(clippy::unwrap_used)]

mod fetch_support;

use std::time::{Duration, Instant};

use fetch_support::{Peer, Server};
use ioto::fetch::{Client, Error, Event, EventSource, Options, Timeouts};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n";

fn events(server: &Server) -> EventSource {
    let timeouts = Timeouts { idle: Duration::from_millis(500), ..Timeouts::default() };
    Client::new(Options { timeouts, ..Options::default() }).get(&server.url).events()
}

fn next(events: &mut EventSource) -> Option<(String, String)> {
    let event: Option<Event> = smol::block_on(events.next()).unwrap();
    event.map(|event| (event.data, event.id))
}

fn pair(data: &str, id: &str) -> Option<(String, String)> {
    Some((data.into(), id.into()))
}

/// The field `Last-Event-ID` of a request.
fn last_id(peer: &mut Peer) -> String {
    let request = peer.request().unwrap();
    assert!(request.contains("Accept: text/event-stream\n"), "{request}");
    request.lines().find_map(|line| line.strip_prefix("Last-Event-ID: ")).unwrap_or_default().into()
}

#[test]
fn after_an_end_the_server_learns_where_to_go_on() {
    let server = Server::new(|peer| {
        let id = last_id(peer);
        match peer.number {
            0 => {
                assert_eq!(id, "");
                peer.send(format!("{HEAD}retry: 50\n\nid: 1\ndata: one\n\ndata: two\n\ndata: lost").as_bytes());
            }
            // A server that is starting.
            1 => peer.answer(503, "", ""),
            2 => {
                assert_eq!(id, "1");
                peer.send(format!("{HEAD}: hello\n\nid: 2\ndata: three\n\n").as_bytes());
                // Silence: it is gone, and nobody said so.
                assert_eq!(peer.head(), None);
            }
            3 => {
                assert_eq!(id, "2");
                peer.send(format!("{HEAD}id\ndata: four\n\n").as_bytes());
            }
            _ => {
                assert_eq!(id, "");
                peer.send(b"HTTP/1.1 204 No Content\r\n\r\n");
            }
        }
    });
    let mut events = events(&server);
    assert_eq!(next(&mut events), pair("one", "1"));
    assert_eq!(next(&mut events), pair("two", "1"));
    assert_eq!(next(&mut events), pair("three", "2"));
    assert_eq!(next(&mut events), pair("four", ""));
    assert_eq!(next(&mut events), None);
    assert_eq!(next(&mut events), None);
    assert_eq!(server.connections(), 5);
}

#[test]
fn another_run_goes_on_after_the_event_it_knows() {
    let server = Server::new(|peer| {
        let id = last_id(peer);
        peer.send(format!("{HEAD}data: after {id}\n\n").as_bytes());
        peer.head();
    });
    assert_eq!(next(&mut events(&server).after("41")), pair("after 41", "41"));
}

#[test]
fn what_will_not_pass_by_itself_is_told() {
    let get = |server: &Server| smol::block_on(events(server).limit(1000).next()).unwrap_err();
    assert!(matches!(get(&Server::answering("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")), Error::Status { .. }));
    let html = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n";
    assert!(matches!(get(&Server::answering(html)), Error::NoEvents { .. }));
    let bad = smol::block_on(Client::default().get("ftp://x/").events().next()).unwrap_err();
    assert!(matches!(bad, Error::Url { .. }), "{bad}");
    let endless = Server::closing([HEAD.as_bytes(), &[b'x'; 5000]].concat());
    assert!(matches!(get(&endless), Error::Event { limit: 1000, .. }));
}

#[test]
fn a_server_that_is_gone_is_not_asked_without_pause() {
    let server = Server::new(|peer| {
        last_id(peer);
        if peer.number == 0 {
            peer.send(format!("{HEAD}retry: 100\n\ndata: x\n\n").as_bytes());
        }
    });
    let mut events = events(&server);
    assert_eq!(next(&mut events), pair("x", ""));
    let start = Instant::now();
    let wait = async {
        smol::Timer::after(Duration::from_millis(1500)).await;
        Ok(None)
    };
    assert_eq!(smol::block_on(smol::future::or(events.next(), wait)).unwrap(), None);
    assert!(start.elapsed() >= Duration::from_millis(1500) && server.connections() <= 16, "{}", server.connections());
}
