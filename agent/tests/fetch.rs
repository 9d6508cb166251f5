//! The HTTP client against servers that do what servers do, right and wrong.

#![cfg(feature = "fetch")]
#![allow(clippy::unwrap_used)]

mod fetch_support;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use fetch_support::{Directory, Python, Server, pause};
use ioto::fetch::{Body, Client, Error, Options, Response, Stage, Timeouts};
use ioto::http1;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

const LIMIT: usize = 1024 * 1024;

fn get(server: &Server) -> Result<Response, Error> {
    smol::block_on(Client::default().get(&format!("{}/path?query", server.url)).send())
}

fn get_text(server: &Server) -> Result<String, Error> {
    smol::block_on(get(server)?.text(LIMIT))
}

/// Short deadlines, for servers that keep us waiting.
fn impatient() -> Client {
    let soon = Duration::from_millis(300);
    Client::new(Options { timeouts: Timeouts { head: soon, idle: soon, ..Default::default() }, ..Default::default() })
}

#[test]
fn a_request_says_who_asks_and_whom() {
    let server = Server::mirror();
    let host = server.url.trim_start_matches("http://").to_owned();
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!("GET /path?query HTTP/1.1\nHost: {host}\nUser-Agent: ioto/{version}\nAccept: */*\n\n");
    assert_eq!(get_text(&server).unwrap(), expected);
}

#[test]
fn bodies_are_sent_with_their_length_or_in_chunks() {
    let server = Server::mirror();
    let client = Client::default();
    let send = |body: Body| {
        let request = client.post(&server.url).header("Content-Type", "text/plain").body(body);
        smol::block_on(async { request.send().await?.text(LIMIT).await }).unwrap()
    };
    let text = send("hello".into());
    assert!(text.contains("Content-Type: text/plain\n") && text.ends_with("Content-Length: 5\n\nhello"), "{text}");
    let reader = |text: &'static str| smol::io::Cursor::new(text.as_bytes());
    assert!(send(Body::reader(Some(5), reader("hello, and more"))).ends_with("Content-Length: 5\n\nhello"));
    assert!(send(Body::reader(None, reader("hello"))).ends_with("Transfer-Encoding: chunked\n\nhello|"));
    assert!(send(Body::reader(None, reader(""))).ends_with("Transfer-Encoding: chunked\n\n"));
    assert!(send(Body::empty()).ends_with("Content-Length: 0\n\n"));
    let large = "x".repeat(300_000);
    assert!(send(large.as_str().into()).ends_with(&large));
    assert_eq!(server.connections(), 1, "all on one connection");
}

#[test]
fn a_reader_that_promised_too_much_is_an_error() {
    let server = Server::mirror();
    let body = Body::reader(Some(10), smol::io::Cursor::new(b"short"));
    let error = smol::block_on(Client::default().put(&server.url).body(body).send()).unwrap_err();
    assert!(matches!(error, Error::Body(_)), "{error}");
}

#[test]
fn json_goes_both_ways() {
    let server = Server::new(|peer| {
        let request = peer.request().unwrap();
        assert!(request.contains("Content-Type: application/json\n"));
        peer.answer(201, "", request.split("\n\n").nth(1).unwrap());
    });
    let value = serde_json::json!({"name": "temperature", "value": 21.5});
    let response = smol::block_on(Client::default().post(&server.url).json(&value).send()).unwrap();
    assert_eq!((response.status(), smol::block_on(response.json(LIMIT)).unwrap()), (201, value));
    assert!(matches!(smol::block_on(get(&Server::mirror()).unwrap().json(LIMIT)), Err(Error::Json(_))));
}

#[test]
fn a_slow_server_is_waited_for_while_bytes_come() {
    let server = Server::new(|peer| {
        peer.request();
        for byte in
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
        {
            peer.send(&[*byte]);
            pause(3);
        }
    });
    assert_eq!(get_text(&server).unwrap(), "abcde");
}

