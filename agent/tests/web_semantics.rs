//! The rules of HTTP (RFC 9110, RFC 9112) as clients see them, beside those of framing, conditions and ranges.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::fs;
use std::io::Write;

use ioto::http1::reason;
use ioto::web::{Exchange, Server};
use web_support::{Running, body, field, get, read_response, read_to_close, settings, start, status};

fn ask(server: &Running, line: &str, fields: &str) -> String {
    server.talk(format!("{line} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n"))
}

#[test]
fn an_action_gets_every_method_but_those_of_proxies() {
    let (server, _dir) = start(|_| ());
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "PROPFIND", "M-SEARCH", "get", "X!"] {
        let response = ask(&server, &format!("{method} /show/x"), "");
        assert!(
            status(&response) == 200 && response.contains(&format!("\"method\":\"{method}\"")),
            "{method} {response}"
        );
    }
    assert_eq!(status(&ask(&server, "CONNECT h:80", "")), 501);
    let trace = ask(&server, "TRACE /show/x", "Cookie: secret\r\n");
    assert!(status(&trace) == 405 && !trace.contains("secret"), "{trace}");
    for bad in ["G(T", "", "VERYVERYVERYLONGMETHODNAME"] {
        assert_eq!(status(&ask(&server, &format!("{bad} /show/x"), "")), 400, "{bad}");
    }
}

#[test]
fn a_head_is_that_of_the_get_and_nothing_follows_it() {
    let (server, dir) = start(|_| ());
    fs::write(dir.0.join("page.html"), "0123456789").unwrap();
    fs::create_dir(dir.0.join("sub")).unwrap();
    for path in ["/page.html", "/hello", "/big", "/sub", "/none", "/fail", "/refuse", "/nothing"] {
        let (get, head) = (ask(&server, &format!("GET {path}"), ""), ask(&server, &format!("HEAD {path}"), ""));
        assert_eq!((status(&head), body(&head)), (status(&get), ""), "{path}");
        for name in ["content-type", "content-length", "transfer-encoding", "etag", "location", "last-modified"] {
            assert_eq!(field(&head, name), field(&get, name), "{path} {name}");
        }
    }
}

