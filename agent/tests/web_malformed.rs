//! Malformed requests over real sockets: each is answered with its status or closed, in time; nothing that hides in a body
//! is ever served; and the server lives on.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ioto::web::{Exchange, Server};
use smol::io::AsyncReadExt;
use web_support::{Dir, Running, read_to_close, settings, status};

/// What stands in a body or after a refused head and must never be served.
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

fn server(smuggled: &Arc<AtomicUsize>) -> (Running, Dir) {
    server_with(smuggled, Duration::from_millis(1200))
}

fn server_with(smuggled: &Arc<AtomicUsize>, timer: Duration) -> (Running, Dir) {
    let dir = Dir::new();
    let smuggled = smuggled.clone();
    let mut settings = settings(dir.0.clone());
    settings.timeouts.parse = timer;
    settings.timeouts.inactivity = timer;
    settings.timeouts.idle = timer / 2;
    let server = Server::new(settings)
        .listen("http://127.0.0.1:0")
        .unwrap()
        .action("/smuggled", async move |exchange: &mut Exchange| {
            smuggled.fetch_add(1, Ordering::SeqCst);
            exchange.send("text/plain", "smuggled").await
        })
        .action("/read", async |exchange: &mut Exchange| {
            let mut body = Vec::new();
            exchange.body().read_to_end(&mut body).await?;
            exchange.send("text/plain", format!("read {}\n", body.len())).await
        })
        .action("/bytes", async |exchange: &mut Exchange| {
            let body = exchange.bytes().await?;
            exchange.send("text/plain", format!("bytes {}\n", body.len())).await
        })
        .action("/ignore", async |exchange: &mut Exchange| exchange.send("text/plain", "ignored\n").await);
    (Running::start(server), dir)
}

