//! The web server as clients see it: files, actions, streams, TLS, Unix sockets, stopping; raw sockets and curl.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ioto::config::{Route, Web};
use ioto::net::{self_signed, tls_server};
use ioto::web::{Address, Error, Exchange, Peer, Server};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use web_support::{Dir, Running, field, read_response, read_to_close, settings, status};

const MEGABYTE: usize = 1 << 20;

/// Every action that the tests need.
fn server(settings: Web) -> Server {
    Server::new(settings)
        .action("/hello", async |exchange: &mut Exchange| exchange.send("text/plain", "hello\n").await)
        .action("/show/", async |exchange: &mut Exchange| {
            let value = json!({
                "method": exchange.method().as_str(),
                "path": exchange.path(),
                "rest": exchange.rest(),
                "name": exchange.query("name"),
                "secure": exchange.secure(),
                "unix": exchange.peer() == Peer::Unix,
            });
            exchange.send_json(&value).await
        })
        .action("/json", async |exchange: &mut Exchange| {
            let value = exchange.json().await?;
            exchange.set_status(201);
            exchange.set_header("X-Mine", "yes")?;
            exchange.send_json(&value).await
        })
        .action("/count", async |exchange: &mut Exchange| {
            let (mut body, mut buf, mut count) = (exchange.body(), vec![0; 16 * 1024], 0);
            loop {
                match body.read(&mut buf).await? {
                    0 => break,
                    read => count += read,
                }
            }
            exchange.send("text/plain", format!("{count}\n")).await
        })
        .action("/big", async |exchange: &mut Exchange| {
            let megabytes: usize = exchange.query("mb").and_then(|text| text.parse().ok()).unwrap_or(1);
            let block = vec![b'x'; 64 * 1024];
            let mut out = exchange.stream("application/octet-stream")?;
            for _ in 0..megabytes * 16 {
                out.write_all(&block).await?;
            }
            out.finish().await
        })
        .action("/echo", async |exchange: &mut Exchange| {
            let mut out = exchange.stream("application/octet-stream")?;
            smol::io::copy(exchange.body(), &mut out).await?;
            out.finish().await
        })
        .action("/fail", async |_: &mut Exchange| Err(Error::failed("the sensor burned down")))
        .action("/late", async |exchange: &mut Exchange| {
            let mut out = exchange.stream("text/plain")?;
            out.write_all(b"half of it").await?;
            out.flush().await?;
            Err(Error::failed("broken"))
        })
        .action("/refuse", async |_: &mut Exchange| Err(Error::status(409, "not now")))
        .action("/nothing", async |exchange: &mut Exchange| {
            exchange.set_status(202);
            Ok(())
        })
        .action("/split", async |exchange: &mut Exchange| exchange.set_header("X", "a\r\nSet-Cookie: b"))
        .action("/sleep", async |exchange: &mut Exchange| {
            smol::Timer::after(Duration::from_millis(1500)).await;
            exchange.send("text/plain", "slept\n").await
        })
        .action("/hang", async |_: &mut Exchange| std::future::pending().await)
}

/// A server for files and actions on a free port.
fn start(change: impl FnOnce(&mut Web)) -> (Running, Dir) {
    let dir = Dir::new();
    let mut settings = settings(dir.0.clone());
    change(&mut settings);
    (Running::start(server(settings).listen("http://127.0.0.1:0").unwrap()), dir)
}

