//! What goes on longer than a request and its response, on real sockets: events and WebSockets.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ioto::config::Web;
use ioto::net::tls_server;
use ioto::web::{Error, Event, Exchange, Message, Server, own_certificate};
use web_support::{Dir, Running, body, curl, read_to_close, settings, status};

/// A server on a free port with the actions of these tests.
fn start(change: impl FnOnce(&mut Web)) -> Running {
    let mut settings = settings(std::env::temp_dir());
    change(&mut settings);
    Running::start(server(settings).listen("http://127.0.0.1:0").unwrap())
}

fn server(settings: Web) -> Server {
    let server = Server::new(settings).action("/events/ticks", ticks).action("/events/quiet", quiet);
    let server = server.action("/events/waiting", waiting).action("/events/flood", flood);
    server.action("/ws/echo", echo).action("/ws/push", push).action("/ws/end", end).action("/ws/slow", slow)
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

/// An action that sends as much as the client takes: when it last could, and whether it has ended.
struct Flood(Mutex<(Option<Instant>, bool)>);

static EVENTS: Flood = Flood(Mutex::new((None, false)));
static FRAMES: Flood = Flood(Mutex::new((None, false)));

impl Flood {
    fn until_dropped(&'static self) -> impl Drop {
        struct End(&'static Flood);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.0.lock().unwrap().1 = true;
            }
        }
        End(self)
    }

    fn went_on(&self) {
        self.0.lock().unwrap().0 = Some(Instant::now());
    }

    /// The end comes soon after nothing moves any more. How long the machine takes to fill the kernel's buffers before that,
    /// which are of megabytes, is nobody's promise.
    fn wait_for_its_end(&self) {
        let start = Instant::now();
        loop {
            let (last, is_over) = *self.0.lock().unwrap();
            if is_over {
                return;
            }
            assert!(last.unwrap_or(start).elapsed() < ms(2000), "it goes on");
            assert!(start.elapsed() < ms(60_000), "the client takes more and more");
            std::thread::sleep(ms(20));
        }
    }
}

