//! Programs behind the server that fail, and clients that do, over real sockets.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod proxy_support;
mod web_support;

use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use proxy_support::{Program, front, ok, route};
use web_support::{body, field, get, read_to_close, status};

#[test]
fn what_a_program_does_wrong_is_told_from_what_it_may_do() {
    // The program's bytes, then it closes; the status of the client's response, and its body (`~`: cut).
    let table: &[(&str, &str, u16, &str)] = &[
        ("a response until the connection closes", "HTTP/1.1 200 OK\r\n\r\nall", 200, "all"),
        ("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nold", 200, "old"),
        ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n", 200, "abc"),
        (
            "trailers are dropped",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: 1\r\n\r\n",
            200,
            "a",
        ),
        (
            "100 and 103 first",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
            200,
            "a",
        ),
        ("204 without a body", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        ("204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, ""),
        ("304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n", 304, ""),
        ("a reason phrase of its own", "HTTP/1.1 299 Whatever You Say\r\nContent-Length: 0\r\n\r\n", 299, ""),
        ("no reason phrase", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, ""),
        ("more than it announced", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc", 200, "a"),
        ("an error of its own", "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops", 500, "oops"),
        ("nothing", "", 502, ""),
        ("half a head", "HTTP/1.1 200 OK\r\nContent-Le", 502, ""),
        ("no HTTP", "220 mail ready\r\n\r\n", 502, ""),
        ("HTTP/2", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", 502, ""),
        (
            "a length and chunks",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            502,
            "",
        ),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 502, ""),
        ("the same length twice", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 502, ""),
        ("a length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc", 502, ""),
        ("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc", 502, ""),
        ("a length that overflows", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\na", 502, ""),
        ("another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 502, ""),
        ("chunks in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502, ""),
        ("a folded field", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", 502, ""),
        ("a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n", 502, ""),
        ("a bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", 502, ""),
        ("a NUL in a field", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n", 502, ""),
        ("a status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", 502, ""),
        ("a status of 999", "HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n", 502, ""),
        (
            "101 that nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            502,
            "",
        ),
        ("less than it announced", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", 200, "~abc"),
        ("chunks without an end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", 200, "~ab"),
        ("half a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab", 200, "~ab"),
        (
            "a chunk size that is none",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nzz\r\n",
            200,
            "~a",
        ),
        (
            "a chunk that is too long",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            200,
            "~a",
        ),
        ("only interim responses", "INTERIM", 502, ""),
        ("a head without end", "LONG", 502, ""),
    ];
    for &(what, bytes, expected, content) in table {
        let answer = match bytes {
            "INTERIM" => "HTTP/1.1 102 Processing\r\n\r\n".repeat(50),
            "LONG" => format!("HTTP/1.1 200 OK\r\n{}", "X-Long: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(2000)),
            bytes => bytes.to_owned(),
        };
        let program = Program::start(move |conn| {
            conn.head();
            conn.send(&answer);
            conn.end();
            conn.is_left(Duration::from_secs(5));
        });
        let (server, _dir) = front(&program.address, |_| {});
        let response = get(&server, "/x", "");
        assert_eq!(status(&response), expected, "{what}: {response}");
        if expected != 502 {
            let is_chunked = field(&response, "transfer-encoding").is_some();
            let announced: Option<usize> = field(&response, "content-length").map(|length| length.parse().unwrap());
            let received = body(&response);
            let (text, is_whole) = match is_chunked {
                true => (unchunk(received), received.ends_with("0\r\n\r\n")),
                false => (received.to_owned(), announced.is_none_or(|length| length == received.len())),
            };
            assert_eq!(
                (text.as_str(), is_whole),
                (content.trim_start_matches('~'), !content.starts_with('~')),
                "{what}: {response}"
            );
        }
        assert_eq!(program.requests(), 1, "{what}");
    }
}

fn unchunk(body: &str) -> String {
    let mut lines = body.split("\r\n");
    let mut text = String::new();
    while let (Some(_), Some(chunk)) = (lines.next(), lines.next()) {
        text.push_str(chunk);
    }
    text
}

#[test]
fn connections_are_kept_and_a_dead_one_costs_nothing_that_may_be_repeated() {
    let program = Program::start(|conn| {
        // One answer on each connection; the next request on it finds a closed door.
        if conn.request().is_some() {
            conn.send(ok("once"));
            conn.request();
        }
    });
    let (server, _dir) = front(&program.address, |_| {});
    for _ in 0..4 {
        assert_eq!(body(&get(&server, "/", "")), "once");
    }
    assert_eq!(program.requests(), 7, "each but the first was sent to a kept connection, and again to a new one");
    // What changes something is not tried where that can happen.
    let post = "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
    let before = program.requests();
    for _ in 0..3 {
        assert_eq!(body(&server.talk(post)), "once");
    }
    assert_eq!(program.requests(), before + 3);
}

#[test]
fn a_program_that_dies_at_each_request_is_asked_once_more_at_most() {
    let program = Program::start(|conn| {
        if conn.number == 0 {
            conn.request();
            conn.send(ok("first"));
        }
        conn.request();
    });
    let (server, _dir) = front(&program.address, |_| {});
    assert_eq!(status(&get(&server, "/", "")), 200);
    assert_eq!(status(&get(&server, "/", "")), 502);
    assert_eq!(program.requests(), 3);
}

#[test]
fn a_program_that_is_not_there_gives_502() {
    let (server, dir) = front("http://127.0.0.1:9", |settings| {
        let missing = settings.documents.join("missing.sock");
        settings.routes.insert(0, route("/unix", &format!("unix:{}", missing.display())));
    });
    for path in ["/", "/unix"] {
        assert_eq!(status(&get(&server, path, "")), 502, "{path}");
    }
    drop(dir);
}

#[test]
fn a_program_that_does_not_answer_gives_504_and_others_are_served() {
    let program = Program::start(|conn| {
        let head = conn.head().unwrap();
        if head.starts_with("GET /quick") {
            conn.send(ok("quick"));
        }
        conn.is_left(Duration::from_secs(20));
    });
    let (server, _dir) = front(&program.address, |settings| settings.timeouts.request = Duration::from_millis(1500));
    let start = Instant::now();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| get(&server, "/slow", ""));
        assert_eq!(body(&get(&server, "/quick", "")), "quick");
        assert!(start.elapsed() < Duration::from_secs(1));
        assert_eq!(status(&slow.join().unwrap()), 504);
    });
    assert!(start.elapsed() > Duration::from_millis(1400) && start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_client_that_sends_its_body_too_slowly_gets_408() {
    let program = Program::start(|conn| {
        conn.head();
        assert!(conn.is_left(Duration::from_secs(20)));
    });
    let (server, _dir) = front(&program.address, |settings| settings.timeouts.request = Duration::from_millis(1200));
    let mut stream = server.connect();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n").unwrap();
    let mut writer = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        while writer.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let start = Instant::now();
    assert_eq!(status(&read_to_close(&mut stream)), 408);
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(stream);
    sending.join().unwrap();
}

#[test]
fn a_program_that_stalls_in_its_answer_is_cut_and_one_that_stops_reading_gives_504() {
    let program = Program::start(|conn| {
        if conn.head().unwrap().starts_with("GET") {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
            conn.is_left(Duration::from_secs(20));
        } else {
            std::thread::sleep(Duration::from_secs(6));
        }
    });
    let (server, _dir) = front(&program.address, |settings| settings.timeouts.inactivity = Duration::from_millis(700));
    let start = Instant::now();
    let response = get(&server, "/", "");
    assert_eq!((status(&response), body(&response)), (200, "half"));
    assert!(start.elapsed() < Duration::from_secs(4));

    let mut stream = server.connect();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n").unwrap();
    let mut writer = stream.try_clone().unwrap();
    let feeding = std::thread::spawn(move || while writer.write_all(&[b'x'; 65536]).is_ok() {});
    let response = read_to_close(&mut stream);
    assert_eq!(status(&response), 504, "{response}");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    feeding.join().unwrap();
}

#[test]
fn requests_wait_for_their_turn_and_not_too_long() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let program = Program::start(move |conn| {
        while conn.request().is_some() {
            gate.lock().unwrap().recv().ok();
            conn.send(ok("served"));
        }
    });
    let (server, _dir) = front(&program.address, |settings| settings.proxy.connections = 2);
    std::thread::scope(|scope| {
        let working: Vec<_> = (0..2).map(|_| scope.spawn(|| get(&server, "/", ""))).collect();
        std::thread::sleep(Duration::from_millis(200));
        let start = Instant::now();
        let refused = get(&server, "/", "");
        assert_eq!(status(&refused), 503);
        assert_eq!(field(&refused, "retry-after").as_deref(), Some("1"));
        assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
        let waiting = scope.spawn(|| get(&server, "/", ""));
        std::thread::sleep(Duration::from_millis(100));
        for _ in 0..3 {
            release.send(()).unwrap();
        }
        for request in working {
            assert_eq!(body(&request.join().unwrap()), "served");
        }
        assert_eq!(body(&waiting.join().unwrap()), "served");
    });
    assert!(program.count() <= 2, "{}", program.count());
}

#[test]
fn a_client_that_leaves_ends_the_work_of_the_program() {
    let (left, is_left) = mpsc::channel();
    let left = std::sync::Mutex::new(left);
    let program = Program::start(move |conn| {
        let head = conn.head().unwrap();
        if head.starts_with("GET /stream") {
            conn.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
        }
        let gone = conn.is_left(Duration::from_secs(3));
        left.lock().unwrap().send(gone).unwrap();
    });
    let (server, _dir) = front(&program.address, |_| {});
    for request in [
        "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /part HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\npart",
        "POST /part HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
    ] {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        drop(stream);
        assert!(is_left.recv().unwrap(), "{request}");
    }
}

#[test]
fn a_client_that_only_ends_its_side_gets_its_answer() {
    let program = Program::start(|conn| {
        conn.request();
        std::thread::sleep(Duration::from_millis(300));
        conn.send(ok("late"));
    });
    let (server, _dir) = front(&program.address, |_| {});
    assert_eq!(body(&get(&server, "/", "")), "late");
}

#[test]
fn a_body_that_is_broken_off_never_looks_whole_to_the_program() {
    let (seen, ends) = mpsc::channel();
    let seen = std::sync::Mutex::new(seen);
    let program = Program::start(move |conn| {
        conn.head();
        let mut last = None;
        while let Some(chunk) = conn.chunk() {
            let is_end = chunk.is_empty();
            last = Some(is_end);
            if is_end {
                break;
            }
        }
        seen.lock().unwrap().send(last).unwrap();
    });
    let (server, _dir) = front(&program.address, |_| {});
    for rest in ["zz\r\n", "5\r\nab", ""] {
        let request = format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n{rest}");
        let response = server.talk(request);
        assert_eq!(status(&response), 400, "{rest:?} {response}");
        assert_ne!(ends.recv().unwrap(), Some(true), "{rest:?}");
    }
}

#[test]
fn a_program_that_refuses_early_is_heard() {
    let program = Program::start(|conn| {
        conn.head();
        conn.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo big\n");
        conn.end();
        conn.is_left(Duration::from_secs(5));
    });
    let (server, _dir) = front(&program.address, |_| {});
    let mut stream = server.connect();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000000\r\n\r\n").unwrap();
    let mut writer = stream.try_clone().unwrap();
    let feeding = std::thread::spawn(move || while writer.write_all(&[b'x'; 65536]).is_ok() {});
    let response = read_to_close(&mut stream);
    assert_eq!((status(&response), body(&response)), (413, "too big\n"));
    feeding.join().unwrap();
}

#[test]
fn a_route_that_leads_to_itself_ends() {
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let dir = web_support::Dir::new();
    let mut settings = web_support::settings(dir.0.clone());
    settings.routes = vec![route("", &format!("http://127.0.0.1:{port}"))];
    let server = web_support::server(settings).listen(&format!("http://127.0.0.1:{port}")).unwrap();
    let server = web_support::Running::start(server);
    assert_eq!(status(&get(&server, "/", "")), 508);
}

#[test]
fn who_waits_for_a_slow_program_keeps_its_place_when_others_want_it() {
    let program = Program::start(|conn| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-");
            std::thread::sleep(Duration::from_secs(3));
            conn.send("Length: 4\r\n\r\nslow");
        }
    });
    let (server, _dir) = front(&program.address, |web| web.limits.connections = 2);
    let mut waiting: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for stream in &mut waiting {
        stream.write_all(b"GET /app/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(status(&get(&server, "/app/x", "")), 503);
    for mut stream in waiting {
        let response = read_to_close(&mut stream);
        assert_eq!((status(&response), body(&response)), (200, "slow"), "{response}");
    }
}

#[test]
fn a_tab_in_the_type_of_an_answer_is_no_fault() {
    let program = Program::answering(|_, _| {
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html;\tcharset=utf-8\r\nContent-Length: 2\r\n\r\nok".to_vec()
    });
    let (server, _dir) = front(&program.address, |_| {});
    let answer = get(&server, "/", "");
    assert!(answer.contains("Content-Type: text/html; charset=utf-8\r\n") && status(&answer) == 200, "{answer}");
}
