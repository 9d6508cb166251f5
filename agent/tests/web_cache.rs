//! Files that the server keeps for a moment: what clients get when they change.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ioto::config::{Route, Web};
use web_support::{Dir, Running, field, read_response, start, status};

/// Files are kept when they did not change for so long.
const SETTLED: Duration = Duration::from_millis(3200);
/// Something else is seen at the latest after this time.
const SEEN: Duration = Duration::from_millis(1300);

fn ask(stream: &mut TcpStream, method: &str, path: &str, fields: &str) -> (String, Vec<u8>) {
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n").unwrap();
    read_response(stream)
}

fn get(stream: &mut TcpStream, path: &str) -> (u16, Vec<u8>) {
    let (head, body) = ask(stream, "GET", path, "");
    (status(&head), body)
}

fn replace(path: &Path, data: &[u8]) {
    let draft = path.with_extension("draft");
    fs::write(&draft, data).unwrap();
    fs::rename(draft, path).unwrap();
}

fn serve(change: impl FnOnce(&mut Web)) -> (Running, Dir, TcpStream) {
    let (server, dir) = start(change);
    let stream = server.connect();
    (server, dir, stream)
}

#[test]
fn a_file_that_changed_is_seen_within_a_second() {
    let (_server, dir, mut stream) = serve(|_| ());
    let sizes = [("small.txt", 100), ("long.txt", 50_000), ("index.html", 10)];
    for (name, size) in sizes {
        fs::write(dir.0.join(name), vec![b'a'; size]).unwrap();
    }
    sleep(SETTLED);
    for (name, size) in sizes {
        let path = if name == "index.html" { "/" } else { &format!("/{name}") };
        for _ in 0..3 {
            assert_eq!(get(&mut stream, path), (200, vec![b'a'; size]), "{name}");
        }
        replace(&dir.0.join(name), &vec![b'b'; size]);
        sleep(SEEN);
        assert_eq!(get(&mut stream, path), (200, vec![b'b'; size]), "{name}");
        fs::remove_file(dir.0.join(name)).unwrap();
        sleep(SEEN);
        assert_eq!(get(&mut stream, path).0, 404, "{name}");
    }
}

#[test]
fn a_file_that_changed_just_now_is_seen_at_once() {
    let (_server, dir, mut stream) = serve(|_| ());
    let path = dir.0.join("a.txt");
    let start = Instant::now();
    for number in 0..50u8 {
        fs::write(&path, [number]).unwrap();
        assert_eq!(get(&mut stream, "/a.txt"), (200, vec![number]));
        if start.elapsed() > Duration::from_secs(1) {
            break;
        }
    }
}

#[test]
fn a_link_that_leads_elsewhere_is_followed_within_a_second_and_never_out_of_the_root() {
    let (_server, dir, mut stream) = serve(|_| ());
    let outside = Dir::new();
    fs::write(outside.0.join("secret"), "secret").unwrap();
    for name in ["one", "two"] {
        fs::write(dir.0.join(name), name).unwrap();
    }
    let link = dir.0.join("link");
    std::os::unix::fs::symlink("one", &link).unwrap();
    sleep(SETTLED);
    assert_eq!(get(&mut stream, "/link"), (200, b"one".to_vec()));
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("two", &link).unwrap();
    sleep(SEEN);
    assert_eq!(get(&mut stream, "/link"), (200, b"two".to_vec()));
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(outside.0.join("secret"), &link).unwrap();
    sleep(SEEN);
    assert_eq!(get(&mut stream, "/link").0, 404);
}

#[test]
fn what_clients_write_and_remove_is_seen_by_all_threads_at_once() {
    let methods = ["GET", "PUT", "DELETE"].map(str::to_owned).to_vec();
    let route = Route { handler: "file".to_owned(), methods, ..Route::default() };
    let (server, dir, mut writer) = serve(|web| {
        web.threads = 2;
        web.routes = vec![route];
    });
    fs::write(dir.0.join("a.txt"), "first").unwrap();
    sleep(SETTLED);
    let mut readers: Vec<_> = (0..12).map(|_| server.connect()).collect();
    for reader in &mut readers {
        assert_eq!(get(reader, "/a.txt"), (200, b"first".to_vec()));
    }
    let (head, _) = ask(&mut writer, "PUT", "/a.txt", "Content-Length: 0\r\n");
    assert_eq!(status(&head), 204);
    for reader in &mut readers {
        assert_eq!(get(reader, "/a.txt"), (200, vec![]));
    }
    assert_eq!(status(&ask(&mut writer, "DELETE", "/a.txt", "").0), 204);
    for reader in &mut readers {
        assert_eq!(get(reader, "/a.txt").0, 404);
    }
}

#[test]
fn what_is_kept_answers_conditions_ranges_and_heads_as_what_is_not() {
    let (_server, dir, mut stream) = serve(|_| ());
    let data: Vec<u8> = (0..40_000u32).map(|at| (at % 251) as u8).collect();
    for size in [1000, 40_000] {
        fs::write(dir.0.join(format!("{size}.bin")), &data[..size]).unwrap();
    }
    let mut answers = Vec::new();
    for _ in 0..3 {
        let mut all = Vec::new();
        for size in [1000, 40_000] {
            let path = format!("/{size}.bin");
            let (head, body) = ask(&mut stream, "GET", &path, "");
            assert_eq!((status(&head), &body[..]), (200, &data[..size]));
            let tag = field(&head, "etag").unwrap();
            let conditional = ask(&mut stream, "GET", &path, &format!("If-None-Match: {tag}\r\n"));
            assert_eq!(status(&conditional.0), 304);
            let part = ask(&mut stream, "GET", &path, "Range: bytes=7-99\r\n");
            assert_eq!((status(&part.0), &part.1[..]), (206, &data[7..100]));
            let parts = ask(&mut stream, "GET", &path, "Range: bytes=0-1,-2\r\n");
            assert_eq!(status(&parts.0), 206);
            let none = ask(&mut stream, "GET", &path, "Range: bytes=50000-\r\n");
            assert_eq!(status(&none.0), 416);
            for (head, body) in [(head, body), conditional, part, none] {
                let lines: Vec<String> =
                    head.lines().filter(|line| !line.starts_with("Date")).map(str::to_owned).collect();
                all.push((lines, body));
            }
            write!(stream, "HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            // The next request's answer shows that no body came.
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
                head.push(byte[0]);
            }
            assert_eq!(field(&String::from_utf8(head).unwrap(), "content-length"), Some(size.to_string()));
        }
        answers.push(all);
        sleep(SETTLED / 2);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[test]
fn a_directory_is_no_variant_of_a_file() {
    let (_server, dir, mut stream) = serve(|settings| {
        settings.routes = vec![Route { compressed: true, ..Route::default() }];
    });
    fs::write(dir.0.join("index.html"), "page").unwrap();
    fs::create_dir(dir.0.join("index.html.br")).unwrap();
    fs::write(dir.0.join("index.html.brindex.html"), "another").unwrap();
    for _ in 0..2 {
        let (head, body) = ask(&mut stream, "GET", "/", "Accept-Encoding: br\r\n");
        assert_eq!((status(&head), body), (200, b"page".to_vec()), "{head}");
        assert!(field(&head, "content-encoding").is_none(), "{head}");
    }
}
