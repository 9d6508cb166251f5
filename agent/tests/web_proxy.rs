//! Programs behind the server, over real sockets: what is passed on, and how.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod proxy_support;
mod web_support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use proxy_support::{Program, front, ok, route};
use web_support::{body, field, get, read_response, read_to_close, status};

#[test]
fn a_request_is_passed_on_and_the_response_comes_back() {
    let program = Program::answering(|head, body| {
        let line = head.lines().next().unwrap();
        ok(&format!("{line} {}", String::from_utf8_lossy(body)))
    });
    let (server, _dir) = front(&format!("{}/base/", program.address), |_| {});
    let mut stream = server.connect();
    for (request, expected) in [
        ("GET /a%20b?c=%2f&d HTTP/1.1\r\nHost: h\r\n\r\n", "GET /base/a%20b?c=%2f&d HTTP/1.1 "),
        ("GET http://h/x?y HTTP/1.1\r\nHost: h\r\n\r\n", "GET /base/x?y HTTP/1.1 "),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", "POST /base/ HTTP/1.1 hello"),
        (
            "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: x\r\n\r\n",
            "PUT /base/x HTTP/1.1 abcde",
        ),
        ("DELETE /x HTTP/1.1\r\nHost: h\r\n\r\n", "DELETE /base/x HTTP/1.1 "),
        ("OPTIONS /x HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS /base/x HTTP/1.1 "),
        ("PROPFIND /x HTTP/1.1\r\nHost: h\r\n\r\n", "PROPFIND /base/x HTTP/1.1 "),
    ] {
        stream.write_all(request.as_bytes()).unwrap();
        let (head, body) = read_response(&mut stream);
        assert_eq!((status(&head), String::from_utf8_lossy(&body).as_ref()), (200, expected), "{head}");
    }
    assert!(get(&server, "/..%2fx", "").starts_with("HTTP/1.1 400"));
}