#[test]
fn a_body_without_length_ends_with_the_connection() {
    let server = Server::closing("HTTP/1.0 200 OK\r\n\r\nall of it");
    assert_eq!(get_text(&server).unwrap(), "all of it");
}

#[test]
fn what_has_no_body_ends_with_its_head_and_keeps_the_connection() {
    for (method, status) in [(http1::Method::Head, 200), (http1::Method::Get, 204), (http1::Method::Get, 304)] {
        let server = Server::answering(format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n"));
        let client = Client::default();
        for _ in 0..3 {
            let response = smol::block_on(client.request(method.clone(), &server.url).send()).unwrap();
            assert_eq!((response.status(), response.remaining()), (status, Some(0)));
            assert_eq!(smol::block_on(response.bytes(LIMIT)).unwrap(), b"");
        }
        assert_eq!(server.connections(), 1);
    }
}

#[test]
fn interim_responses_are_skipped_up_to_a_limit() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let server = Server::answering(format!("{hints}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    assert_eq!(get_text(&server).unwrap(), "ok");
    let server = Server::new(|peer| while peer.send(b"HTTP/1.1 100 Continue\r\n\r\n") {});
    assert!(matches!(get_text(&server), Err(Error::Response { .. })));
}

#[test]
fn an_answer_that_breaks_off_is_an_error_not_a_short_body() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\nContent-",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfive!\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfive!\r\n0\r\n",
    ] {
        let error = get_text(&Server::closing(answer)).unwrap_err();
        assert!(error.is_transient(), "{answer:?}: {error}");
        let truncated = matches!(error, Error::Response { source: http1::Error::Truncated, .. });
        assert!(truncated && error.to_string().contains("closed the connection"), "{answer:?}: {error}");
    }
}

#[test]
fn a_stream_that_breaks_off_says_so_at_every_read() {
    let server = Server::closing("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!");
    let mut response = get(&server).unwrap();
    smol::block_on(async {
        for _ in 0..2 {
            let error = response.read_to_end(&mut Vec::new()).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        }
    });
}

#[test]
fn wrong_framing_is_refused() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/3 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
    ] {
        let error = get_text(&Server::closing(answer)).unwrap_err();
        assert!(matches!(error, Error::Response { .. }) && !error.is_transient(), "{answer:?}: {error}");
    }
}

#[test]
fn endless_heads_and_bodies_end_at_their_limit() {
    let head = Server::new(|peer| {
        peer.send(b"HTTP/1.1 200 OK\r\n");
        while peer.send(b"X-Again: and again\r\n") {}
    });
    assert!(matches!(
        get(&head),
        Err(Error::Response { source: http1::Error::HeadTooLarge | http1::Error::TooManyHeaders, .. })
    ));
    let line = Server::new(|peer| while peer.send(b"HTTP/1.1 200 OKOKOKOKOKOKOK") {});
    assert!(matches!(get(&line), Err(Error::Response { .. })));
    let body = Server::new(|peer| {
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n");
        while peer.send(&[b'x'; 4096]) {}
    });
    assert!(matches!(get_text(&body), Err(Error::TooLarge { limit: LIMIT })));
    let stated = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n");
    assert!(matches!(get_text(&stated), Err(Error::TooLarge { .. })), "refused before a byte of it came");
}

#[test]
fn a_body_as_large_as_the_limit_fits() {
    for framing in ["Content-Length: 5\r\n", "Connection: close\r\n"] {
        let server = Server::closing(format!("HTTP/1.1 200 OK\r\n{framing}\r\nhello"));
        assert_eq!(smol::block_on(get(&server).unwrap().bytes(5)).unwrap(), b"hello");
        assert!(matches!(smol::block_on(get(&server).unwrap().bytes(4)), Err(Error::TooLarge { limit: 4 })));
    }
    let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\u{fc}");
    assert!(matches!(get_text(&server), Err(Error::Text)));
}

