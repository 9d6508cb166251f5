//! Limits of the web server, and clients that are slow: over a limit there is an answer, and the others are served.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ioto::net::tls_server;
use ioto::web::{Error, Event, Exchange, own_certificate};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use web_support::{
    Dir, MEGABYTE, Running, body, field, get, read_response, read_to_close, server, settings, start, status,
};

const HANG: &str = "GET /hang HTTP/1.1\r\nHost: h\r\n\r\n";
const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n";

/// A connection from another address of this machine.
fn connect_from(address: &str, server: &Running) -> TcpStream {
    let from: SocketAddr = format!("{address}:0").parse().unwrap();
    let descriptor = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&descriptor, &from).unwrap();
    connect(&descriptor, &server.address()).unwrap();
    let stream = TcpStream::from(descriptor);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, request: &str) {
    stream.write_all(request.as_bytes()).unwrap();
}

/// A connection that has a request at work.
fn busy(server: &Running) -> TcpStream {
    let mut stream = server.connect();
    ask(&mut stream, HANG);
    std::thread::sleep(Duration::from_millis(30));
    stream
}

#[test]
fn an_address_with_too_many_connections_gets_429_and_others_are_served() {
    let (server, _dir) = start(|settings| settings.limits.per_address = 2);
    let mut held: Vec<TcpStream> = (0..2).map(|_| connect_from("127.0.0.2", &server)).collect();
    for stream in &mut held {
        ask(stream, HELLO);
        assert_eq!(status(&read_response(stream).0), 200);
    }
    for request in ["", HELLO] {
        let mut excess = connect_from("127.0.0.2", &server);
        let _ = excess.write_all(request.as_bytes());
        let response = read_to_close(&mut excess);
        assert_eq!(status(&response), 429, "{response:?}");
        assert!(field(&response, "retry-after").unwrap().parse::<u32>().unwrap() > 0);
        assert_eq!(field(&response, "connection").as_deref(), Some("close"));
    }
    let mut other = connect_from("127.0.0.3", &server);
    ask(&mut other, HELLO);
    assert_eq!(status(&read_response(&mut other).0), 200);
    let proxy: Vec<TcpStream> = (0..5).map(|_| server.connect()).collect();
    assert_eq!(status(&get(&server, "/hello", "")), 200);
    drop(proxy);

    held.pop();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        let mut again = connect_from("127.0.0.2", &server);
        let _ = again.write_all(HELLO.as_bytes());
        let _ = again.shutdown(std::net::Shutdown::Write);
        if status(&read_to_close(&mut again)) == 200 {
            return;
        }
    }
    panic!("the place of a connection that ended is not free");
}