#[test]
fn fields_of_one_connection_and_what_a_client_says_about_itself_stay_behind() {
    let program = Program::answering(|_, _| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
          Server: secret/1\r\nDate: yesterday\r\nX-App: yes\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Frame-Options: DENY\r\n\
          Proxy-Authenticate: Basic\r\nTrailer: X-T\r\nX-Content-Type-Options: nosniff\r\nContent-Type: text/html\r\n\r\nok"
            .to_vec()
    });
    let (server, _dir) = front(&program.address, |settings| {
        settings.headers = vec![("X-Frame-Options".into(), "SAMEORIGIN".into()), ("X-Static".into(), "1".into())];
    });
    let response = get(
        &server,
        "/",
        "Connection: X-Hop, x-forwarded-for\r\nX-Hop: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\nProxy-Authorization: x\r\n\
         X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-User: admin\r\nX-Forwarded-Role: admin\r\nX_Forwarded_User: admin\r\n\
         x-FORWARDED-proto: https\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-End: stays\r\nAuthorization: Basic YTpi\r\n\
         Cookie: a=1\r\nHTTP2-Settings: x\r\nUpgrade: h2c\r\n",
    );
    let head = program.last();
    let lower = head.to_lowercase();
    for gone in [
        "x-hop",
        "\r\nte:",
        "keep-alive",
        "proxy-auth",
        "6.6.6.6",
        "-user",
        "_user",
        "-role",
        "https",
        "upgrade",
        "http2",
    ] {
        assert!(!lower.contains(gone), "{gone}: {head}");
    }
    assert_eq!(field(&head, "host").as_deref(), Some("h"));
    assert_eq!(field(&head, "x-end").as_deref(), Some("stays"));
    // Without a role at the gate these are for the program.
    assert_eq!(field(&head, "authorization").as_deref(), Some("Basic YTpi"));
    assert_eq!(field(&head, "cookie").as_deref(), Some("a=1"));
    assert_eq!(field(&head, "x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(field(&head, "x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(field(&head, "x-forwarded-host").as_deref(), Some("h"));
    assert!(field(&head, "via").unwrap().starts_with("1.1 ioto-"), "{head}");

    assert_eq!(body(&response), "ok");
    let lower = response.to_lowercase();
    for gone in ["x-mine", "keep-alive", "secret", "yesterday", "proxy-auth", "trailer", "sameorigin"] {
        assert!(!lower.contains(gone), "{gone}: {response}");
    }
    for once in [
        "x-app: yes",
        "set-cookie: a=1",
        "set-cookie: b=2",
        "x-frame-options: deny",
        "nosniff",
        "\r\ndate:",
        "x-static: 1",
        "content-type: text/html",
    ] {
        assert_eq!(lower.matches(once).count(), 1, "{once}: {response}");
    }
}

#[test]
fn a_head_request_has_the_length_and_no_body() {
    let program = Program::answering(|_, _| b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n".to_vec());
    let (server, _dir) = front(&program.address, |_| {});
    let mut stream = server.connect();
    for _ in 0..3 {
        stream.write_all(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(String::from_utf8(head).unwrap().contains("Content-Length: 12345"));
    }
    assert_eq!(program.count(), 1, "the connection was kept");
}

#[test]
fn events_are_passed_on_at_once_and_for_longer_than_a_request_may_take() {
    let (seen, next) = mpsc::channel();
    let next = std::sync::Mutex::new(next);
    let program = Program::start(move |conn| {
        conn.head();
        conn.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        for event in 0..8 {
            conn.send(format!("data: {event}\n\n"));
            // Nothing more comes before the client has this one.
            assert_eq!(next.lock().unwrap().recv(), Ok(event));
            std::thread::sleep(Duration::from_millis(250));
        }
    });
    let (server, _dir) = front(&program.address, |settings| settings.timeouts.request = Duration::from_secs(1));
    let mut stream = server.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut received = String::new();
    let mut buffer = [0; 4096];
    for event in 0..8 {
        while !received.contains(&format!("data: {event}\n\n")) {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "{received}");
            received.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        seen.send(event).unwrap();
    }
    assert!(read_to_close_or_last_chunk(&mut stream).ends_with("0\r\n\r\n"));
}

fn read_to_close_or_last_chunk(stream: &mut impl Read) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.ends_with("0\r\n\r\n") {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            read => text.push_str(&String::from_utf8_lossy(&buffer[..read])),
        }
    }
    text
}

#[test]
fn who_waits_to_be_asked_for_its_body_is_asked() {
    let program = Program::answering(|head, body| {
        assert!(field(head, "expect").is_none());
        ok(&body.len().to_string())
    });
    let (server, _dir) = front(&program.address, |_| {});
    let mut stream = server.connect();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").unwrap();
    assert_eq!(read_response(&mut stream).1, b"5");
}

#[test]
fn websockets_go_through_with_half_closed_sides() {
    let program = Program::start(|conn| {
        let head = conn.head().unwrap();
        assert!(head.contains("Upgrade: websocket") && head.contains("Connection: Upgrade"), "{head}");
        conn.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nfirst",
        );
        let mut all = Vec::new();
        conn.stream.read_to_end(&mut all).unwrap();
        conn.send(format!("got {}", all.len()));
    });
    let (server, _dir) = front(&program.address, |settings| settings.timeouts.request = Duration::from_secs(1));
    let mut stream = server.connect();
    let head = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: x\r\n\r\n";
    // The first bytes come with the request.
    stream.write_all(format!("{head}early").as_bytes()).unwrap();
    let mut answer = vec![0; 4096];
    let mut length = 0;
    while !answer[..length].ends_with(b"first") {
        length += stream.read(&mut answer[length..]).unwrap();
    }
    let answer = String::from_utf8(answer[..length].to_vec()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("Sec-WebSocket-Accept: x\r\n"), "{answer}");
    std::thread::sleep(Duration::from_millis(1300));
    stream.write_all(&vec![b'x'; 300_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_close(&mut stream), "got 300005");

    let (off, _dir) = front(&program.address, |settings| settings.sockets.enable = false);
    assert_eq!(status(&off.talk(head)), 403);
}

#[test]
fn a_websocket_on_which_nothing_moves_ends_and_the_stop_ends_the_rest() {
    let program = Program::start(|conn| {
        conn.head();
        conn.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
        assert!(conn.is_left(Duration::from_secs(10)));
    });
    let head = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (server, _dir) = front(&program.address, |settings| settings.timeouts.inactivity = Duration::from_millis(500));
    let mut stream = server.connect();
    stream.write_all(head).unwrap();
    let start = Instant::now();
    assert!(read_to_close(&mut stream).starts_with("HTTP/1.1 101"));
    assert!(start.elapsed() > Duration::from_millis(400) && start.elapsed() < Duration::from_secs(3));

    let (server, _dir) = front(&program.address, |_| {});
    let mut stream = server.connect();
    stream.write_all(head).unwrap();
    stream.read_exact(&mut [0; 12]).unwrap();
    let start = Instant::now();
    server.handle.stop();
    server.join();
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
}

#[test]
fn a_program_on_a_unix_socket_is_asked_there() {
    let (server, dir) = front("http://127.0.0.1:9", |settings| {
        let socket = settings.documents.join("app.sock");
        settings.routes = vec![route("", &format!("unix:{}:/base", socket.display()))];
    });
    let listener = UnixListener::bind(dir.0.join("app.sock")).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        assert!(buffer[..length].starts_with(b"GET /base/x HTTP/1.1\r\nHost: h\r\n"));
        stream.write_all(&ok("unix")).unwrap();
    });
    assert_eq!(body(&get(&server, "/x", "")), "unix");
}

