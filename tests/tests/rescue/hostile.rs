//! Clients that are many, silent, slow, malformed, or do not read.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use ioto_tests::{Rescue, Scratch, eventually, seed};

/// In which an honest client is answered, whatever others do. The first answer is there after moments; the rest is for
/// machines that do much else.
const SOON: Duration = Duration::from_secs(2);

fn connect(rescue: &Rescue) -> UnixStream {
    let stream = UnixStream::connect(rescue.socket()).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set a timeout");
    stream
}

/// An honest client is answered, and soon.
fn answers(rescue: &Rescue, what: &str) {
    let began = Instant::now();
    let status = rescue.get("/livez").unwrap_or_else(|error| panic!("{what}: {error}")).status;
    assert!(status == 503 && began.elapsed() < SOON, "{what}: {status} after {:?}", began.elapsed());
}

/// Kilobytes.
fn memory(rescue: &Rescue) -> u64 {
    rescue.status("VmRSS").split(' ').next().and_then(|number| number.parse().ok()).expect("its memory")
}

fn all_at_once(arguments: &[&str]) {
    let scratch = Scratch::new();
    let rescue = Rescue::start(scratch.path(), arguments);
    let before = memory(&rescue);
    let mut clients = Vec::new();
    for number in 0..200 {
        let mut client = connect(&rescue);
        let text: &[u8] = match number % 4 {
            0 => b"",
            1 => b"GET /livez HT",
            2 => b"POST /restart HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
            // Asks, and never reads.
            _ => b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n",
        };
        // One that had to make room for another is closed already.
        let _ = client.write_all(text);
        clients.push(client);
        if number % 20 == 0 {
            answers(&rescue, &format!("with {number} clients"));
        }
    }
    answers(&rescue, "with 200 clients");
    let grown = memory(&rescue).saturating_sub(before);
    println!("{arguments:?}: 200 clients cost {grown} KB");
    assert!(grown < 4096, "{grown} KB for 200 clients");
    // One in front, three that answer; tiny_http has four, and for moments one more a connection.
    let threads = rescue.status("Threads");
    assert!(threads.parse::<u32>().is_ok_and(|threads| threads <= 12), "{threads} threads");
    // Nobody is left in silence: each gets an answer, or at least the end.
    for client in &mut clients {
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&answer));
    }
    answers(&rescue, "after 200 clients");
    let pid = rescue.status("Pid");
    let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).map(|entries| entries.count()).unwrap_or(usize::MAX);
    eventually("all connections are closed", Duration::from_secs(10), || (open() < 24).then_some(()));
}

#[test]
fn two_hundred_clients_at_once_do_not_keep_others_out() {
    all_at_once(&[]);
}

#[test]
fn when_all_places_are_taken_the_slowest_makes_room() {
    all_at_once(&["--clients", "16"]);
}

#[test]
fn two_hundred_honest_clients_at_once_are_all_answered() {
    let scratch = Scratch::new();
    let rescue = Rescue::start(scratch.path(), &[]);
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let mut client = connect(&rescue);
            client.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").expect("send");
            client
        })
        .collect();
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"health\":\"unknown\""), "{answer}");
    }
}

/// Sends bytes and reads the status of the answer; none when the connection ends without.
fn status(rescue: &Rescue, bytes: &[u8]) -> Option<u16> {
    let mut client = connect(rescue);
    let _ = client.write_all(bytes);
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

#[test]
fn malformed_requests_are_refused_and_leave_it_answering() {
    let scratch = Scratch::new();
    let rescue = Rescue::start(scratch.path(), &[]);
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(3000));
    let large = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(1024 * 1024));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(10_000));
    let rows: [(&str, u16); 19] = [
        ("\x16\x03\x01\x02\0\x01\0\x01\u{7f}", 400),
        ("\r\n\r\n", 400),
        ("GET /livez\r\n\r\n", 400),
        ("GET /livez HTTP/1.1\r\n\r\n", 400),
        ("GET /livez HTTP/9.9\r\nHost: x\r\n\r\n", 505),
        ("GET  /livez HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("G@T /livez HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET http://x/livez HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        ("GET /livez HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n", 400),
        ("GET /livez HTTP/1.1\r\nHost: x\r\nX: a\nb\r\n\r\n", 400),
        ("POST /restart HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 411),
        ("POST /restart HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST /restart HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        ("POST /restart HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000000\r\n\r\n", 413),
        ("GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (&long, 414),
        (&large, 431),
        (&many, 431),
    ];
    for (text, expected) in rows {
        let start: String = text.chars().take(60).collect();
        // The rest of what is far too long is not read; then the connection may break before the answer is seen.
        match status(&rescue, text.as_bytes()) {
            None if text.len() > 64 * 1024 => {}
            found => assert_eq!(found, Some(expected), "{start:?}"),
        }
        answers(&rescue, &start);
    }
    // What never ends is cut off in time, with an answer.
    for text in
        ["", "GET /livez HTTP/1.1\r\nHost: x\r\n", "POST /restart HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"]
    {
        let began = Instant::now();
        assert_eq!(status(&rescue, text.as_bytes()), Some(408), "{text:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{text:?}: {:?}", began.elapsed());
    }
    let mut half = connect(&rescue);
    half.write_all(b"GET /livez HT").expect("send");
    half.shutdown(std::net::Shutdown::Write).expect("shut down");
    let mut answer = String::new();
    half.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn random_bytes_leave_it_answering() {
    let scratch = Scratch::new();
    let rescue = Rescue::start(scratch.path(), &[]);
    let mut random = fastrand::Rng::with_seed(seed());
    let whole = b"POST /restart?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nX-Y: z\r\n\r\n{}";
    for _ in 0..2000 {
        let mut bytes = whole.to_vec();
        for _ in 0..random.usize(1..6) {
            let place = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes[place] = random.u8(..),
                1 => bytes.truncate(place + 1),
                _ => bytes.insert(place, random.u8(..)),
            }
        }
        let mut client = UnixStream::connect(rescue.socket()).expect("connect");
        let _ = client.write_all(&bytes);
    }
    answers(&rescue, "after random bytes");
    assert!(Path::new(&format!("/proc/{}", rescue.status("Pid"))).exists());
}
