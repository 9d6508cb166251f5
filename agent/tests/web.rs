//! The web server as clients see it: files, actions, routes, bodies in both directions.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use ioto::config::Route;
use serde_json::json;
use web_support::{Dir, MEGABYTE, body, field, get, read_response, read_to_close, start, status};

#[test]
fn files_are_served_with_type_tag_and_date() {
    let (server, dir) = start(|_| ());
    fs::write(dir.0.join("index.html"), "<p>home").unwrap();
    fs::create_dir(dir.0.join("sub")).unwrap();
    fs::write(dir.0.join("sub/index.html"), "<p>sub").unwrap();
    fs::write(dir.0.join("a b.css"), "p{}").unwrap();
    let home = get(&server, "/", "");
    assert_eq!((status(&home), body(&home)), (200, "<p>home"));
    assert_eq!(field(&home, "content-type").unwrap(), "text/html; charset=utf-8");
    assert_eq!(field(&home, "content-length").unwrap(), "7");
    assert_eq!(field(&home, "x-content-type-options").unwrap(), "nosniff");
    assert!(
        field(&home, "date").is_some() && field(&home, "last-modified").is_some() && field(&home, "server").is_none()
    );
    assert!(body(&get(&server, "/a%20b.css?v=1", "")).starts_with("p{}"));
    assert_eq!(body(&get(&server, "/sub/", "")), "<p>sub");
    let redirect = get(&server, "/sub?x=y", "");
    assert_eq!((status(&redirect), field(&redirect, "location").as_deref()), (301, Some("/sub/?x=y")));
    assert_eq!(status(&get(&server, "/none", "")), 404);
    assert_eq!(status(&get(&server, "/index.html/", "")), 404);
    assert_eq!(body(&get(&server, "http://other/sub/", "")), "<p>sub");
}

#[test]
fn only_files_beneath_the_root_are_served() {
    let (server, dir) = start(|_| ());
    let secret = Dir::new();
    fs::write(secret.0.join("secret"), "secret").unwrap();
    fs::write(dir.0.join(".hidden"), "secret").unwrap();
    fs::create_dir(dir.0.join(".git")).unwrap();
    fs::write(dir.0.join(".git/config"), "secret").unwrap();
    fs::create_dir(dir.0.join("empty")).unwrap();
    symlink(secret.0.join("secret"), dir.0.join("link")).unwrap();
    symlink(&secret.0, dir.0.join("linked")).unwrap();
    Command::new("mkfifo").arg(dir.0.join("pipe")).status().unwrap();
    let name = secret.0.file_name().unwrap().to_str().unwrap().to_owned();
    for path in [
        "/.hidden".to_owned(),
        "/.git/config".to_owned(),
        "/link".to_owned(),
        "/linked/secret".to_owned(),
        "/empty/".to_owned(),
        "/pipe".to_owned(),
        "//etc/passwd".to_owned(),
        "/empty//".to_owned(),
        format!("/../{name}/secret"),
        format!("/%2e%2e/{name}/secret"),
        format!("/%252e%252e/{name}/secret"),
        format!("/..%2f{name}/secret"),
        format!("/..%5c{name}/secret"),
        format!("/empty/../../{name}/secret"),
        "/index.html%00.txt".to_owned(),
    ] {
        let response = get(&server, &path, "");
        assert!(matches!(status(&response), 400 | 404) && !response.contains("secret\n"), "{path}: {response}");
        assert!(!body(&response).contains("root:") && body(&response) != "secret", "{path}: {response}");
    }
}

#[test]
fn a_client_that_has_the_file_gets_304_also_after_it_was_installed_again() {
    let (server, dir) = start(|_| ());
    let file = dir.0.join("page.html");
    fs::write(&file, "same bytes").unwrap();
    let first = get(&server, "/page.html", "");
    let tag = field(&first, "etag").unwrap();
    fs::write(dir.0.join("new"), "same bytes").unwrap();
    fs::rename(dir.0.join("new"), &file).unwrap();
    let again = get(&server, "/page.html", &format!("If-None-Match: \"x\", {tag}\r\n"));
    assert_eq!((status(&again), body(&again), field(&again, "etag").unwrap()), (304, "", tag.clone()));
    assert_eq!(status(&get(&server, "/page.html", "If-None-Match: \"x\"\r\n")), 200);
    let old = "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    assert_eq!(status(&get(&server, "/page.html", old)), 200);
    let now = field(&get(&server, "/page.html", ""), "last-modified").unwrap();
    assert_eq!(status(&get(&server, "/page.html", &format!("If-Modified-Since: {now}\r\n"))), 304);
    fs::write(&file, "other bytes").unwrap();
    assert_eq!(status(&get(&server, "/page.html", &format!("If-None-Match: {tag}\r\n"))), 200);
}