#[test]
fn methods_of_the_route_are_kept() {
    let program = Program::answering(|_, _| ok("yes"));
    let (server, _dir) = front(&program.address, |settings| settings.routes[0].methods = vec!["GET".into()]);
    assert_eq!(status(&get(&server, "/", "")), 200);
    let refused = server.talk("POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((status(&refused), field(&refused, "allow").as_deref()), (405, Some("GET, HEAD, OPTIONS")));
    assert_eq!(program.requests(), 1);
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    let program = Program::answering(|_, _| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nold\r\n0\r\n\r\n".to_vec()
    });
    let (server, _dir) = front(&program.address, |_| {});
    let response = server.talk("GET / HTTP/1.0\r\nHost: h\r\n\r\n");
    assert_eq!((field(&response, "transfer-encoding"), body(&response)), (None, "old"));
    assert_eq!(status(&server.talk("GET / HTTP/1.0\r\n\r\n")), 200);
    assert_eq!(field(&program.last(), "host").as_deref(), Some("localhost"));
}

#[test]
fn random_bodies_come_back_from_a_program_that_answers_while_it_reads() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let program = Program::start(|conn| {
        while let Some(head) = conn.head() {
            if field(&head, "transfer-encoding").is_none() {
                conn.send(ok("none"));
                continue;
            }
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while let Some(chunk) = conn.chunk() {
                if chunk.is_empty() {
                    conn.send("0\r\n\r\n");
                    break;
                }
                // In two pieces, so that chunks come apart.
                let (first, second) = chunk.split_at(chunk.len() / 2);
                conn.send(format!("{:x}\r\n", chunk.len()));
                conn.send(first);
                conn.send(second);
                conn.send("\r\n");
            }
        }
    });
    let (server, _dir) = front(&program.address, |_| {});
    let mut stream = server.connect();
    for _ in 0..12 {
        let length = random.usize(1..400_000);
        let body: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        let mut request = b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let mut rest = body.as_slice();
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(random.usize(1..=rest.len().min(30_000)));
            request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.extend_from_slice(chunk);
            request.extend_from_slice(b"\r\n");
            rest = later;
        }
        request.extend_from_slice(b"0\r\n\r\n");
        let mut writer = stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || writer.write_all(&request).unwrap());
        assert!(read_chunked(&mut stream) == body, "seed {seed}");
        sending.join().unwrap();
    }
    assert_eq!(program.count(), 12, "what may not be repeated goes to new connections");
}

/// A chunked response's body.
fn read_chunked(stream: &mut impl Read) -> Vec<u8> {
    let mut byte = [0];
    let mut line = |stream: &mut dyn Read| {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            stream.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap().trim().to_owned()
    };
    while !line(stream).is_empty() {}
    let mut body = Vec::new();
    loop {
        let size = usize::from_str_radix(&line(stream), 16).unwrap();
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..]).unwrap();
        assert_eq!(line(stream), "");
        if size == 0 {
            return body;
        }
    }
}

#[test]
fn a_client_with_tls_can_tell_a_part_from_the_whole() {
    let program = Program::start(|conn| {
        conn.head();
        conn.send("HTTP/1.1 200 OK\r\n\r\nall of it");
        conn.end();
        conn.request();
    });
    let cut = Program::start(|conn| {
        conn.head();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n");
        conn.end();
        conn.request();
    });
    let dir = web_support::Dir::new();
    let mut settings = web_support::settings(dir.0.clone());
    settings.routes = vec![route("/all", &program.address), route("/cut", &cut.address)];
    let (certificate, key) = ioto::web::own_certificate(&dir.0.join("certs"), &["localhost".into()]).unwrap();
    let tls = ioto::net::tls_server::server_config(&certificate, &key).unwrap();
    let server = web_support::server(settings).listen("https://127.0.0.1:0").unwrap().tls(tls);
    let server = web_support::Running::start(server);
    let url = |path: &str| format!("https://{}{path}", server.address());
    assert_eq!(web_support::curl(&["-k", &url("/all")]), "all of it");
    let output = std::process::Command::new("curl").args(["-sSk", "--max-time", "20", &url("/cut")]).output().unwrap();
    assert!(!output.status.success() && output.stdout == b"part", "{output:?}");
    assert!(program.last().contains("X-Forwarded-Proto: https\r\n"));
}