fn get(server: &Running, path: &str, fields: &str) -> String {
    server.talk(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n"))
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--max-time", "60"]).args(arguments).output().expect("curl runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

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

#[test]
fn a_reader_that_never_reads_is_cut_and_others_are_served() {
    let (server, _dir) = start(|_| ());
    let lazy: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"GET /big?mb=100 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1500) {
        let asked = Instant::now();
        assert_eq!(status(&get(&server, "/hello", "")), 200);
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    }
    for mut stream in lazy {
        let text = read_to_close(&mut stream);
        assert!(text.len() < 100 * MEGABYTE && !text.ends_with("0\r\n\r\n"));
    }
}

#[test]
fn over_the_limit_connections_wait_and_idle_ones_make_room() {
    let (server, _dir) = start(|settings| {
        settings.limits.connections = 3;
        settings.timeouts.idle = Duration::from_secs(60);
        settings.timeouts.parse = Duration::from_secs(60);
    });
    let mut idle: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    for stream in &mut idle {
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        read_response(stream);
    }
    let start = Instant::now();
    assert_eq!(status(&get(&server, "/hello", "")), 200);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_port_in_use_is_told_with_its_address() {
    let (server, dir) = start(|_| ());
    let url = server.addresses[0].to_string();
    let error = Server::new(settings(dir.0.clone())).listen(&url).unwrap().bind().err().unwrap();
    assert!(matches!(&error, Error::AddressInUse { address } if *address == url), "{error}");
    let error = Server::new(settings(dir.0.clone())).listen("https://127.0.0.1:0").unwrap().bind().err().unwrap();
    assert!(matches!(error, Error::Setting(_)), "{error}");
}

#[test]
fn a_unix_socket_replaces_a_stale_one_and_is_closed_to_others() {
    let dir = Dir::new();
    let path = dir.0.join("web.sock");
    drop(UnixListener::bind(&path).unwrap());
    let url = format!("unix:{}", path.display());
    let running = Running::start(server(settings(dir.0.clone())).listen(&url).unwrap());
    assert_eq!(running.addresses, [Address::Unix(path.clone())]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /show/ HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(read_to_close(&mut stream).contains("\"unix\":true"));
    assert!(curl(&["--unix-socket", path.to_str().unwrap(), "http://h/hello"]).contains("hello"));
    let second = server(settings(dir.0.clone())).listen(&url).unwrap().bind();
    assert!(matches!(second.err(), Some(Error::AddressInUse { .. })));
    drop(running);
    assert!(!path.exists());
    fs::write(&path, "a file").unwrap();
    assert!(matches!(server(settings(dir.0.clone())).listen(&url).unwrap().bind().err(), Some(Error::Bind { .. })));
}

/// A TLS client that trusts exactly this certificate.
fn tls_request(server: &Running, certificate: &std::path::Path, request: &str) -> std::io::Result<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, server.connect());
    stream.write_all(request.as_bytes())?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    Ok(response)
}

#[test]
fn tls_is_served_with_the_devices_own_certificate_and_reloaded_without_a_break() {
    let (dir, other) = (Dir::new(), Dir::new());
    let (certificate, key) = self_signed::ensure(&dir.0, &[]).unwrap();
    let (new_certificate, new_key) = self_signed::ensure(&other.0, &[]).unwrap();
    let config = tls_server::server_config(&certificate, &key).unwrap();
    let built = server(settings(dir.0.clone())).tls(config).listen("https://127.0.0.1:0").unwrap();
    let running = Running::start(built);
    let request = "GET /show/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let response = tls_request(&running, &certificate, request).unwrap();
    assert!(response.contains("\"secure\":true"), "{response}");

    let url = format!("https://localhost:{}", running.address().port());
    let trusted = curl(&["--cacert", certificate.to_str().unwrap(), &format!("{url}/hello")]);
    assert_eq!(trusted, "hello\n");
    assert_eq!(curl(&["-k", &format!("{url}/big?mb=3"), "-o", "/dev/null", "-w", "%{size_download}"]), "3145728");

    let mut cut = running.connect();
    cut.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    let start = Instant::now();
    read_to_close(&mut cut);
    assert!(start.elapsed() < Duration::from_secs(3));

    running.handle.set_tls(tls_server::server_config(&new_certificate, &new_key).unwrap());
    assert!(tls_request(&running, &new_certificate, request).unwrap().contains("\"secure\":true"));
    assert!(tls_request(&running, &certificate, request).is_err());
}

#[test]
fn stopping_lets_running_requests_end_and_closes_the_others() {
    let (server, _dir) = start(|settings| settings.timeouts.idle = Duration::from_secs(60));
    let mut idle = server.connect();
    idle.write_all(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    read_response(&mut idle);
    let mut busy = server.connect();
    busy.write_all(b"GET /sleep HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    server.handle.stop();
    assert_eq!(read_to_close(&mut idle), "");
    assert!(start.elapsed() < Duration::from_millis(1000), "{:?}", start.elapsed());
    assert!(read_to_close(&mut busy).ends_with("slept\n"));
    let address = server.address();
    server.join();
    assert!(start.elapsed() < Duration::from_secs(4));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn stopping_cuts_what_does_not_end() {
    let dir = Dir::new();
    let mut settings = settings(dir.0.clone());
    settings.timeouts.request = Duration::from_secs(60);
    let built = server(settings).drain(Duration::from_millis(200)).listen("http://127.0.0.1:0").unwrap();
    let running = Running::start(built);
    let mut busy = running.connect();
    busy.write_all(b"GET /hang HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    running.handle.stop();
    assert_eq!(read_to_close(&mut busy), "");
    running.join();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn curl_is_served_in_all_its_manners() {
    let (server, dir) = start(|_| ());
    fs::write(dir.0.join("page.html"), "page").unwrap();
    let upload = dir.0.join("upload.bin");
    fs::write(&upload, vec![b'x'; 5 * MEGABYTE]).unwrap();
    let (upload, url) = (upload.to_str().unwrap(), server.addresses[0].to_string());
    let at = |path: &str| format!("{url}{path}");

    let kept = curl(&["-v", "--stderr", "-", &at("/hello"), &at("/page.html"), &at("/hello")]);
    assert_eq!(kept.matches("hello\n").count(), 2, "{kept}");
    assert_eq!(kept.matches("Re-using existing connection").count(), 2, "{kept}");
    assert_eq!(curl(&["--http1.0", &at("/hello")]), "hello\n");
    assert_eq!(curl(&["--http1.0", &at("/big?mb=2"), "-o", "/dev/null", "-w", "%{size_download}"]), "2097152");
    assert_eq!(curl(&[&at("/big?mb=2"), "-o", "/dev/null", "-w", "%{size_download}"]), "2097152");
    let expect = curl(&["-v", "--stderr", "-", "-H", "Expect: 100-continue", "-T", upload, &at("/count")]);
    assert!(expect.contains("HTTP/1.1 100 Continue") && expect.contains("5242880\n"), "{expect}");
    assert_eq!(curl(&["-H", "Transfer-Encoding: chunked", "-H", "Expect:", "-T", upload, &at("/count")]), "5242880\n");
    assert_eq!(curl(&["--data-binary", &format!("@{upload}"), &at("/count")]), "5242880\n");
    let echoed = ["-T", upload, &at("/echo"), "-o", "/dev/null", "-w", "%{size_download}"];
    assert_eq!(curl(&echoed), "5242880");
    assert!(curl(&["-I", &at("/page.html")]).contains("Content-Length: 4\r\n"));
    let refused = curl(&["-T", upload, &at("/json"), "-o", "/dev/null", "-w", "%{http_code}"]);
    assert_eq!(refused, "413");
}