#[test]
fn head_options_and_other_methods_follow_the_rules() {
    let (server, dir) = start(|settings| {
        settings.headers = vec![("X-Frame-Options".into(), "DENY".into())];
    });
    fs::write(dir.0.join("page.html"), "0123456789").unwrap();
    let talk = |line: &str| server.talk(format!("{line} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
    for (path, length) in [("/page.html", "10"), ("/hello", "6")] {
        let head = talk(&format!("HEAD {path}"));
        assert_eq!((status(&head), body(&head)), (200, ""));
        assert_eq!(field(&head, "content-length").unwrap(), length);
        assert_eq!(field(&head, "x-frame-options").unwrap(), "DENY");
    }
    for (path, expected) in [("/none", 404), ("/fail", 500), ("/a%2fb", 400)] {
        let head = talk(&format!("HEAD {path}"));
        assert_eq!((status(&head), body(&head)), (expected, ""));
    }
    let streamed = talk("HEAD /big");
    assert_eq!((status(&streamed), body(&streamed)), (200, ""));
    let options = talk("OPTIONS /page.html");
    assert_eq!((status(&options), field(&options, "allow").unwrap()), (204, "GET, HEAD, OPTIONS".to_owned()));
    assert!(talk("OPTIONS *").starts_with("HTTP/1.1 204 "));
    let post = talk("POST /page.html");
    assert_eq!((status(&post), field(&post, "allow").unwrap()), (405, "GET, HEAD, OPTIONS".to_owned()));
    assert_eq!(status(&talk("TRACE /hello")), 405);
}

#[test]
fn routes_decide_in_their_order() {
    let (server, dir) = start(|settings| {
        let route = |matches: &str, handler: &str, methods: &[&str]| Route {
            matches: matches.into(),
            handler: handler.into(),
            methods: methods.iter().map(|method| (*method).into()).collect(),
            ..Route::default()
        };
        settings.routes = vec![route("/hello", "action", &["GET"]), route("/pages/", "file", &[])];
    });
    fs::create_dir(dir.0.join("pages")).unwrap();
    fs::write(dir.0.join("pages/x.txt"), "x").unwrap();
    fs::write(dir.0.join("y.txt"), "y").unwrap();
    assert_eq!(status(&get(&server, "/hello", "")), 200);
    assert_eq!(status(&server.talk("POST /hello HTTP/1.1\r\nHost: h\r\n\r\n")), 405);
    assert_eq!(status(&get(&server, "/pages/x.txt", "")), 200);
    assert_eq!(status(&get(&server, "/y.txt", "")), 404);
    assert_eq!(status(&get(&server, "/sleep", "")), 404);
}

#[test]
fn actions_see_the_request_and_answer_in_one_piece() {
    let (server, _dir) = start(|_| ());
    let shown = get(&server, "/show/a%20b/c?x=1&name=J%C3%B6rg+M", "");
    let value: serde_json::Value = serde_json::from_str(body(&shown)).unwrap();
    let expected = json!({"method": "GET", "path": "/show/a b/c", "rest": "a b/c", "name": "J\u{f6}rg M", "secure": false, "unix": false});
    assert_eq!(value, expected);
    let post = |text: &str| {
        server.talk(format!("POST /json HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{text}", text.len()))
    };
    let created = post("{\"a\": [1]}");
    assert_eq!((status(&created), body(&created)), (201, "{\"a\":[1]}"));
    assert_eq!(field(&created, "x-mine").unwrap(), "yes");
    assert_eq!(field(&created, "content-type").unwrap(), "application/json");
    assert_eq!(status(&post("{\"a\": ")), 400);
    let empty = get(&server, "/nothing", "");
    assert_eq!((status(&empty), field(&empty, "content-length").unwrap()), (202, "0".to_owned()));
}

#[test]
fn an_action_that_fails_is_answered_and_the_server_lives_on() {
    let (server, _dir) = start(|settings| settings.timeouts.request = Duration::from_millis(500));
    let failed = get(&server, "/fail", "");
    assert_eq!(status(&failed), 500);
    assert!(!failed.contains("sensor") && body(&failed).contains("error "), "{failed}");
    let refused = get(&server, "/refuse", "");
    assert_eq!((status(&refused), body(&refused)), (409, "409 Conflict: not now\n"));
    let split = get(&server, "/split", "");
    assert_eq!(status(&split), 500);
    assert!(!split.contains("Set-Cookie"));
    let late = get(&server, "/late", "");
    assert!(late.contains("half of it") && !late.ends_with("0\r\n\r\n"), "{late}");
    assert_eq!(status(&get(&server, "/hang", "")), 503);
    assert_eq!(status(&get(&server, "/hello", "")), 200);
}

/// Keeps what is logged.
struct Logged;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl log::Log for Logged {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        LINES.lock().unwrap().push(format!("{} {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

#[test]
fn the_id_of_an_error_stands_in_the_log_with_its_text() {
    log::set_logger(&Logged).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let (server, _dir) = start(|_| ());
    let failed = get(&server, "/fail", "");
    let id = body(&failed).trim().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(id.len(), 16, "{failed}");
    let lines = LINES.lock().unwrap();
    let found =
        lines.iter().any(|line| line.starts_with("ERROR") && line.contains(&id) && line.contains("burned down"));
    assert!(found, "{lines:?}");
}

#[test]
fn an_unread_body_is_dropped_up_to_a_bound_and_closes_the_connection_beyond() {
    let (server, _dir) = start(|_| ());
    let post = |length: usize| format!("POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
    let mut stream = server.connect();
    for _ in 0..2 {
        stream.write_all(post(60_000).as_bytes()).unwrap();
        stream.write_all(&[b'x'; 60_000]).unwrap();
        assert_eq!(read_response(&mut stream).1, b"hello\n");
    }
    stream.write_all(post(100_000).as_bytes()).unwrap();
    stream.write_all(&[b'x'; 100_000]).unwrap();
    let response = read_to_close(&mut stream);
    assert!(response.contains("Connection: close") && response.ends_with("hello\n"), "{response}");
    // Chunks have no length to announce the end by, but the bound holds.
    let mut stream = server.connect();
    stream.write_all(b"POST /hello HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    for _ in 0..20 {
        let _ = stream.write_all(format!("2000\r\n{}\r\n", "x".repeat(0x2000)).as_bytes());
    }
    assert!(read_to_close(&mut stream).ends_with("hello\n"));
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let (server, dir) = start(|_| ());
    fs::write(dir.0.join("page.txt"), "page").unwrap();
    let mut requests = String::new();
    for at in 0..40 {
        requests += &format!("GET /show/{at} HTTP/1.1\r\nHost: h\r\n\r\n");
        requests += "POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        requests += "POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nGET /";
        requests += "HEAD /page.txt HTTP/1.1\r\nHost: h\r\n\r\nGET /page.txt HTTP/1.1\r\nHost: h\r\n\r\n";
    }
    let mut stream = server.connect();
    stream.write_all(requests.as_bytes()).unwrap();
    for at in 0..40 {
        let (_, shown) = read_response(&mut stream);
        assert!(String::from_utf8(shown).unwrap().contains(&format!("\"rest\":\"{at}\"")));
        assert_eq!(read_response(&mut stream).1, b"3\n");
        assert_eq!(read_response(&mut stream).1, b"hello\n");
        let mut head = vec![0; 0];
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert_eq!(read_response(&mut stream).1, b"page");
    }
}

#[test]
fn a_connection_ends_after_its_last_request() {
    let (server, _dir) = start(|settings| settings.limits.requests = 3);
    let mut stream = server.connect();
    let request = "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n";
    for _ in 0..2 {
        stream.write_all(request.as_bytes()).unwrap();
        assert!(!read_response(&mut stream).0.contains("Connection: close"));
    }
    stream.write_all(request.as_bytes()).unwrap();
    assert!(read_to_close(&mut stream).contains("Connection: close"));
    let old = server.talk("GET /hello HTTP/1.0\r\n\r\n");
    assert!(old.starts_with("HTTP/1.1 200 OK") && old.contains("Connection: close"), "{old}");
    let kept = server.talk("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /hello HTTP/1.0\r\n\r\n");
    assert_eq!(kept.matches("hello\n").count(), 2, "{kept}");
}

#[test]
fn bodies_stream_both_ways_at_the_same_time() {
    let (server, _dir) = start(|_| ());
    let mut stream = server.connect();
    stream.write_all(b"POST /echo HTTP/1.0\r\nContent-Length: 8388608\r\n\r\n").unwrap();
    let mut sender = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        for at in 0..8u8 {
            sender.write_all(&vec![at; MEGABYTE]).unwrap();
        }
    });
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    sending.join().unwrap();
    let start = response.len() - 8 * MEGABYTE;
    assert!(response[start..].chunks(MEGABYTE).enumerate().all(|(at, part)| part.iter().all(|byte| *byte == at as u8)));
}