/// As many events as the client takes.
async fn flood(exchange: &mut Exchange) -> Result<(), Error> {
    let _end = EVENTS.until_dropped();
    let mut events = exchange.events()?;
    let data = "x".repeat(10_000);
    loop {
        events.send(&Event::new(&data)).await?;
        EVENTS.went_on();
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
    let server = start(|_| ());
    let mut stream = server.connect();
    stream.write_all(b"GET /events/waiting HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let (_, took) = read_until(&mut stream, "data: hello\n\n");
    assert!(took < ms(1500), "{took:?}");
}

#[test]
fn a_stream_on_which_nothing_is_sent_is_cut_and_one_with_heartbeats_is_not() {
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
    let server = start(|web| web.timeouts.inactivity = ms(700));
    let mut stream = server.connect();
    stream.write_all(b"GET /events/flood HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let other = server.talk("GET /events/none HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!((status(&other), body(&other)), (404, "404 Not Found: there is nothing here\n"));
    EVENTS.wait_for_its_end();
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

/// Sends back what comes; `?open` lets pages of example.com in.
async fn echo(exchange: &mut Exchange) -> Result<(), Error> {
    exchange.set_header("X-Mine", "yes")?;
    let is_open = exchange.query("open").is_some();
    let mut socket = exchange.upgrade_from(&["chat", "other"], |page| is_open && page == "https://example.com").await?;
    while let Some(message) = socket.receive().await? {
        socket.send(message).await?;
    }
    Ok(())
}

/// Sends a message of its own every 50 ms, and answers those that come meanwhile.
async fn push(exchange: &mut Exchange) -> Result<(), Error> {
    let mut socket = exchange.upgrade(&[]).await?;
    let mut timer = smol::Timer::interval(ms(50));
    loop {
        let timed = async {
            smol::stream::StreamExt::next(&mut timer).await;
            Ok(Some(Message::from("tick")))
        };
        match smol::future::or(socket.receive(), timed).await? {
            Some(message) => socket.send(message).await?,
            None => return Ok(()),
        }
    }
}

/// Ends in the way that the query says.
async fn end(exchange: &mut Exchange) -> Result<(), Error> {
    let how = exchange.query("how").unwrap_or_default();
    let mut socket = exchange.upgrade(&[]).await?;
    match how.as_str() {
        "big" => socket.send("\u{20ac}".repeat(100_000)).await,
        "flood" => {
            let _end = FRAMES.until_dropped();
            loop {
                socket.send(vec![b'x'; 50_000]).await?;
                FRAMES.went_on();
            }
        }
        "close" => socket.close(4001, "enough").await,
        "fail" => Err(Error::failed("broken")),
        "sleep" => {
            smol::Timer::after(ms(60_000)).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Does something else for longer than the inactivity before it receives.
async fn slow(exchange: &mut Exchange) -> Result<(), Error> {
    let mut socket = exchange.upgrade(&[]).await?;
    smol::Timer::after(ms(900)).await;
    let message = socket.receive().await?.unwrap();
    socket.send(message).await
}

/// Runs Python with the package `websockets`; `URL` in the script is the server's.
fn python(server: &Running, script: &str) -> String {
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let environment = std::env::var_os("IOTO_TEST_VENV").map_or_else(|| repository.join(".venv"), PathBuf::from);
    let python = environment.join("bin/python");
    assert!(python.exists(), "no {}: run `ci/test test`, or set IOTO_TEST_VENV", python.display());
    let script = format!(
        "from websockets.sync.client import connect\nfrom websockets.exceptions import *\nURL = 'ws://{}'\n{script}",
        server.address()
    );
    let output = Command::new(python).args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn python_speaks_with_an_action_by_a_websocket() {
    let server = start(|_| ());
    let script = r#"
with connect(URL + '/ws/echo', subprotocols=['none', 'other', 'chat']) as ws:
    print(ws.subprotocol, ws.response.status_code, ws.response.headers['X-Mine'])
    for message in ['', 'Jürgen €', b'', bytes(range(256)), 'x' * 102400, b'y' * 102400]:
        ws.send(message)
        assert ws.recv() == message, len(message)
    ws.send(['fr', '', 'ag', 'ment'])
    print(ws.recv())
    assert ws.ping().wait(10)
    ws.close(4000, 'bye')
    print(ws.protocol.close_rcvd.code, ws.protocol.close_rcvd.reason)
with connect(URL + '/ws/echo', subprotocols=None) as ws:
    print(ws.subprotocol)
"#;
    assert_eq!(python(&server, script), "other 101 yes\nfragment\n4000 bye\nNone\n");
}

#[test]
fn events_and_websockets_work_over_tls() {
    let dir = Dir::new();
    let (certificate, key) = own_certificate(&dir.0, &[]).unwrap();
    let tls = tls_server::server_config(&certificate, &key).unwrap();
    let server = server(settings(dir.0.clone())).tls(tls).listen("https://127.0.0.1:0").unwrap();
    let server = Running::start(server);
    let events = curl(&["-k", "-N", &format!("https://{}/events/ticks", server.address())]);
    assert_eq!(events.matches("event: tick\n").count(), 12);
    let script = r#"
import ssl
trust = ssl._create_unverified_context()
page = URL.replace('ws://', 'https://')
with connect(URL.replace('ws:', 'wss:') + '/ws/echo', ssl=trust, origin=page) as ws:
    for message in ['x' * 102400, b'']:
        ws.send(message)
        assert ws.recv() == message
    ws.close()
    print(ws.protocol.close_rcvd.code)
with connect(URL.replace('ws:', 'wss:') + '/ws/end', ssl=trust) as ws:
    try:
        ws.recv()
    except ConnectionClosed as error:
        print(error.rcvd.code)
"#;
    assert_eq!(python(&server, script), "1000\n1000\n");
}

#[test]
fn what_is_too_long_closes_a_websocket_with_1009() {
    let server = start(|web| web.limits.message = 150_000);
    let script = r#"
for message in ['x' * 102401, ['x' * 100000, 'x' * 50001]]:
    with connect(URL + '/ws/echo') as ws:
        try:
            ws.send(message)
            ws.recv()
        except ConnectionClosedError as error:
            print(error.rcvd.code)
"#;
    assert_eq!(python(&server, script), "1009\n1009\n");
}

#[test]
fn a_long_message_is_sent_in_pieces_and_the_end_has_its_code() {
    let server = start(|_| ());
    let script = r#"
with connect(URL + '/ws/end?how=big', max_size=None) as ws:
    assert ws.recv() == '€' * 100000
    try:
        ws.recv()
    except ConnectionClosed as error:
        print(error.rcvd.code)
for how in ['ok', 'close', 'fail']:
    with connect(URL + '/ws/end?how=' + how) as ws:
        try:
            ws.recv()
        except ConnectionClosed as error:
            print(error.rcvd.code, error.rcvd.reason)
"#;
    assert_eq!(python(&server, script), "1000\n1000 \n4001 enough\n1011 \n");
}

#[test]
fn an_action_can_push_while_it_receives() {
    let server = start(|web| web.timeouts.request = ms(500));
    let script = r#"
import time
with connect(URL + '/ws/push') as ws:
    ticks, echoes, end = 0, 0, time.time() + 1.5
    while time.time() < end:
        ws.send('hello')
        echoes += 1
        while ws.recv() != 'hello':
            ticks += 1
        time.sleep(0.03)
    print(ticks > 10, echoes > 20)
"#;
    assert_eq!(python(&server, script), "True True\n");
}

#[test]
fn pages_of_other_origins_are_refused_unless_the_action_allows_them() {
    let server = start(|_| ());
    let script = r#"
own = URL.replace('ws://', 'http://')
for path, origin in [('', own), ('', 'http://evil.example'), ('', 'null'), ('', own + '0'), ('', own.replace('http', 'https')),
                     ('?open', 'https://example.com'), ('?open', 'https://example.org')]:
    try:
        with connect(URL + '/ws/echo' + path, origin=origin) as ws:
            ws.send('x')
            print(ws.recv())
    except InvalidStatus as error:
        print(error.response.status_code)
"#;
    assert_eq!(python(&server, script), "x\n403\n403\n403\nx\nx\n403\n");
}

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A frame as clients send them.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first, 0x80 | payload.len() as u8];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A WebSocket by hand; the frames go out with the request.
fn raw(server: &Running, path: &str, frames: &[u8]) -> TcpStream {
    let mut stream = server.connect();
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n");
    stream.write_all(&[request.as_bytes(), frames].concat()).unwrap();
    let (head, _) = web_support::read_response(&mut stream);
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    stream
}

/// The next frame: first byte and payload.
fn next_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    assert!(head[1] < 126, "{head:?}");
    let mut payload = vec![0; usize::from(head[1])];
    stream.read_exact(&mut payload).unwrap();
    (head[0], payload)
}

/// The code of the close frame that comes next, and how long it took. Then the connection ends.
fn close_code(mut stream: TcpStream) -> (u16, Duration) {
    let start = Instant::now();
    let (first, payload) = next_frame(&mut stream);
    let took = start.elapsed();
    assert_eq!(first, 0x88, "{payload:?}");
    drop(stream.write_all(&frame(0x88, payload.get(..2).unwrap_or_default())));
    assert_eq!(read_to_close(&mut stream), "");
    (payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]])), took)
}

#[test]
fn a_peer_that_breaks_the_protocol_is_told_what_it_did() {
    let server = start(|_| ());
    for (bad, code) in [
        (frame(0x81, b"\xff"), 1007),
        ([frame(0x01, b"\xe2\x82"), frame(0x80, b"x")].concat(), 1007),
        ([frame(0x01, b"a"), frame(0x80, b"\xe2\x82")].concat(), 1007),
        (frame(0x88, b"\x03\xe8\xff"), 1007),
        (vec![0x81, 1, b'x'], 1002),
        (frame(0xc1, b"x"), 1002),
        (frame(0x83, b"x"), 1002),
        (frame(0x80, b"x"), 1002),
        (frame(0x09, b"x"), 1002),
        (frame(0x88, b"x"), 1002),
        (frame(0x88, b"\x03\xed"), 1002),
        ([frame(0x01, b"a"), frame(0x81, b"b")].concat(), 1002),
        (frame(0x88, b""), 1005),
        (frame(0x88, b"\x03\xe8"), 1000),
        (vec![0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4], 1009),
    ] {
        let stream = raw(&server, "/ws/echo", &bad);
        assert_eq!(close_code(stream).0, code, "{bad:x?}");
    }
}

#[test]
fn frames_come_in_any_pieces_and_pings_are_answered() {
    let server = start(|_| ());
    let hello = [frame(0x81, b"hello"), frame(0x89, b"p")].concat();
    let mut stream = raw(&server, "/ws/echo", &hello[..3]);
    for byte in &hello[3..] {
        stream.write_all(&[*byte]).unwrap();
        std::thread::sleep(ms(2));
    }
    assert_eq!(next_frame(&mut stream), (0x81, b"hello".to_vec()));
    assert_eq!(next_frame(&mut stream), (0x8a, b"p".to_vec()));
    // What looks like a request is one no longer.
    stream.write_all(b"GET /form HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(close_code(stream).0, 1002);
}

#[test]
fn a_silent_peer_is_pinged_then_left_and_one_that_answers_stays() {
    let server = start(|web| {
        web.timeouts.inactivity = ms(900);
        web.timeouts.request = ms(500);
        web.sockets.ping = ms(300);
    });
    let mut stream = raw(&server, "/ws/echo", b"");
    let start = Instant::now();
    assert_eq!(next_frame(&mut stream), (0x89, vec![]));
    assert!(start.elapsed() >= ms(250), "{:?}", start.elapsed());
    let (code, took) = close_code(stream);
    assert!(code == 1001 && took >= ms(500) && took < ms(3000), "{code} {took:?}");

    let mut stream = raw(&server, "/ws/echo", b"");
    for _ in 0..6 {
        assert_eq!(next_frame(&mut stream), (0x89, vec![]));
        stream.write_all(&frame(0x8a, b"")).unwrap();
    }
    stream.write_all(&frame(0x81, b"x")).unwrap();
    assert_eq!(next_frame(&mut stream), (0x81, b"x".to_vec()));
}

#[test]
fn a_websocket_on_which_nothing_moves_is_closed_even_without_pings() {
    let server = start(|web| {
        web.timeouts.inactivity = ms(500);
        web.sockets.ping = ioto::config::FOREVER;
    });
    let (code, took) = close_code(raw(&server, "/ws/echo", b""));
    assert!(code == 1001 && took >= ms(450) && took < ms(3000), "{code} {took:?}");
}

#[test]
fn an_action_may_do_something_else_but_not_for_longer_than_a_request() {
    let server = start(|web| {
        web.timeouts.inactivity = ms(600);
        web.sockets.ping = ms(200);
        web.timeouts.request = ms(1500);
    });
    let mut stream = raw(&server, "/ws/slow", b"");
    std::thread::sleep(ms(1000));
    assert_eq!(next_frame(&mut stream), (0x89, vec![]));
    stream.write_all(&frame(0x81, b"x")).unwrap();
    assert_eq!(next_frame(&mut stream), (0x81, b"x".to_vec()));
    let (code, took) = close_code(raw(&server, "/ws/end?how=sleep", b""));
    assert!(code == 1011 && took >= ms(1400) && took < ms(5000), "{code} {took:?}");
}

#[test]
fn a_peer_that_reads_nothing_is_cut() {
    let server = start(|web| web.timeouts.inactivity = ms(600));
    let mut stream = raw(&server, "/ws/end?how=flood", b"");
    FRAMES.wait_for_its_end();
    // What stood in the buffers of the kernel still comes, then the end.
    assert!(read_to_close(&mut stream).len() > 50_000);
}

#[test]
fn websockets_are_closed_when_the_server_stops() {
    let server = start(|_| ());
    let mut stream = raw(&server, "/ws/echo", &frame(0x81, b"x"));
    next_frame(&mut stream);
    let start = Instant::now();
    server.handle.stop();
    assert_eq!(close_code(stream).0, 1001);
    server.join();
    assert!(start.elapsed() < ms(2500), "{:?}", start.elapsed());
}

#[test]
fn requests_that_are_none_for_a_websocket_get_an_answer() {
    let server = start(|_| ());
    let ask = |fields: &str| web_support::get(&server, "/ws/echo", fields);
    for fields in [String::new(), UPGRADE.replace("13", "8")] {
        let text = server.talk(format!("GET /ws/echo HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        assert_eq!(status(&text), 426, "{text}");
        assert!(text.contains("\r\nUpgrade: websocket\r\n") && text.contains("\r\nConnection: Upgrade\r\n"), "{text}");
        assert!(text.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{text}");
    }
    assert_eq!(status(&ask(&UPGRADE.replace("dGhl", "dG"))), 400);
    let with_body = server.talk(format!("GET /ws/echo HTTP/1.1\r\nHost: h\r\n{UPGRADE}Content-Length: 3\r\n\r\nabc"));
    assert_eq!(status(&with_body), 400);
    let server = start(|web| web.sockets.enable = false);
    assert_eq!(status(&web_support::get(&server, "/ws/echo", UPGRADE)), 403);
}
