//! The access log on real sockets.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use ioto::config::{AccessFormat, AccessLog, AccessTarget, Web};
use serde_json::Value;
use web_support::{Dir, Running, get, server, settings, status};

fn start(change: impl FnOnce(&mut Web)) -> (Running, Dir) {
    let dir = Dir::new();
    let mut settings = settings(dir.0.clone());
    let target = AccessTarget::File(dir.0.join("log/access.log"));
    settings.access_log = AccessLog { target, ..AccessLog::default() };
    change(&mut settings);
    (Running::start(server(settings).listen("http://127.0.0.1:0").unwrap()), dir)
}

/// The lines of a file, once there are so many.
fn lines(path: &Path, count: usize) -> Vec<String> {
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        if lines.len() >= count {
            assert_eq!(lines.len(), count, "{lines:#?}");
            return lines;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{count} lines are not there: {lines:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn refused_requests_are_logged_as_well() {
    let (server, dir) = start(|web| web.timeouts.parse = Duration::from_millis(300));
    let log = dir.0.join("log/access.log");
    for (request, expected) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("\u{1b}[2J\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(20_000)), 431),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), 400),
    ] {
        assert_eq!(status(&server.talk(request)), expected);
    }
    let mut silent = server.connect();
    silent.write_all(b"GET / HT").unwrap();
    assert_eq!(status(&web_support::read_to_close(&mut silent)), 408);
    let lines = lines(&log, 5);
    for (line, status) in lines.iter().zip([400, 400, 431, 400, 408]) {
        assert!(
            line.starts_with("127.0.0.1 - - [") && line.ends_with(&format!("\"-\" {status} - \"-\" \"-\"")),
            "{line}"
        );
    }
}

#[test]
fn connections_without_a_place_are_logged_as_well() {
    let (server, dir) = start(|web| web.limits.connections = 1);
    let mut busy = server.connect();
    busy.write_all(b"GET /hang HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(status(&get(&server, "/hello", "")), 503);
    assert_eq!(status(&web_support::read_to_close(&mut server.connect())), 503);
    for line in lines(&dir.0.join("log/access.log"), 2) {
        assert!(line.starts_with("127.0.0.1 - - [") && line.ends_with("\"-\" 503 - \"-\" \"-\""), "{line}");
    }
}

#[test]
fn a_line_tells_what_was_asked_and_answered_and_no_secret() {
    let (server, dir) = start(|_| {});
    fs::write(dir.0.join("page.txt"), "x".repeat(70_000)).unwrap();
    let secret = "Authorization: Bearer hunter2\r\nCookie: sid=hunter2\r\nReferer: http://h/x?pw=hunter2\r\n";
    get(&server, "/hello?token=hunter2&a=1", &format!("{secret}User-Agent: \"a\\\t\u{e4}\r\n"));
    get(&server, "/page.txt", "");
    get(&server, "/big?mb=2", "");
    get(&server, "/fail", "");
    get(&server, "/late", "");
    get(&server, "/none/%22%0d%0a", "");
    server.talk("HEAD /hello HTTP/1.0\r\n\r\n");
    server.talk("POST /json HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 7\r\n\r\n{\"a\":1}");
    let lines = lines(&dir.0.join("log/access.log"), 8);
    assert!(!lines.join("").contains("hunter2"), "{lines:#?}");
    for (line, part) in lines.iter().zip([
        r#"] "GET /hello?token=***&a=1 HTTP/1.1" 200 6 "http://h/x?pw=***" "\"a\\\x09\xc3\xa4""#,
        r#"] "GET /page.txt HTTP/1.1" 200 70000 "-" "-""#,
        r#"] "GET /big?mb=2 HTTP/1.1" 200 2098"#,
        r#"] "GET /fail HTTP/1.1" 500 50 "#,
        r#"] "GET /late HTTP/1.1" 200 "#,
        r#"] "GET /none/%22%0d%0a HTTP/1.1" 400 "#,
        r#"] "HEAD /hello HTTP/1.0" 200 - "#,
        r#"] "POST /json HTTP/1.1" 201 7 "#,
    ]) {
        assert!(line.contains(part), "{line}\n{part}");
    }
}

#[test]
fn json_lines_are_json_whatever_is_sent() {
    let (server, dir) = start(|web| {
        web.access_log.format = AccessFormat::Json;
        web.access_log.query = false;
        web.access_log.exclude = vec!["/nothing".into(), "/show/".into()];
    });
    get(&server, "/nothing", "");
    get(&server, "/show/x", "");
    get(&server, "/sleep?a=b", "User-Agent: \"\u{2028}\u{85}\\\r\nReferer: http://h/?a=b\r\n");
    let mut pipelined = server.connect();
    let three = "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3);
    pipelined.write_all(three.as_bytes()).unwrap();
    let lines = lines(&dir.0.join("log/access.log"), 4);
    let first: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((first["target"].as_str(), first["referer"].as_str()), (Some("/sleep"), Some("http://h/")));
    assert_eq!(first["userAgent"], "\"\u{2028}\u{85}\\");
    assert!(first["duration"].as_u64().unwrap() >= 1_400_000, "{first}");
    assert_eq!((&first["tls"], &first["host"], &first["user"]), (&false.into(), &"h".into(), &Value::Null));
    let time = first["time"].as_str().unwrap();
    assert!(ioto::net::parse_iso8601(time).unwrap() <= ioto::net::utc_ms() - 1400, "{time}");
    for line in &lines[1..] {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["bytes"], &line["status"], &line["method"]), (&6.into(), &200.into(), &"GET".into()));
    }
}

#[test]
fn files_rotate_and_one_that_is_moved_away_is_begun_anew() {
    let (server, dir) = start(|web| (web.access_log.size, web.access_log.count) = (4096, 2));
    let log = dir.0.join("log/access.log");
    for _ in 0..8 {
        for _ in 0..10 {
            get(&server, "/hello", "User-Agent: a longer name of a browser so that it fills up\r\n");
        }
    }
    get(&server, "/nothing", "");
    let start = Instant::now();
    while !fs::read_to_string(&log).unwrap_or_default().contains("/nothing") {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(10));
    }
    for (name, is_there) in
        [("access.log", true), ("access.log.1", true), ("access.log.2", true), ("access.log.3", false)]
    {
        let found = fs::metadata(dir.0.join("log").join(name)).map(|found| found.len());
        assert_eq!(found.is_ok(), is_there, "{name}");
        assert!(found.unwrap_or(0) <= 4096, "{name}");
    }
    fs::rename(&log, dir.0.join("log/moved")).unwrap();
    server.handle.reopen_access_log();
    get(&server, "/refuse", "");
    assert!(lines(&log, 1)[0].contains("\"GET /refuse HTTP/1.1\" 409 "));
}

#[test]
fn the_last_lines_are_written_before_the_server_ends() {
    let (server, dir) = start(|_| {});
    get(&server, "/hello", "");
    server.handle.stop();
    drop(server);
    assert_eq!(fs::read_to_string(dir.0.join("log/access.log")).unwrap().lines().count(), 1);
}

#[test]
fn a_log_that_cannot_be_opened_keeps_the_server_from_starting() {
    let target = AccessTarget::File("/proc/none/access.log".into());
    let access_log = AccessLog { target, ..AccessLog::default() };
    let web = Web { access_log, ..settings(std::env::temp_dir()) };
    let error = server(web).bind().err().unwrap().to_string();
    assert!(error.starts_with("web.accessLog.path: /proc/none/access.log: cannot be written: "), "{error}");
}

#[cfg(feature = "users")]
#[test]
fn only_users_who_proved_who_they_are_are_named() {
    use ioto::config::{Auth, Roles, Route, Secret, User};
    use ioto::web::auth::password::Hash;

    let (server, dir) = start(|web| {
        let password = Secret::new(Hash::Sha256.stored(&Hash::Sha256.ha1("jo", "web", "open sesame")));
        let jo = User { name: "jo".into(), password, ha1: Vec::new(), role: "admin".into() };
        let roles = Roles::new(&[("admin".to_owned(), vec![])]).unwrap();
        web.auth = Auth { users: vec![jo], roles, require_tls: false, ..Auth::default() };
        let route = |matches: &str, role: &str| Route {
            matches: matches.into(),
            handler: "action".into(),
            role: role.into(),
            ..Route::default()
        };
        web.routes = vec![route("/hello", "admin"), route("", "")];
    });
    let basic = |text: &str| format!("Authorization: Basic {}\r\n", ioto::net::base64::encode(text.as_bytes()));
    assert_eq!(status(&get(&server, "/hello", &basic("jo:open sesame"))), 200);
    assert_eq!(status(&get(&server, "/hello", &basic("jo:wrong"))), 401);
    assert_eq!(status(&get(&server, "/nothing", &basic("jo:open sesame"))), 202);
    let lines = lines(&dir.0.join("log/access.log"), 3);
    let users: Vec<_> = lines.iter().map(|line| line.split(' ').nth(2).unwrap()).collect();
    assert_eq!(users, ["jo", "-", "-"], "{lines:#?}");
}
