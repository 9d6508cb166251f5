//! Forms and uploads on real sockets.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use ioto::config::Web;
use ioto::web::{Error, Exchange, Server};
use serde_json::{Value, json};
use web_support::{Dir, MEGABYTE, Running, curl, read_to_close, settings, status};

/// A server on a free port with the actions of these tests.
fn start(change: impl FnOnce(&mut Web)) -> Running {
    let mut settings = settings(std::env::temp_dir());
    change(&mut settings);
    let server = Server::new(settings).action("/form", form).action("/uploads", uploads).action("/keep", keep);
    Running::start(server.listen("http://127.0.0.1:0").unwrap())
}

fn url(server: &Running, path: &str) -> String {
    format!("http://{}{path}", server.address())
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The fields of a form as JSON.
async fn form(exchange: &mut Exchange) -> Result<(), Error> {
    let form = exchange.form().await?;
    exchange.send_json(&json!(form.iter().collect::<Vec<_>>())).await
}

/// Fields and files of a form as JSON, and what is in the directory meanwhile.
async fn uploads(exchange: &mut Exchange) -> Result<(), Error> {
    let uploads = exchange.uploads(exchange.upload_dir(), exchange.upload_limits()).await?;
    let files = uploads.files.iter().map(|file| {
        let content = fs::read(file.path()).unwrap();
        json!({
            "name": file.name(),
            "file": file.file_name(),
            "type": file.content_type(),
            "size": file.size(),
            "sum": content.iter().map(|byte| u64::from(*byte)).sum::<u64>(),
            "read": content.len(),
            "mode": fs::metadata(file.path()).unwrap().permissions().mode() & 0o777,
            "inside": file.path().parent() == Some(exchange.upload_dir()),
        })
    });
    let value = json!({
        "files": files.collect::<Vec<_>>(),
        "fields": uploads.form.iter().collect::<Vec<_>>(),
        "present": fs::read_dir(exchange.upload_dir())?.count(),
    });
    exchange.send_json(&value).await
}

/// Moves the first file away, under a name of its own.
async fn keep(exchange: &mut Exchange) -> Result<(), Error> {
    let mut uploads = exchange.uploads(exchange.upload_dir(), exchange.upload_limits()).await?;
    let path = uploads.files.remove(0).keep();
    fs::rename(path, exchange.upload_dir().with_file_name("kept"))?;
    exchange.send("", "").await
}

#[test]
fn a_form_is_read_by_its_media_type_whatever_its_parameters() {
    let server = start(|web| web.limits.body = 1000);
    let url = url(&server, "/form");
    let expected = json!([["a", "1 2"], ["b", "\u{e4}&="], ["a", ""]]).to_string();
    let sent = ["--data", "a=1+2", "--data-urlencode", "b=\u{e4}&=", "-d", "a"];
    assert_eq!(curl(&[&sent[..], &[&url]].concat()), expected);
    for kind in
        ["application/x-www-form-urlencoded; charset=UTF-8", "APPLICATION/x-www-form-urlencoded;charset=\"utf-8\";x=y"]
    {
        let field = format!("Content-Type: {kind}");
        assert_eq!(curl(&[&["-H", &field][..], &sent, &[&url]].concat()), expected, "{kind}");
    }
    let status_of = |kind: &str, data: &str| {
        let field = format!("Content-Type:{kind}");
        curl(&["-o", "/dev/null", "-w", "%{http_code}", "-H", &field, "-d", data, &url])
    };
    assert_eq!(status_of(" application/json", "a=b"), "415");
    assert_eq!(status_of(" application/x-www-form-urlencoded; charset=latin1", "a=b"), "415");
    assert_eq!(status_of("", "a=b"), "415");
    assert_eq!(status_of(" application/x-www-form-urlencoded; charset", "a=b"), "400");
    assert_eq!(status_of(" application/x-www-form-urlencoded", "a=%zz"), "400");
    assert_eq!(status_of(" application/x-www-form-urlencoded", &"x".repeat(1001)), "413");
}

/// A server whose uploads go to `DIR/tmp`, which is not there yet.
fn upload_server(change: impl FnOnce(&mut Web)) -> (Running, Dir) {
    let dir = Dir::new();
    let server = start(|web| {
        web.upload.dir = dir.0.join("tmp");
        change(web);
    });
    (server, dir)
}

fn left_in(dir: &Dir) -> usize {
    fs::read_dir(dir.0.join("tmp")).map_or(0, Iterator::count)
}

/// Waits for the directory to be empty: a connection that is cut ends a little after the client sees it.
fn assert_removed(dir: &Dir) {
    let start = Instant::now();
    while left_in(dir) > 0 {
        assert!(start.elapsed() < ms(3000), "{} files are left", left_in(dir));
        std::thread::sleep(ms(10));
    }
}

#[test]
fn curl_uploads_files_that_are_there_until_the_request_ends() {
    let (server, dir) = upload_server(|_| ());
    let content: Vec<u8> = (0..3 * MEGABYTE + 17).map(|at| (at * 7 % 251) as u8).collect();
    let big = dir.0.join("big.bin");
    fs::write(&big, &content).unwrap();
    fs::write(dir.0.join("nasty"), b"\r\n--\r\n----\r\n").unwrap();
    let (big, nasty) = (format!("image=@{}", big.display()), dir.0.join("nasty"));
    let nasty = format!("other=@{};filename=../../etc/passwd;type=text/x", nasty.display());
    for extra in [&[][..], &["-H", "Transfer-Encoding: chunked"], &["-H", "Expect: 100-continue"]] {
        let form = ["-F", "name=J\u{fc}rgen", "-F", &big, "-F", &nasty, "-F", "empty="];
        let text = curl(&[extra, &form, &[&url(&server, "/uploads")]].concat());
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        let sum: u64 = content.iter().map(|byte| u64::from(*byte)).sum();
        let common = |mut value: Value| {
            value["mode"] = json!(0o600);
            value["inside"] = json!(true);
            value["read"] = value["size"].clone();
            value
        };
        let image = json!({"name": "image", "file": "big.bin", "type": "application/octet-stream", "size": content.len(), "sum": sum});
        let nasty_sum = b"\r\n--\r\n----\r\n".iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let other =
            json!({"name": "other", "file": "../../etc/passwd", "type": "text/x", "size": 12, "sum": nasty_sum});
        assert_eq!(answer["files"], json!([common(image), common(other)]));
        assert_eq!(answer["fields"], json!([["name", "J\u{fc}rgen"], ["empty", ""]]));
        assert_eq!(answer["present"], 2);
        assert_removed(&dir);
    }
}

#[test]
fn an_upload_can_be_kept_and_all_stay_when_the_setting_says_so() {
    let (server, dir) = upload_server(|_| ());
    fs::write(dir.0.join("a"), "content").unwrap();
    let file = format!("f=@{}", dir.0.join("a").display());
    curl(&["-f", "-F", &file, "-F", &file, &url(&server, "/keep")]);
    assert_eq!(fs::read(dir.0.join("kept")).unwrap(), b"content");
    assert_removed(&dir);

    let (server, other) = upload_server(|web| web.upload.remove = false);
    curl(&["-f", "-F", &file, "-F", &file, &url(&server, "/uploads")]);
    assert_eq!(left_in(&other), 2);
}

#[test]
fn uploads_are_limited_and_what_is_refused_leaves_no_file() {
    let (server, dir) = upload_server(|web| {
        web.limits.upload = 10_000;
        web.limits.uploads = 2;
        web.limits.body = 100;
    });
    fs::write(dir.0.join("small"), vec![b'x'; 4000]).unwrap();
    fs::write(dir.0.join("big"), vec![b'x'; 10_001]).unwrap();
    fs::write(dir.0.join("huge"), vec![b'x'; 3 * MEGABYTE]).unwrap();
    let file = |name: &str| format!("f=@{}", dir.0.join(name).display());
    let field = |length: usize| format!("a={}", "x".repeat(length));
    let (small, big, huge, short, long) = (file("small"), file("big"), file("huge"), field(100), field(101));
    let send = |arguments: &[&str]| {
        let fixed = ["-o", "/dev/null", "-w", "%{http_code}"];
        let status = curl(&[&fixed, arguments, &[&url(&server, "/uploads")]].concat());
        assert_removed(&dir);
        status
    };
    assert_eq!(send(&["-F", &small, "-F", &small, "-F", &short]), "200");
    assert_eq!(send(&["-F", &small, "-F", &small, "-F", &small]), "413");
    assert_eq!(send(&["-F", &big]), "413");
    assert_eq!(send(&["-F", &small, "-F", &long]), "413");
    assert_eq!(send(&["-F", &huge]), "413");
    assert_eq!(send(&["-H", "Transfer-Encoding: chunked", "-F", &huge]), "413");
    assert_eq!(send(&["-d", "a=b"]), "415");
}

#[test]
fn a_form_that_breaks_off_or_is_malformed_leaves_no_file() {
    let (server, dir) = upload_server(|web| web.timeouts.inactivity = ms(500));
    let part = "--B\r\nContent-Disposition: form-data; name=f; filename=x\r\n\r\nhalf of it";
    let request = |length: usize, body: &str| {
        format!(
            "POST /uploads HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=B\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
    };
    assert_eq!(status(&server.talk(request(part.len(), part))), 400);
    assert_removed(&dir);
    let bad = format!("{part}\r\n--Bad\r\n");
    assert_eq!(status(&server.talk(request(bad.len(), &bad))), 400);
    assert_removed(&dir);
    // A client that goes away, and one that falls silent.
    drop(server.talk(request(part.len() + 10, part)));
    assert_removed(&dir);
    let mut silent = server.connect();
    silent.write_all(request(part.len() + 10, part).as_bytes()).unwrap();
    assert_eq!(status(&read_to_close(&mut silent)), 408);
    assert_removed(&dir);
}