#[test]
fn redirections_follow_the_rules_of_their_status() {
    let server = Server::new(|peer| {
        while let Some(request) = peer.request() {
            match request.split(' ').nth(1).unwrap() {
                "/303" => peer.answer(303, "Location: /there\r\n", "gone there"),
                "/307" => peer.answer(307, "Location: there?x\r\n", ""),
                "/loop" => peer.answer(302, "Location: /loop\r\n", ""),
                "/ftp" => peer.answer(302, "Location: ftp://other/\r\n", ""),
                "/nowhere" => peer.answer(302, "", "stay"),
                _ => peer.answer(200, "", &request),
            }
        }
    });
    let client = Client::default();
    let post = |path: &str, body: Body| {
        let request = client.post(&format!("{}{path}", server.url)).header("Content-Type", "text/plain").body(body);
        smol::block_on(async {
            let response = request.send().await?;
            let path = response.url().target().to_owned();
            Ok::<_, Error>((path, response.text(LIMIT).await?))
        })
    };
    let (path, request) = post("/303", "hello".into()).unwrap();
    assert!(path == "/there" && request.starts_with("GET /there HTTP") && !request.contains("Content-"), "{request}");
    let (path, request) = post("/307", "hello".into()).unwrap();
    assert!(path == "/there?x" && request.starts_with("POST /there?x") && request.ends_with("\n\nhello"), "{request}");
    assert!(request.contains("Content-Type: text/plain"));
    assert!(matches!(post("/loop", Body::empty()), Err(Error::Redirects { limit: 10, .. })));
    assert!(matches!(post("/ftp", Body::empty()), Err(Error::Redirect { .. })));
    assert_eq!(post("/nowhere", Body::empty()).unwrap().1, "stay");
    let once = Body::reader(None, smol::io::Cursor::new(b"once"));
    assert!(matches!(post("/307", once), Err(Error::Redirect { .. })));
    assert_eq!(server.connections(), 1, "the connection serves along the way");

    let here = Client::new(Options { redirects: 0, ..Default::default() });
    assert_eq!(smol::block_on(here.get(&format!("{}/loop", server.url)).send()).unwrap().status(), 302);
}

