//! Files over real sockets: parts of them, conditions, variants, uploads; with curl and with bytes of our own.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use ioto::config::{Route, WebCache};
use ioto::net::tls_server;
use ioto::web::own_certificate;
use web_support::{Dir, MEGABYTE, Running, body, curl, field, get, read_response, server, settings, start, status};

/// Bytes that are nowhere the same for long, so that a wrong offset shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

fn url(server: &Running, path: &str) -> String {
    format!("http://{}{path}", server.address())
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_part_of_a_file_is_sent_as_206() {
    let (server, dir) = start(|_| ());
    fs::write(dir.0.join("a.txt"), "0123456789").unwrap();
    for (range, expected, content_range) in [
        ("bytes=0-3", "0123", "bytes 0-3/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=-99", "0123456789", "bytes 0-9/10"),
        ("bytes=0-1,1-4", "01234", "bytes 0-4/10"),
        ("bytes=50-,4-4", "4", "bytes 4-4/10"),
    ] {
        let response = get(&server, "/a.txt", &format!("Range: {range}\r\n"));
        assert_eq!((status(&response), body(&response)), (206, expected), "{range}: {response}");
        assert_eq!(field(&response, "content-range").as_deref(), Some(content_range), "{range}");
        assert_eq!(field(&response, "content-type").as_deref(), Some("text/plain; charset=utf-8"));
        assert_eq!(field(&response, "accept-ranges").as_deref(), Some("bytes"));
    }
    let many = format!("Range: bytes={}\r\n", vec!["0-"; 500].join(","));
    for fields in ["Range: lines=1-2\r\n", "Range: bytes=4-2\r\n", "Range: bytes=0-1\r\nRange: bytes=2-3\r\n", &many] {
        let response = get(&server, "/a.txt", fields);
        assert_eq!((status(&response), body(&response)), (200, "0123456789"), "{fields}");
    }
    let response = get(&server, "/a.txt", "Range: bytes=10-,99-100\r\n");
    assert_eq!((status(&response), field(&response, "content-range").as_deref()), (416, Some("bytes */10")));
    let head = server.talk("HEAD /a.txt HTTP/1.1\r\nHost: h\r\nConnection: close\r\nRange: bytes=0-1\r\n\r\n");
    assert_eq!((status(&head), field(&head, "content-length").as_deref(), body(&head)), (200, Some("10"), ""));
}

#[test]
fn several_parts_are_a_multipart_with_the_files_type() {
    let (server, dir) = start(|_| ());
    fs::write(dir.0.join("a.txt"), "0123456789").unwrap();
    let response = get(&server, "/a.txt", "Range: bytes=8-,0-1,99-\r\n");
    assert_eq!(status(&response), 206);
    assert_eq!(field(response.split("\r\n\r\n").next().unwrap(), "content-range"), None);
    let kind = field(&response, "content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let part = |range: &str, data: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes {range}/10\r\n\r\n{data}"
        )
    };
    let expected = format!("{}{}\r\n--{boundary}--\r\n", part("8-9", "89"), part("0-1", "01"));
    assert_eq!(response.split_once("\r\n\r\n").unwrap().1, expected);
    assert_eq!(field(&response, "content-length").unwrap(), expected.len().to_string());
}

