//! What goes on longer than a request and its response, on real sockets: events, WebSockets, uploads; and forms.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::io::Read;
use std::time::{Duration, Instant};

use ioto::config::Web;
use ioto::web::{Error, Event, Exchange, Server};
use web_support::{Running, body, curl, read_to_close, settings, status};

/// A server on a free port with the actions of these tests.
fn start(change: impl FnOnce(&mut Web)) -> Running {
    let mut settings = settings(std::env::temp_dir());
    change(&mut settings);
    let server = Server::new(settings).action("/events/ticks", ticks).action("/events/quiet", quiet);
    let server = server.action("/events/waiting", waiting).action("/events/flood", flood);
    Running::start(server.listen("http://127.0.0.1:0").unwrap())
}

fn url(server: &Running, path: &str) -> String {
    format!("http://{}{path}", server.address())
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Twelve events in 1.2 s.
async fn ticks(exchange: &mut Exchange) -> Result<(), Error> {
    let mut events = exchange.events()?;
    for number in 0..12 {
        let (id, data) = (number.to_string(), format!("tick {number}\nof 12"));
        events.send(&Event { id: Some(&id), event: Some("tick"), data: &data, retry: None }).await?;
        smol::Timer::after(ms(100)).await;
    }
    events.finish().await
}

/// One event, then nothing for ever.
async fn quiet(exchange: &mut Exchange) -> Result<(), Error> {
    let mut events = exchange.events()?;
    events.send(&Event::new("hello")).await?;
    std::future::pending().await
}

/// One event, then heartbeats for ever.
async fn waiting(exchange: &mut Exchange) -> Result<(), Error> {
    let mut events = exchange.events()?;
    events.send(&Event::new("hello")).await?;
    events.wait(std::future::pending()).await
}

/// As many events as the client takes.
async fn flood(exchange: &mut Exchange) -> Result<(), Error> {
    let mut events = exchange.events()?;
    let data = "x".repeat(10_000);
    loop {
        events.send(&Event::new(&data)).await?;
    }
}

/// Reads until the text has come; what came and how long it took.
fn read_until(stream: &mut impl Read, text: &str) -> (String, Duration) {
    let (start, mut received, mut buf) = (Instant::now(), String::new(), [0; 4096]);
    while !received.contains(text) {
        let read = stream.read(&mut buf).unwrap();
        assert!(read > 0, "closed after {received:?}");
        received.push_str(&String::from_utf8_lossy(&buf[..read]));
    }
    (received, start.elapsed())
}

#[test]
fn curl_gets_every_event_of_a_stream_that_is_longer_than_a_request_may_be() {
    let server = start(|web| web.timeouts.request = ms(400));
    let text = curl(&["-N", &url(&server, "/events/ticks")]);
    let expected: String = (0..12).map(|n| format!("id: {n}\nevent: tick\ndata: tick {n}\ndata: of 12\n\n")).collect();
    assert_eq!(text, expected);
    let head = curl(&["-I", &url(&server, "/events/ticks")]);
    assert!(head.contains("Content-Type: text/event-stream\r\n"), "{head}");
    assert!(head.contains("Cache-Control: no-store\r\n"), "{head}");
}

#[test]
fn an_event_is_sent_at_once() {
    use std::io::Write;
    let server = start(|_| ());
    let mut stream = server.connect();
    stream.write_all(b"GET /events/waiting HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let (_, took) = read_until(&mut stream, "data: hello\n\n");
    assert!(took < ms(1500), "{took:?}");
}

#[test]
fn a_stream_on_which_nothing_is_sent_is_cut_and_one_with_heartbeats_is_not() {
    use std::io::Write;
    let server = start(|web| web.timeouts.inactivity = ms(600));
    let start = Instant::now();
    let text = server.talk("GET /events/quiet HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(text.contains("data: hello\n\n") && !text.ends_with("0\r\n\r\n"), "{text}");
    let took = start.elapsed();
    assert!(took >= ms(550) && took < ms(4000), "{took:?}");

    let mut stream = server.connect();
    stream.write_all(b"GET /events/waiting HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let start = Instant::now();
    while start.elapsed() < ms(1500) {
        read_until(&mut stream, ":\n\n");
    }
}

#[test]
fn events_end_with_the_server() {
    use std::io::Write;
    let server = start(|_| ());
    let mut stream = server.connect();
    stream.write_all(b"GET /events/waiting HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    read_until(&mut stream, "data: hello");
    let start = Instant::now();
    server.handle.stop();
    read_to_close(&mut stream);
    server.join();
    assert!(start.elapsed() < ms(2000), "{:?}", start.elapsed());
}

#[test]
fn a_client_that_reads_no_events_is_cut_and_others_are_served_meanwhile() {
    use std::io::Write;
    let server = start(|web| web.timeouts.inactivity = ms(700));
    let mut stream = server.connect();
    stream.write_all(b"GET /events/flood HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let other = server.talk("GET /events/none HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!((status(&other), body(&other)), (404, "404 Not Found: there is nothing here\n"));
    std::thread::sleep(ms(2000));
    // What stood in the buffers of the kernel still comes, then the end.
    let text = read_to_close(&mut stream);
    assert!(text.contains("data: xxx") && !text.ends_with("0\r\n\r\n"));
}

#[test]
fn an_old_client_gets_events_until_the_connection_closes() {
    let server = start(|_| ());
    let text = server.talk("GET /events/ticks HTTP/1.0\r\n\r\n");
    assert!(body(&text).starts_with("id: 0\nevent: tick\ndata: tick 0\ndata: of 12\n\nid: 1\n"), "{text}");
}