#[test]
fn the_body_of_a_redirection_is_not_waited_for() {
    let server = Server::new(|peer| match peer.request().unwrap().starts_with("GET /there") {
        true => peer.answer(200, "", "here"),
        false => {
            peer.send(b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 9\r\n\r\n...");
            pause(10_000);
        }
    });
    let start = Instant::now();
    assert_eq!(get_text(&server).unwrap(), "here");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn another_origin_does_not_see_credentials() {
    let other = Server::mirror();
    let location = other.url.clone();
    let server = Server::new(move |peer| {
        while let Some(request) = peer.request() {
            assert!(request.contains("Authorization: Basic dXNlcjpwYXNz\n") && request.contains("Cookie: a=b\n"));
            match request.starts_with("GET /away") {
                true => peer.answer(302, &format!("Location: {location}/\r\n"), ""),
                false => peer.answer(302, "Location: /away\r\n", ""),
            }
        }
    });
    let url = server.url.replace("http://", "http://user:pass@");
    let request = Client::default().get(&url).header("Cookie", "a=b").header("X-Trace", "kept");
    let seen = smol::block_on(async { request.send().await?.text(LIMIT).await }).unwrap();
    assert!(!seen.contains("Authorization") && !seen.contains("Cookie") && seen.contains("X-Trace: kept"), "{seen}");
    assert!(seen.contains(&other.url.replace("http://", "Host: ")), "{seen}");
}

#[test]
fn a_connection_that_the_server_closed_is_replaced() {
    let server = Server::closing("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let client = Client::default();
    for _ in 0..3 {
        let response = smol::block_on(client.post(&server.url).body("x").send()).unwrap();
        assert_eq!(smol::block_on(response.text(LIMIT)).unwrap(), "ok");
        pause(50);
    }
    assert_eq!(server.connections(), 3);
}

/// Answers the first request of a connection and closes when the second has come.
fn forgetful() -> Server {
    Server::new(|peer| {
        peer.request();
        peer.answer(200, "", "ok");
        peer.request();
    })
}

#[test]
fn a_connection_that_dies_under_a_repeatable_request_is_replaced_once() {
    let server = forgetful();
    let client = Client::default();
    let ask = |request: ioto::fetch::Request| smol::block_on(async { request.send().await?.text(LIMIT).await });
    assert_eq!(ask(client.get(&server.url)).unwrap(), "ok");
    assert_eq!(ask(client.get(&server.url)).unwrap(), "ok");
    assert_eq!(server.connections(), 2);
    assert_eq!(ask(client.post(&server.url).body("x").repeatable(true)).unwrap(), "ok");
    assert_eq!(server.connections(), 3);
}

#[test]
fn a_request_that_may_have_been_acted_on_is_not_repeated() {
    let server = forgetful();
    let client = Client::default();
    let ask = |request: ioto::fetch::Request| smol::block_on(async { request.send().await?.text(LIMIT).await });
    ask(client.get(&server.url)).unwrap();
    let error = ask(client.post(&server.url).body("x")).unwrap_err();
    assert!(error.is_transient() && server.connections() == 1, "{error}");
    ask(client.get(&server.url)).unwrap();
    let body = Body::reader(None, smol::io::Cursor::new(b"once"));
    ask(client.put(&server.url).body(body)).unwrap_err();
    assert_eq!(server.connections(), 2);
}

#[test]
fn what_follows_a_response_unasked_is_not_the_next_response() {
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine".to_owned()
        + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let server = Server::answering(two);
    let client = Client::default();
    for _ in 0..3 {
        let response = smol::block_on(client.get(&server.url).send()).unwrap();
        assert_eq!(smol::block_on(response.text(LIMIT)).unwrap(), "mine");
    }
    assert_eq!(server.connections(), 3);
}

#[test]
fn a_response_that_is_dropped_half_read_does_not_spoil_the_next() {
    let server = Server::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000)));
    let client = Client::default();
    for _ in 0..2 {
        let mut response = smol::block_on(client.get(&server.url).send()).unwrap();
        assert_eq!(response.remaining(), Some(100_000));
        smol::block_on(response.read_exact(&mut [0; 10])).unwrap();
        assert_eq!(response.remaining(), Some(99_990));
    }
    assert_eq!(server.connections(), 2);
}

#[test]
fn an_early_refusal_of_a_large_body_is_seen() {
    let server = Server::new(|peer| {
        peer.head();
        peer.answer(413, "Connection: close\r\n", "too large");
        // The client must not need us to read on; closing at once could take the answer away with it.
        pause(500);
    });
    let in_use = Arc::new(());
    let endless = Body::reader(None, Endless(in_use.clone()));
    let response = smol::block_on(Client::default().post(&server.url).body(endless).send()).unwrap();
    assert_eq!(Arc::strong_count(&in_use), 1, "nothing more is sent");
    assert_eq!((response.status(), smol::block_on(response.text(LIMIT)).unwrap().as_str()), (413, "too large"));
}