/// Requests and the statuses one of which must be the answer. 0: closed without one.
fn cases() -> Vec<(String, Vec<u8>, Vec<u16>)> {
    let mut cases: Vec<(String, Vec<u8>, Vec<u16>)> = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, statuses: &[u16]| cases.push((name.into(), bytes, statuses.into()));

    // The head is refused; the hidden request follows as its body or as the next request.
    let heads: &[(&str, &str, u16)] = &[
        (
            "length and chunked",
            "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "chunked and length",
            "POST /read HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("xchunked", "POST /read HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (
            "chunked, identity",
            "POST /read HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
            501,
        ),
        ("gzip, chunked", "POST /read HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("chunked in 1.0", "POST /read HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("two lengths", "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 35\r\n\r\n", 400),
        (
            "two equal lengths",
            "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            400,
        ),
        ("length -1", "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400),
        ("length abc", "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: abc\r\n\r\n", 400),
        ("length 5abc", "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 5abc\r\n\r\n", 400),
        ("length 3, 3", "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
        ("length +3", "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\nabc", 400),
        ("length over 64 bits", "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551616\r\n\r\n", 413),
        ("folded field", "GET /ignore HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400),
        ("space before the first field", "GET /ignore HTTP/1.1\r\n Host: h\r\n\r\n", 400),
        ("space before the colon", "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length : 35\r\n\r\n", 400),
        ("bare LF line ends", "GET /ignore HTTP/1.1\nHost: h\n\n", 400),
        ("bare LF in a value", "GET /ignore HTTP/1.1\r\nHost: h\r\nX: a\nContent-Length: 35\r\n\r\n", 400),
        ("bare CR in a value", "GET /ignore HTTP/1.1\r\nHost: h\r\nX: a\rContent-Length: 35\r\n\r\n", 400),
        ("NUL in a value", "GET /ignore HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", 400),
        ("no Host", "GET /ignore HTTP/1.1\r\n\r\n", 400),
        ("two Hosts", "GET /ignore HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("empty Host", "GET /ignore HTTP/1.1\r\nHost: \r\n\r\n", 400),
        ("extra words", "GET /ignore x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("method G@T", "G@T /ignore HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("version XXX", "GET /ignore XXX\r\nHost: h\r\n\r\n", 400),
        ("version HTTP/2.0", "GET /ignore HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        ("no version", "GET /ignore\r\n\r\n", 400),
        ("CONNECT", "CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", 501),
        ("expectation", "POST /read HTTP/1.1\r\nHost: h\r\nExpect: 200-ok\r\nContent-Length: 3\r\n\r\nabc", 417),
        ("encoded slash", "GET /a%2f..%2fsmuggled HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("dot segments", "GET /ignore/../smuggled HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("encoded dot segments", "GET /ignore/%2e%2e/smuggled HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (
            "chunked twice",
            "POST /read HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "chunked, chunked",
            "POST /read HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "vertical tab before chunked",
            "POST /read HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("quoted chunked", "POST /read HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 501),
        ("length 0x3", "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 0x3\r\n\r\nabc", 400),
        ("length 3.0", "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 3.0\r\n\r\nabc", 400),
        ("no length", "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\nabc", 400),
        ("a name of spaces", "GET /ignore HTTP/1.1\r\nHost: h\r\n : x\r\n\r\n", 400),
        ("no name", "GET /ignore HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n", 400),
        ("a field without a colon", "GET /ignore HTTP/1.1\r\nHost: h\r\nnothing\r\n\r\n", 400),
        ("NUL in a name", "GET /ignore HTTP/1.1\r\nHost: h\r\nX\0Y: z\r\n\r\n", 400),
        ("encoded NUL", "GET /ignore%00 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("encoded backslash", "GET /ignore%5c..%5csmuggled HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("half an encoding", "GET /ignore%2 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("lower case version", "GET /ignore http/1.1\r\nHost: h\r\n\r\n", 400),
        ("two Hosts in one", "GET /ignore HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("a Host with a path", "GET /ignore HTTP/1.1\r\nHost: h/x\r\n\r\n", 400),
        ("a target without a slash", "GET ignore HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("encoded line end", "GET /ignore%0d%0aX:%20y HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ];
    for (name, head, status) in heads {
        add(name, format!("{head}{HIDDEN}").into_bytes(), &[*status]);
    }

    // The body is malformed; the client may also get the answer of an action that does not read it.
    let chunked = "HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let bodies: &[(&str, &str)] = &[
        ("chunk size +3", "+3\r\nabc\r\n0\r\n\r\n"),
        ("chunk size 0x3", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("chunk size -1", "-1\r\nabc\r\n0\r\n\r\n"),
        ("chunk size of 17 digits", "00000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("space after the chunk size", "3 \r\nabc\r\n0\r\n\r\n"),
        ("LF in a chunk extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
        ("bare LF after a chunk size", "3\nabc\r\n0\r\n\r\n"),
        ("bare LF after a chunk", "3\r\nabc\n0\r\n\r\n"),
        ("a chunk longer than its size", "3\r\nabcde\r\n0\r\n\r\n"),
        ("a trailer without colon", "0\r\nnothing\r\n\r\n"),
        ("a folded trailer", "0\r\nA: b\r\n c\r\n\r\n"),
    ];
    for (name, body) in bodies {
        for action in ["/read", "/bytes"] {
            let request = format!("POST {action} {chunked}{body}{HIDDEN}");
            add(&format!("{name}, {action}"), request.into_bytes(), &[400]);
        }
        let request = format!("POST /ignore {chunked}{body}{HIDDEN}");
        add(&format!("{name}, not read"), request.into_bytes(), &[200]);
    }

    let fields = |count: usize| -> String { (0..count).map(|at| format!("X-{at}: y\r\n")).collect() };
    add("target of 64 KiB", format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n{HIDDEN}", "a".repeat(65536)).into(), &[414]);
    add(
        "header of 1 MiB",
        format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n{HIDDEN}", "a".repeat(1 << 20)).into(),
        &[431],
    );
    add("10 000 fields", format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n{HIDDEN}", fields(10_000)).into(), &[431]);
    add("65 fields", format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n{HIDDEN}", fields(64)).into(), &[431]);
    add("Latin-1 value", [&b"GET / HTTP/1.1\r\nHost: h\r\nX: gr\xfcn\r\n\r\n"[..], HIDDEN.as_bytes()].concat(), &[400]);
    add("UTF-8 target", format!("GET /gr\u{fc}n HTTP/1.1\r\nHost: h\r\n\r\n{HIDDEN}").into(), &[400]);
    add("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abc".to_vec(), &[400]);
    add(
        "body over its limit",
        format!("POST /bytes HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n{}{HIDDEN}", "a".repeat(100_000))
            .into(),
        &[413],
    );
    let chunk = format!("4000\r\n{}\r\n", "a".repeat(0x4000));
    add("chunks over the limit", format!("POST /bytes {chunked}{}0\r\n\r\n", chunk.repeat(10)).into(), &[413]);
    cases
}

#[test]
fn the_table_is_long_and_no_row_repeats_another() {
    let cases = cases();
    assert!(cases.len() >= 80, "{} rows", cases.len());
    let names: HashSet<&String> = cases.iter().map(|(name, ..)| name).collect();
    let requests: HashSet<&Vec<u8>> = cases.iter().map(|(_, request, _)| request).collect();
    assert_eq!((names.len(), requests.len()), (cases.len(), cases.len()));
}

#[test]
fn every_malformed_request_is_answered_with_its_status_and_nothing_is_smuggled() {
    let smuggled = Arc::new(AtomicUsize::new(0));
    let (server, _dir) = server(&smuggled);
    let mut wrong = Vec::new();
    for (name, request, statuses) in cases() {
        // Half closed, and left open as a client that waits for more.
        for is_open in [false, true] {
            let start = Instant::now();
            let response = match is_open {
                false => server.talk(&request),
                true => {
                    let mut stream = server.connect();
                    let _ = stream.write_all(&request);
                    read_to_close(&mut stream)
                }
            };
            let found = status(&response);
            if !statuses.contains(&found)
                || response.matches("HTTP/1.1 ").count() > 1
                || (found >= 400 && !response.contains("Connection: close\r\n"))
                || start.elapsed() > Duration::from_secs(6)
            {
                wrong.push(format!("{name}: {statuses:?} expected, {response:?} after {:?}", start.elapsed()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(smuggled.load(Ordering::SeqCst), 0);
    assert_eq!(status(&server.talk("GET /ignore HTTP/1.1\r\nHost: h\r\n\r\n")), 200);
}

#[test]
fn what_never_ends_is_ended_by_its_timer() {
    let smuggled = Arc::new(AtomicUsize::new(0));
    let (server, _dir) = server(&smuggled);
    for (name, request, expected) in [
        ("nothing", "", 0),
        ("an empty line", "\r\n", 408),
        ("half a request line", "GET /ign", 408),
        ("half a head", "GET /ignore HTTP/1.1\r\nHost: h\r\nX:", 408),
        ("no body", "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n", 408),
        ("half a body", "POST /bytes HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf", 408),
        ("half a chunk", "POST /read HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf", 408),
        ("no chunk", "POST /read HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", 408),
        ("a body nobody reads", "POST /ignore HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf", 200),
    ] {
        let start = Instant::now();
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let response = read_to_close(&mut stream);
        assert_eq!(status(&response), expected, "{name}: {response:?}");
        assert!(start.elapsed() < Duration::from_secs(6), "{name}: {:?}", start.elapsed());
    }
}

#[test]
fn a_head_that_drips_is_ended_by_the_timer_for_the_whole_head() {
    let (server, _dir) = server(&Arc::default());
    let mut stream = server.connect();
    let start = Instant::now();
    for byte in b"GET /ignore HTTP/1.1\r\nHost: h\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(60));
        if start.elapsed() > Duration::from_secs(3) {
            break;
        }
    }
    assert_eq!(status(&read_to_close(&mut stream)), 408);
}

#[test]
fn a_body_that_breaks_off_is_answered_with_400() {
    let (server, _dir) = server(&Arc::default());
    for body in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n8\r\nhalf"] {
        let response = server.talk(format!("POST /read HTTP/1.1\r\nHost: h\r\n{body}"));
        assert_eq!(status(&response), 400, "{response:?}");
    }
}

#[test]
fn silent_connections_do_not_keep_others_out() {
    let (server, _dir) = server_with(&Arc::default(), Duration::from_secs(20));
    let silent: Vec<_> = (0..50).map(|_| server.connect()).collect();
    let half: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"GET /ignore HTTP/1.1\r\nHo").unwrap();
            stream
        })
        .collect();
    let start = Instant::now();
    assert_eq!(status(&server.talk("GET /ignore HTTP/1.1\r\nHost: h\r\n\r\n")), 200);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop((silent, half));
}

#[test]
fn an_expected_continue_comes_when_the_body_is_read() {
    let (server, _dir) = server(&Arc::default());
    let mut stream = server.connect();
    let head = "POST /read HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").unwrap();
    let (head, body) = web_support::read_response(&mut stream);
    assert_eq!((status(&head), &body[..]), (200, &b"read 5\n"[..]));

    // Nobody reads it: the final answer comes at once, and the connection ends since the body may or may not follow.
    let mut stream = server.connect();
    stream.write_all(head_for("/ignore").as_bytes()).unwrap();
    let response = read_to_close(&mut stream);
    assert!(response.starts_with("HTTP/1.1 200") && response.contains("Connection: close"), "{response}");
}

fn head_for(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
}

#[test]
fn random_bytes_never_silence_the_server() {
    let smuggled = Arc::new(AtomicUsize::new(0));
    let (server, _dir) = server(&smuggled);
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
    });
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let samples: Vec<Vec<u8>> =
        cases().into_iter().map(|(_, bytes, _)| bytes).filter(|bytes| bytes.len() < 400).collect();
    for _ in 0..400 {
        let mut bytes = samples[random.usize(..samples.len())].clone();
        for _ in 0..random.usize(1..8) {
            let at = random.usize(..bytes.len());
            bytes[at] = if random.bool() { random.u8(..) } else { *random.choice(b"\r\n :;\t0a").unwrap() };
        }
        server.talk(&bytes);
    }
    assert_eq!(status(&server.talk("GET /ignore HTTP/1.1\r\nHost: h\r\n\r\n")), 200);
}