#[test]
fn a_range_of_another_version_gets_the_whole_file() {
    let (server, dir) = start(|_| ());
    fs::write(dir.0.join("a.txt"), "0123456789").unwrap();
    let whole = get(&server, "/a.txt", "");
    let (tag, date) = (field(&whole, "etag").unwrap(), field(&whole, "last-modified").unwrap());
    let ask = |value: &str| status(&get(&server, "/a.txt", &format!("Range: bytes=0-1\r\nIf-Range: {value}\r\n")));
    assert_eq!((ask(&tag), ask(&date)), (206, 206));
    assert_eq!((ask("\"other\""), ask(&format!("W/{tag}")), ask("Sun, 06 Nov 1994 08:49:37 GMT")), (200, 200, 200));
    // The conditions come first (RFC 9110 §13.2.2).
    let response = get(&server, "/a.txt", &format!("Range: bytes=0-1\r\nIf-None-Match: {tag}\r\n"));
    assert_eq!((status(&response), field(&response, "content-range")), (304, None));
    assert_eq!(status(&get(&server, "/a.txt", "If-Match: \"other\"\r\n")), 412);
    assert_eq!(status(&get(&server, "/a.txt", &format!("If-Match: \"other\", {tag}\r\n"))), 200);
    assert_eq!(status(&get(&server, "/a.txt", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n")), 412);
    assert_eq!(status(&get(&server, "/a.txt", &format!("If-Unmodified-Since: {date}\r\n"))), 200);
}

#[test]
fn curl_resumes_and_takes_parts_of_a_long_file() {
    let (server, dir) = start(|_| ());
    let data = pattern(20 * MEGABYTE + 3);
    fs::write(dir.0.join("long.bin"), &data).unwrap();
    let out = Dir::new();
    let target = path(&out.0, "long.bin");
    let address = url(&server, "/long.bin");
    fs::write(&target, &data[..7_654_321]).unwrap();
    assert_eq!(curl(&["-C", "-", "-o", &target, "-w", "%{http_code}", &address]), "206");
    assert!(fs::read(&target).unwrap() == data, "the resumed file is the file");
    assert_eq!(curl(&["-r", "1000000-3000000", "-o", &target, "-w", "%{http_code}", &address]), "206");
    assert!(fs::read(&target).unwrap() == data[1_000_000..=3_000_000], "the middle");
    assert_eq!(curl(&["-r", "-5", "-o", &target, "-w", "%{http_code}", &address]), "206");
    assert!(fs::read(&target).unwrap() == data[data.len() - 5..], "the end");
    let several = "0-99999,5000000-5000999,-200000";
    assert_eq!(curl(&["-r", several, "-o", &target, "-w", "%{http_code}", &address]), "206");
    let found = fs::read(&target).unwrap();
    for part in [&data[..100_000], &data[5_000_000..5_001_000], &data[data.len() - 200_000..]] {
        assert!(found.windows(part.len()).any(|window| window == part), "{} bytes", part.len());
    }
    assert!(found.len() < 302_000, "{}", found.len());
    assert_eq!(curl(&["-o", &target, "-w", "%{http_code}", &address]), "200");
    assert!(fs::read(&target).unwrap() == data, "all of it");
}

#[test]
fn tls_and_unix_sockets_carry_files_and_their_parts_too() {
    let (dir, state) = (Dir::new(), Dir::new());
    let data = pattern(3 * MEGABYTE + 1);
    fs::write(dir.0.join("long.bin"), &data).unwrap();
    let (certificate, key) = own_certificate(&state.0, &[]).unwrap();
    let socket = path(&state.0, "socket");
    let built = server(settings(dir.0.clone()))
        .tls(tls_server::server_config(&certificate, &key).unwrap())
        .listen("https://127.0.0.1:0")
        .and_then(|server| server.listen(&format!("unix:{socket}")))
        .unwrap();
    let running = Running::start(built);
    let secure = format!("https://localhost:{}/long.bin", running.address().port());
    let target = path(&state.0, "target");
    for client in
        [["--cacert", certificate.to_str().unwrap(), &secure], ["--unix-socket", &socket, "http://h/long.bin"]]
    {
        let mut arguments = vec!["-o", &target, "-w", "%{http_code}"];
        arguments.extend(client);
        assert_eq!(curl(&arguments), "200");
        assert!(fs::read(&target).unwrap() == data, "{client:?}");
        arguments.extend(["-r", "70000-2900000"]);
        assert_eq!(curl(&arguments), "206");
        assert!(fs::read(&target).unwrap() == data[70_000..=2_900_000], "{client:?}");
    }
}

#[test]
fn a_file_that_becomes_shorter_while_it_is_sent_is_cut() {
    let (server, dir) = start(|_| ());
    let file = dir.0.join("long.bin");
    fs::write(&file, pattern(40 * MEGABYTE)).unwrap();
    let mut stream = server.connect();
    std::io::Write::write_all(&mut stream, b"GET /long.bin HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    fs::File::options().write(true).open(&file).unwrap().set_len(MEGABYTE as u64).unwrap();
    let mut received = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut received);
    assert!(received.len() < 40 * MEGABYTE, "the end of the connection tells that something is missing");
    assert_eq!(status(&get(&server, "/long.bin", "Range: bytes=0-0\r\n")), 206);
}

#[test]
fn a_precompressed_file_is_sent_to_those_who_take_it() {
    let (server, dir) = start(|settings| {
        settings.routes = vec![
            Route { matches: "/plain/".into(), ..Route::default() },
            Route { compressed: true, ..Route::default() },
        ];
        settings.headers = vec![("Vary".into(), "Origin".into())];
    });
    let text = "var a = 1;\n".repeat(1000);
    fs::create_dir(dir.0.join("plain")).unwrap();
    for name in ["a.js", "plain/a.js", "index.html"] {
        fs::write(dir.0.join(name), &text).unwrap();
        assert!(Command::new("gzip").args(["-k", &path(&dir.0, name)]).status().unwrap().success());
    }
    fs::write(dir.0.join("a.js.br"), "not really brotli").unwrap();
    let ask = |path: &str, encodings: &str| get(&server, path, &format!("Accept-Encoding: {encodings}\r\n"));
    let brotli = ask("/a.js", "gzip, br");
    assert_eq!((status(&brotli), body(&brotli)), (200, "not really brotli"));
    assert_eq!(field(&brotli, "content-encoding").as_deref(), Some("br"));
    assert_eq!(field(&brotli, "content-type").as_deref(), Some("text/javascript; charset=utf-8"));
    assert_eq!(field(&brotli, "vary").as_deref(), Some("Origin, Accept-Encoding"));
    let (gzip, plain) = (ask("/a.js", "br;q=0, *"), ask("/a.js", "identity"));
    assert_eq!(field(&gzip, "content-encoding").as_deref(), Some("gzip"));
    assert_eq!((field(&plain, "content-encoding"), body(&plain)), (None, text.as_str()));
    assert_eq!(field(&plain, "vary").as_deref(), Some("Origin, Accept-Encoding"));
    let tags = [&brotli, &gzip, &plain].map(|response| field(response, "etag").unwrap());
    assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2], "{tags:?}");
    let known = get(&server, "/a.js", &format!("Accept-Encoding: br\r\nIf-None-Match: {}\r\n", tags[0]));
    assert_eq!((status(&known), field(&known, "vary").as_deref()), (304, Some("Origin, Accept-Encoding")));
    let other = get(&server, "/a.js", &format!("Accept-Encoding: gzip\r\nIf-None-Match: {}\r\n", tags[0]));
    assert_eq!(status(&other), 200);
    let part = get(&server, "/a.js", "Accept-Encoding: br\r\nRange: bytes=0-2\r\n");
    assert_eq!((body(&part), field(&part, "content-encoding").as_deref()), ("not", Some("br")));

    // A part of one variant must not be completed with a part of another.
    let date = field(&plain, "last-modified").unwrap();
    let dated = get(&server, "/a.js", &format!("Range: bytes=0-2\r\nIf-Range: {date}\r\n"));
    let tagged = get(&server, "/a.js", &format!("Range: bytes=0-2\r\nIf-Range: {}\r\n", tags[2]));
    assert_eq!((status(&dated), status(&tagged)), (200, 206));

    assert_eq!(curl(&["--compressed", &url(&server, "/")]), text);
    assert_eq!(curl(&[&url(&server, "/")]), text);
    let measured = ["-o", "/dev/null", "-w", "%{size_download} %{header_json}", "--compressed"];
    let output = curl(&[&measured[..], &[&url(&server, "/")]].concat());
    assert!(output.contains("\"gzip\"") && output.contains("text/html"), "{output}");
    let untouched = ask("/plain/a.js", "gzip");
    assert_eq!((field(&untouched, "content-encoding"), field(&untouched, "vary").as_deref()), (None, Some("Origin")));

    // The file changed, its variant did not.
    let file = fs::File::options().append(true).open(dir.0.join("index.html")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(60)).unwrap();
    assert_eq!(field(&ask("/", "gzip"), "content-encoding"), None);
}

#[test]
fn the_route_says_how_long_files_may_be_kept() {
    let (server, dir) = start(|settings| {
        let cache = WebCache {
            max_age: Some(Duration::from_secs(86_400)),
            directives: vec!["public".into()],
            extensions: vec!["css".into()],
        };
        settings.routes = vec![Route { cache: Some(cache), ..Route::default() }];
    });
    fs::write(dir.0.join("a.css"), "p{}").unwrap();
    fs::write(dir.0.join("a.html"), "<p>").unwrap();
    let response = get(&server, "/a.css", "");
    assert_eq!(field(&response, "cache-control").as_deref(), Some("public, max-age=86400"));
    let tag = field(&response, "etag").unwrap();
    let known = get(&server, "/a.css", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!(field(&known, "cache-control").as_deref(), Some("public, max-age=86400"));
    assert_eq!(field(&get(&server, "/a.html", ""), "cache-control"), None);
    assert_eq!(field(&get(&server, "/none.css", ""), "cache-control"), None);
}

/// A server where files below `/up/` may be written and removed.
fn writable(limit: u64) -> (Running, Dir) {
    let (server, dir) = start(|settings| {
        let methods = ["GET", "PUT", "DELETE"].map(String::from).to_vec();
        settings.routes = vec![Route { matches: "/up/".into(), methods, ..Route::default() }, Route::default()];
        settings.limits.upload = limit;
    });
    fs::create_dir(dir.0.join("up")).unwrap();
    (server, dir)
}

fn send(server: &Running, method: &str, path: &str, fields: &str, data: &str) -> u16 {
    let length = data.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n");
    status(&server.talk(format!("{head}{fields}\r\n{data}")))
}

/// What stands in the directory, hidden files too.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn curl_uploads_replaces_and_removes_a_file() {
    let (server, dir) = writable(30 << 20);
    let data = pattern(20 * MEGABYTE + 1);
    let source = Dir::new();
    let file = path(&source.0, "firmware.bin");
    fs::write(&file, &data).unwrap();
    let address = url(&server, "/up/firmware.bin");
    let code = ["-o", "/dev/null", "-w", "%{http_code}"];
    let curl_code = |more: &[&str]| curl(&[&code[..], more].concat());
    assert_eq!(curl_code(&["-T", &file, &address]), "201");
    assert!(fs::read(dir.0.join("up/firmware.bin")).unwrap() == data);
    assert_eq!(curl_code(&["-T", &file, "-H", "Transfer-Encoding: chunked", &address]), "204");
    let old = fs::File::open(dir.0.join("up/firmware.bin")).unwrap();
    fs::write(&file, "new").unwrap();
    assert_eq!(curl_code(&["-T", &file, &address]), "204");
    assert_eq!(curl(&[&address]), "new");
    assert_eq!(old.metadata().unwrap().len(), data.len() as u64, "readers keep the old file");
    assert_eq!(curl_code(&["-X", "DELETE", &address]), "204");
    assert_eq!(curl_code(&["-X", "DELETE", &address]), "404");
    assert_eq!(curl_code(&[&address]), "404");
    assert_eq!(names(&dir.0.join("up")), Vec::<String>::new());
}

#[test]
fn an_upload_over_the_limit_is_refused_and_leaves_nothing() {
    let (server, dir) = writable(1000);
    assert_eq!(send(&server, "PUT", "/up/a", "", &"x".repeat(1000)), 201);
    assert_eq!(send(&server, "PUT", "/up/b", "", &"x".repeat(1001)), 413);
    let head = "PUT /up/b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let endless = format!("{head}{}", "fff\r\n".to_owned() + &"x".repeat(0xfff) + "\r\n");
    assert_eq!(status(&server.talk(endless)), 413);
    // The client goes away in the middle.
    let cut = server.talk("PUT /up/b HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\nabc");
    assert!(matches!(status(&cut), 0 | 400), "{cut}");
    let malformed = server.talk(format!("{head}3\r\nabc\r\nxyz\r\n"));
    assert_eq!(status(&malformed), 400);
    assert_eq!(names(&dir.0.join("up")), ["a"]);
    let mut stream = server.connect();
    std::io::Write::write_all(
        &mut stream,
        b"PUT /up/c HTTP/1.1\r\nHost: h\r\nContent-Length: 9000\r\nExpect: 100-continue\r\n\r\n",
    )
    .unwrap();
    assert_eq!(status(&read_response(&mut stream).0), 413, "before the body is sent");
}

#[test]
fn nothing_is_written_outside_hidden_or_in_place_of_a_directory() {
    let (server, dir) = writable(1000);
    let outside = Dir::new();
    fs::write(outside.0.join("secret"), "secret").unwrap();
    fs::create_dir(dir.0.join("up/sub")).unwrap();
    std::os::unix::fs::symlink(&outside.0, dir.0.join("up/linked")).unwrap();
    std::os::unix::fs::symlink(outside.0.join("secret"), dir.0.join("up/link")).unwrap();
    let outer = outside.0.file_name().unwrap().to_str().unwrap();
    for method in ["PUT", "DELETE"] {
        for path in [
            "/up/.hidden",
            "/up/.git/x",
            "/up/../x",
            "/up/%2e%2e/x",
            "/up/sub%2f..%2fx",
            "/up/sub",
            "/up/sub/",
            "/up/",
            "/up//.hidden",
            "/up/./../x",
            "/up/none/x",
            "/up/linked/secret",
            "/up/linked/new",
            &format!("/up/../../{outer}/secret"),
            "/x",
            "/index.html",
            "/up",
        ] {
            let found = send(&server, method, path, "", "data");
            assert!(matches!(found, 400 | 404 | 405 | 409), "{method} {path}: {found}");
        }
    }
    assert_eq!(send(&server, "PUT", &format!("/up/{}", "x".repeat(300)), "", "data"), 400);
    assert_eq!(send(&server, "PUT", "/up/a", "Content-Range: bytes 0-3/10\r\n", "data"), 400);
    assert_eq!(send(&server, "PUT", "/up/a", "Content-Encoding: gzip\r\n", "data"), 415);
    assert_eq!(send(&server, "POST", "/up/a", "", "data"), 405);
    assert_eq!((names(&outside.0), names(&dir.0.join("up/sub"))), (vec!["secret".to_owned()], vec![]));
    // A link is replaced, and not what it leads to.
    assert_eq!(send(&server, "PUT", "/up/link", "", "data"), 204);
    assert_eq!(fs::read_to_string(outside.0.join("secret")).unwrap(), "secret");
    assert_eq!(names(&dir.0.join("up")), ["link", "linked", "sub"]);
    assert_eq!(names(&dir.0), ["up"]);
}

#[test]
fn conditions_keep_writers_from_undoing_each_others_work() {
    let (server, dir) = writable(1000);
    assert_eq!(send(&server, "PUT", "/up/a", "If-Match: *\r\n", "zero"), 412);
    assert_eq!(send(&server, "PUT", "/up/a", "If-None-Match: *\r\n", "one"), 201);
    assert_eq!(send(&server, "PUT", "/up/a", "If-None-Match: *\r\n", "two"), 412);
    let tag = field(&get(&server, "/up/a", ""), "etag").unwrap();
    let mine = format!("If-Match: {tag}\r\n");
    assert_eq!(send(&server, "PUT", "/up/a", &mine, "two"), 204);
    assert_eq!(send(&server, "PUT", "/up/a", &mine, "three"), 412);
    assert_eq!(send(&server, "DELETE", "/up/a", &mine, ""), 412);
    assert_eq!(fs::read_to_string(dir.0.join("up/a")).unwrap(), "two");
    let old = "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    assert_eq!(send(&server, "DELETE", "/up/a", old, ""), 412);

    // The file changes while the upload is under way.
    let tag = field(&get(&server, "/up/a", ""), "etag").unwrap();
    let mut slow = server.connect();
    let head = format!("PUT /up/a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nIf-Match: {tag}\r\n\r\nsl");
    std::io::Write::write_all(&mut slow, head.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(send(&server, "PUT", "/up/a", &format!("If-Match: {tag}\r\n"), "fast"), 204);
    std::io::Write::write_all(&mut slow, b"ow").unwrap();
    assert_eq!(status(&read_response(&mut slow).0), 412);
    assert_eq!(fs::read_to_string(dir.0.join("up/a")).unwrap(), "fast");
    assert_eq!(names(&dir.0.join("up")), ["a"]);
}