#[test]
fn what_is_not_allowed_is_said_with_what_is() {
    let (server, dir) = start(|_| ());
    fs::write(dir.0.join("x"), "x").unwrap();
    for (line, expected, allow) in [
        ("OPTIONS /x", 204, "GET, HEAD, OPTIONS"),
        ("OPTIONS /hello", 204, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ("OPTIONS *", 204, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ("POST /x", 405, "GET, HEAD, OPTIONS"),
        ("DELETE /x", 405, "GET, HEAD, OPTIONS"),
        ("PROPFIND /x", 405, "GET, HEAD, OPTIONS"),
    ] {
        let response = ask(&server, line, "");
        assert_eq!((status(&response), field(&response, "allow").as_deref()), (expected, Some(allow)), "{line}");
    }
    assert_eq!(status(&ask(&server, "GET *", "")), 400);
}

#[test]
fn exactly_one_host_is_wanted_and_an_absolute_target_has_its_own() {
    let (server, dir) = start(|_| ());
    fs::create_dir(dir.0.join("sub")).unwrap();
    for (request, expected) in [
        ("GET /hello HTTP/1.1\r\n\r\n", 400),
        ("GET /hello HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET /hello HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET /hello HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("GET /hello HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        ("GET /hello HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n", 200),
        ("GET /hello HTTP/1.0\r\n\r\n", 200),
        ("GET http://b:81/hello?x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200),
        ("GET HTTPS://b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
        ("GET http:///hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://u@b/hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ] {
        assert_eq!(status(&server.talk(request)), expected, "{request:?}");
    }
    // The address of a directory is told as a path: right under every name, and behind another server.
    let directory = server.talk("GET http://b/sub?x=y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!((status(&directory), field(&directory, "location").as_deref()), (301, Some("/sub/?x=y")));
}

#[test]
fn a_client_is_told_to_go_on_and_nothing_else_can_be_expected() {
    let (server, _dir) = start(|_| ());
    for bad in ["Expect: x\r\n", "Expect: 100-continue, x\r\n", "Expect: 100-continue\r\nExpect: 100-continue\r\n"] {
        assert_eq!(status(&ask(&server, "POST /echo", bad)), 417, "{bad}");
    }
    let mut stream = server.connect();
    let head = "POST /json HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream).0, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").unwrap();
    assert_eq!(status(&read_response(&mut stream).0), 201);
    // It is not asked for what nobody reads, and the connection cannot go on then.
    let unread = head.replace("/json", "/none");
    stream.write_all(unread.as_bytes()).unwrap();
    let (head, _) = read_response(&mut stream);
    assert_eq!((status(&head), field(&head, "connection").as_deref()), (405, Some("close")));
    // A client of HTTP/1.0 cannot ask.
    let old = server.talk("POST /json HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n{}");
    assert_eq!(status(&old), 201);
}

#[test]
fn trailers_are_dropped_and_the_next_request_is_served() {
    let (server, _dir) = start(|_| ());
    let mut stream = server.connect();
    let request = "POST /json HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
        2;ext=1\r\n{}\r\n0\r\nX-Sum: 5\r\nContent-Length: 9\r\n\r\n";
    for _ in 0..2 {
        stream.write_all(request.as_bytes()).unwrap();
        let (head, body) = read_response(&mut stream);
        assert_eq!((status(&head), body.as_slice()), (201, b"{}".as_slice()));
    }
}

#[test]
fn the_client_decides_whether_the_connection_goes_on() {
    let (server, _dir) = start(|_| ());
    for (version, connection, stays) in [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: x\r\nConnection: CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: x , Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let mut stream = server.connect();
        write!(stream, "GET /hello HTTP/{version}\r\nHost: h\r\n{connection}\r\n").unwrap();
        let (head, _) = read_response(&mut stream);
        let told = field(&head, "connection");
        assert_eq!(told.as_deref() == Some("close"), !stays, "{version} {connection} {head}");
        assert_eq!(told.as_deref() == Some("keep-alive"), stays && version == "1.0", "{version} {connection}");
        match stays {
            true => {
                stream.write_all(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
                assert_eq!(status(&read_response(&mut stream).0), 200);
            }
            false => assert_eq!(read_to_close(&mut stream), ""),
        }
    }
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    let (server, _dir) = start(|_| ());
    let streamed = server.talk("GET /big?mb=1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!((field(&streamed, "transfer-encoding"), body(&streamed).len()), (None, web_support::MEGABYTE));
    assert_eq!(field(&streamed, "connection").as_deref(), Some("close"));
    let chunked = "POST /json HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    assert_eq!(status(&server.talk(chunked)), 400);
    assert!(server.talk("GET /hello HTTP/2.0\r\nHost: h\r\n\r\n").starts_with("HTTP/1.1 505 "));
    assert!(server.talk("GET /hello XXX\r\nHost: h\r\n\r\n").starts_with("HTTP/1.1 400 "));
}

#[test]
fn every_response_has_a_date_and_no_field_twice() {
    let (server, dir) = start(|settings| settings.headers = vec![("Vary".into(), "Origin".into())]);
    fs::write(dir.0.join("x.txt"), "x").unwrap();
    fs::create_dir(dir.0.join("sub")).unwrap();
    let lines =
        ["GET /x.txt", "GET /none", "GET /sub", "POST /x.txt", "OPTIONS *", "GET /fail", "GET /nothing", "GET bad"];
    for line in lines {
        let response = ask(&server, line, "Range: bytes=9-\r\n");
        let head = response.split("\r\n\r\n").next().unwrap();
        let mut names: Vec<_> = head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect();
        assert!(names.contains(&"date".to_owned()), "{line} {head}");
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all, "{line} {head}");
        let reason = head.lines().next().unwrap().splitn(3, ' ').nth(2).unwrap();
        assert!(!reason.is_empty(), "{line} {head}");
    }
}

#[test]
fn every_status_that_is_registered_has_its_reason() {
    let server = Server::new(settings(std::env::temp_dir())).action("/status/", async |exchange: &mut Exchange| {
        exchange.set_status(exchange.rest().parse().unwrap_or(500));
        exchange.send("text/plain", "x").await
    });
    let server = Running::start(server.listen("http://127.0.0.1:0").unwrap());
    let registered = (200..=208).chain([226]).chain(300..=304).chain([307, 308]).chain(400..=417).chain(421..=426);
    for code in registered.chain([428, 429, 431, 451]).chain(500..=508).chain([511]) {
        let response = get(&server, &format!("/status/{code}"), "");
        let line = response.lines().next().unwrap().to_owned();
        assert!(!reason(code).is_empty() && line == format!("HTTP/1.1 {code} {}", reason(code)), "{line}");
        let has_body = !matches!(code, 204 | 205 | 304);
        assert_eq!(body(&response), if has_body { "x" } else { "" }, "{code}");
    }
    assert!(get(&server, "/status/299", "").starts_with("HTTP/1.1 299 \r\n"));
    for bad in [0, 101, 199, 600] {
        assert_eq!(status(&get(&server, &format!("/status/{bad}"), "")), 500, "{bad}");
    }
}

#[test]
fn a_directory_is_told_with_its_slash_and_the_query() {
    let (server, dir) = start(|_| ());
    fs::create_dir_all(dir.0.join("a b/c")).unwrap();
    for (path, expected) in [("/a%20b", "/a%20b/"), ("/a%20b/c?x=%2F&y", "/a%20b/c/?x=%2F&y")] {
        let response = get(&server, path, "");
        assert_eq!((status(&response), field(&response, "location").as_deref()), (301, Some(expected)));
    }
    assert_eq!(status(&get(&server, "/a%20b/c/", "")), 404);
}