/// A body without end.
struct Endless(#[allow(dead_code)] Arc<()>);

impl AsyncRead for Endless {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<std::io::Result<usize>> {
        buf.fill(b'x');
        Poll::Ready(Ok(buf.len()))
    }
}

#[test]
fn request_and_response_can_stream_at_the_same_time() {
    let server = Server::new(|peer| {
        peer.head();
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Some(size) = peer.line().filter(|size| size != "0") {
            let size = usize::from_str_radix(&size, 16).unwrap();
            let chunk = peer.exactly(size).to_uppercase();
            peer.line();
            peer.send(format!("{size:x}\r\n{chunk}\r\n").as_bytes());
        }
        peer.send(b"0\r\n\r\n");
    });
    smol::block_on(async {
        let (reader, mut writer) = smol::net::unix::UnixStream::pair().unwrap();
        let mut response = Client::default().post(&server.url).body(Body::reader(None, reader)).send().await.unwrap();
        for word in ["one", "two", "three"] {
            writer.write_all(word.as_bytes()).await.unwrap();
            let mut echo = vec![0; word.len()];
            response.read_exact(&mut echo).await.unwrap();
            assert_eq!(echo, word.to_uppercase().as_bytes());
        }
        drop(writer);
        assert_eq!(response.text(LIMIT).await.unwrap(), "");
    });
}

#[test]
fn silence_ends_at_its_deadline() {
    let stage_of = |error: Error| match error {
        Error::Timeout { stage, .. } => stage,
        other => panic!("{other}"),
    };
    let start = Instant::now();
    let silent = Server::new(|peer| while peer.line().is_some() {});
    let no_head = smol::block_on(impatient().get(&silent.url).send()).unwrap_err();
    assert_eq!(stage_of(no_head), Stage::Head);

    let dripping = Server::new(|peer| {
        peer.send(b"HTTP/1.1 200 OK\r\nX: ");
        while peer.send(b"x") {
            pause(10);
        }
    });
    let late_head = smol::block_on(impatient().get(&dripping.url).send()).unwrap_err();
    assert_eq!(stage_of(late_head), Stage::Head);

    let stuck = Server::new(|peer| {
        peer.request();
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
        peer.line();
    });
    let response = smol::block_on(impatient().get(&stuck.url).send()).unwrap();
    assert_eq!(stage_of(smol::block_on(response.text(LIMIT)).unwrap_err()), Stage::Idle);

    let deaf = Server::new(|_| pause(5000));
    let upload = impatient().post(&deaf.url).body(Body::reader(None, smol::io::repeat(b'x')));
    assert_eq!(stage_of(smol::block_on(upload.send()).unwrap_err()), Stage::Idle);

    let endless = Server::new(|peer| {
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n");
        while peer.send(b"x") {
            pause(20);
        }
    });
    let response = smol::block_on(impatient().get(&endless.url).timeout(Duration::from_millis(500)).send()).unwrap();
    assert_eq!(stage_of(smol::block_on(response.text(LIMIT)).unwrap_err()), Stage::Total);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn fields_that_contradict_the_body_or_split_the_request_are_refused() {
    let server = Server::mirror();
    for (name, value) in
        [("Content-Length", "5"), ("transfer-encoding", "chunked"), ("Connection", "close"), ("Expect", "x")]
    {
        let error = smol::block_on(Client::default().get(&server.url).header(name, value).send()).unwrap_err();
        assert!(matches!(error, Error::Header { .. }), "{error}");
    }
    for (name, value) in [("X", "a\r\nY: b"), ("X\r\n", "a"), ("", "a"), ("X", "a\0b")] {
        let error = smol::block_on(Client::default().get(&server.url).header(name, value).send()).unwrap_err();
        assert!(matches!(error, Error::Unsendable(_)), "{error}");
    }
    assert_eq!(server.connections(), 0);
}

#[test]
fn any_cut_of_an_answer_is_an_error_in_bounded_time() {
    let answer =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nT: v\r\n\r\n";
    for cut in 0..=answer.len() {
        let server = Server::closing(&answer[..cut]);
        match get_text(&server) {
            Ok(text) => assert_eq!((text.as_str(), cut), ("hello world", answer.len())),
            Err(error) => assert!(cut < answer.len(), "{cut}: {error}"),
        }
    }
}

#[test]
fn a_large_file_of_pythons_server_arrives_whole() {
    let directory = Directory::new();
    let content: Vec<u8> = (0..20_000_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
    directory.write("large.bin", &content);
    let python = Python::serve(&directory, false);
    let url = format!("http://127.0.0.1:{}/large.bin", python.port);
    let mut response = smol::block_on(Client::default().get(&url).send()).unwrap();
    assert_eq!((response.status(), response.remaining()), (200, Some(20_000_000)));
    let mut received = Vec::new();
    smol::block_on(response.read_to_end(&mut received)).unwrap();
    assert!(received == content);
    let missing = smol::block_on(Client::default().get(&format!("{url}x")).send()).unwrap();
    assert_eq!(missing.status(), 404);
}