#[test]
fn an_excess_connection_with_tls_is_just_closed() {
    let dir = Dir::new();
    let (certificate, key) = own_certificate(&dir.0, &[]).unwrap();
    let mut settings = settings(dir.0.clone());
    settings.limits.per_address = 1;
    let tls = tls_server::server_config(&certificate, &key).unwrap();
    let running = Running::start(server(settings).tls(tls).listen("https://127.0.0.1:0").unwrap());
    let _held = connect_from("127.0.0.2", &running);
    std::thread::sleep(Duration::from_millis(50));
    let start = Instant::now();
    assert_eq!(read_to_close(&mut connect_from("127.0.0.2", &running)), "");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn when_all_are_at_work_the_next_wait_a_moment_and_get_503() {
    let (server, _dir) = start(|settings| settings.limits.connections = 2);
    let held = [busy(&server), busy(&server)];
    let start = Instant::now();
    let response = get(&server, "/hello", "");
    assert_eq!(status(&response), 503, "{response:?}");
    assert!(field(&response, "retry-after").is_some());
    assert!(start.elapsed() > Duration::from_secs(1), "it waited {:?}", start.elapsed());
    let start = Instant::now();
    let waiting: Vec<TcpStream> = (0..50).map(|_| server.connect()).collect();
    for mut stream in waiting {
        let _ = stream.write_all(HELLO.as_bytes());
        assert_eq!(status(&read_to_close(&mut stream)), 503);
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(held);
    // The action that hangs sees nothing of that; it ends by the timer for requests.
}

#[test]
fn who_waits_is_served_as_soon_as_there_is_a_place() {
    let (server, _dir) = start(|settings| settings.limits.connections = 1);
    let mut sleeping = server.connect();
    ask(&mut sleeping, "GET /sleep HTTP/1.1\r\nHost: h\r\n\r\n");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(status(&get(&server, "/hello", "")), 200);
    let response = read_to_close(&mut sleeping);
    assert!(response.contains("Connection: close") || response.ends_with("slept\n"), "{response:?}");
}

#[test]
fn half_sent_heads_make_room_before_those_that_are_idle() {
    let (server, _dir) = start(|settings| {
        settings.limits.connections = 10;
        settings.timeouts.parse = Duration::from_secs(60);
        settings.timeouts.idle = Duration::from_secs(60);
    });
    let mut idle: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    for stream in &mut idle {
        ask(stream, HELLO);
        read_response(stream);
    }
    let mut half: Vec<TcpStream> = (0..7).map(|_| server.connect()).collect();
    half.iter_mut().for_each(|stream| ask(stream, "GET /hello HTTP/1.1\r\nHo"));
    std::thread::sleep(Duration::from_millis(1200));
    let start = Instant::now();
    for _ in 0..5 {
        let mut stream = server.connect();
        ask(&mut stream, HELLO);
        assert_eq!(status(&read_response(&mut stream).0), 200);
        half.push(stream);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    for stream in &mut idle {
        ask(stream, HELLO);
        assert_eq!(status(&read_response(stream).0), 200, "an idle connection was ended");
    }
    let response = read_to_close(&mut half[0]);
    assert_eq!(status(&response), 503, "{response:?}");
    assert!(field(&response, "retry-after").is_some());
}

#[test]
fn event_streams_do_not_make_room() {
    let dir = Dir::new();
    let mut settings = settings(dir.0.clone());
    settings.limits.connections = 2;
    let built = server(settings).action("/events", async |exchange: &mut Exchange| {
        let mut events = exchange.events()?;
        events.send(&Event::new("first")).await?;
        events.wait(smol::Timer::after(Duration::from_millis(3500))).await?;
        events.send(&Event::new("last")).await?;
        events.finish().await
    });
    let server = Running::start(built.listen("http://127.0.0.1:0").unwrap());
    let mut events: Vec<TcpStream> = (0..2).map(|_| server.connect()).collect();
    for stream in &mut events {
        ask(stream, "GET /events HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(status(&get(&server, "/hello", "")), 503);
    for stream in &mut events {
        assert!(read_to_close(stream).contains("data: last"));
    }
}

/// Sends a body in pieces; the answer.
fn upload(server: &Running, length: usize, piece: usize, every: Duration) -> String {
    let mut stream = server.connect();
    ask(
        &mut stream,
        &format!("POST /count HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"),
    );
    let start = Instant::now();
    for _ in 0..length / piece {
        if stream.write_all(&vec![b'x'; piece]).is_err() || start.elapsed() > Duration::from_secs(15) {
            break;
        }
        std::thread::sleep(every);
    }
    read_to_close(&mut stream)
}

#[test]
fn a_body_that_trickles_is_ended_and_one_at_the_rate_is_not() {
    let (server, _dir) = start(|settings| {
        settings.limits.rate = 1000;
        settings.timeouts.inactivity = Duration::from_secs(1);
    });
    let start = Instant::now();
    let response = upload(&server, 2000, 1, Duration::from_millis(50));
    assert_eq!(status(&response), 408, "{response:?}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    let response = upload(&server, 9000, 300, Duration::from_millis(100));
    assert_eq!(body(&response), "9000\n", "{response:?}");
}

#[test]
fn a_rate_of_0_allows_any() {
    let (server, _dir) = start(|settings| {
        settings.limits.rate = 0;
        settings.timeouts.inactivity = Duration::from_secs(1);
    });
    assert_eq!(body(&upload(&server, 60, 1, Duration::from_millis(50))), "60\n");
}

/// Reads so many bytes every so often, as long as it lasts; the bytes.
fn download(server: &Running, megabytes: usize, piece: usize, every: Duration, limit: Duration) -> usize {
    let mut stream = server.connect();
    ask(&mut stream, &format!("GET /big?mb={megabytes} HTTP/1.0\r\n\r\n"));
    let (start, mut buf, mut received) = (Instant::now(), vec![0; piece], 0);
    while start.elapsed() < limit {
        match stream.read(&mut buf) {
            Ok(0) | Err(_) => break,
            Ok(read) => received += read,
        }
        std::thread::sleep(every);
    }
    received
}

#[test]
fn a_reader_that_is_too_slow_is_cut_and_one_that_is_only_slow_is_not() {
    let (server, _dir) = start(|settings| {
        settings.limits.rate = 200_000;
        settings.timeouts.inactivity = Duration::from_secs(1);
        settings.timeouts.request = Duration::from_secs(60);
    });
    // What the kernel holds can still be read when the server has given up.
    let start = Instant::now();
    let received = download(&server, 100, 1000, Duration::from_millis(100), Duration::from_secs(3));
    assert!(received < 100_000);
    let rest = download(&server, 100, 100_000, Duration::from_secs(2), Duration::from_secs(10));
    assert!(rest < 20 * MEGABYTE, "{rest}");
    let received = download(&server, 12, 200_000, Duration::from_millis(100), Duration::from_secs(30));
    assert!(received > 12 * MEGABYTE, "{received} bytes in {:?}", start.elapsed());
}

#[test]
fn an_action_says_when_to_try_again() {
    let dir = Dir::new();
    let built = server(settings(dir.0.clone()))
        .action("/picture", async |_: &mut Exchange| {
            Err(Error::retry(429, "one picture a minute", Duration::from_millis(59_001)))
        })
        .action("/busy", async |_: &mut Exchange| Err(Error::status(503, "the sensor warms up")));
    let server = Running::start(built.listen("http://127.0.0.1:0").unwrap());
    let response = get(&server, "/picture", "");
    assert_eq!((status(&response), field(&response, "retry-after").as_deref()), (429, Some("60")), "{response}");
    assert!(body(&response).contains("one picture a minute"));
    let response = get(&server, "/busy", "");
    assert_eq!(status(&response), 503);
    assert!(field(&response, "retry-after").is_some(), "{response}");
}

#[test]
fn the_status_arrives_although_the_client_goes_on_sending() {
    let (server, _dir) = start(|_| ());
    let long = "a".repeat(20_000);
    let junk = vec![b'x'; 200_000];
    for version in ["1.0", "1.1"] {
        for (request, expected) in [
            (format!("POST /json HTTP/{version}\r\nHost: h\r\nContent-Length: 200000\r\n\r\n"), 413),
            (format!("GET /{long} HTTP/{version}\r\nHost: h\r\n\r\n"), 414),
            (format!("GET / HTTP/{version}\r\nHost: h\r\nX: {long}\r\n\r\n"), 431),
            (format!("GET / HTTP/{version}\r\nHost: h\r\nX : y\r\n\r\n"), 400),
            (format!("POST /refuse HTTP/{version}\r\nHost: h\r\nContent-Length: 200000\r\n\r\n"), 409),
            (format!("POST /nowhere HTTP/{version}\r\nHost: h\r\nContent-Length: 200000\r\n\r\n"), 405),
            (format!("POST /fail HTTP/{version}\r\nHost: h\r\nContent-Length: 200000\r\n\r\n"), 500),
        ] {
            let mut stream = server.connect();
            ask(&mut stream, &request);
            for piece in junk.chunks(20_000) {
                stream.write_all(piece).unwrap_or_else(|error| panic!("{version} {expected}: {error}"));
                std::thread::sleep(Duration::from_millis(5));
            }
            let mut bytes = Vec::new();
            let ended = stream.read_to_end(&mut bytes);
            let response = String::from_utf8_lossy(&bytes);
            assert_eq!(status(&response), expected, "{version} {response:?} {ended:?}");
            assert!(ended.is_ok(), "{version} {expected}: the connection was reset");
            assert_eq!(field(&response, "connection").as_deref(), Some("close"), "{response}");
        }
    }
}

#[test]
fn the_last_request_of_a_connection_is_answered_although_another_follows() {
    let (server, _dir) = start(|settings| settings.limits.requests = 2);
    let mut stream = server.connect();
    ask(&mut stream, &HELLO.repeat(5));
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("not reset");
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.matches("hello\n").count(), 2, "{text}");
    assert!(text.ends_with("hello\n") && text.contains("Connection: close"), "{text}");
}
