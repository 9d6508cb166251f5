//! What a request carries, and how it is seen on its way.

#![cfg(feature = "fetch")]
#![allow(clippy::unwrap_used)]

mod fetch_support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fetch_support::{Directory, Server};
use ioto::fetch::{Body, Client, Error, Multipart, Progress};
use ioto::http1::Headers;
use smol::io::Cursor;

const LIMIT: usize = 4 << 20;

fn post(server: &Server, body: impl Into<Body>) -> Result<String, Error> {
    smol::block_on(async { Client::default().post(&server.url).body(body).send().await?.text(LIMIT).await })
}

#[test]
fn forms_go_with_their_type_unless_another_is_given() {
    let server = Server::mirror();
    let text = post(&server, Body::form(&[("name", "a b"), ("q", "1&2")])).unwrap();
    assert!(text.contains("Content-Type: application/x-www-form-urlencoded\n"), "{text}");
    assert!(text.ends_with("\n\nname=a+b&q=1%262"), "{text}");
    let request = Client::default().post(&server.url).body(Body::form(&[("a", "b")])).header("Content-Type", "x/y");
    let text = smol::block_on(async { request.send().await.unwrap().text(LIMIT).await }).unwrap();
    assert!(text.contains("Content-Type: x/y\n") && !text.contains("urlencoded"), "{text}");
}

#[test]
fn files_go_with_their_length_and_are_named_when_they_cannot_be_read() {
    let (server, directory) = (Server::mirror(), Directory::new());
    let large = "0123456789abcdef".repeat(20_000);
    let text = post(&server, Body::file(directory.write("large", &large))).unwrap();
    assert!(text.contains("Content-Length: 320000\n") && text.ends_with(&large));
    let text = post(&server, Body::file(directory.write("empty", ""))).unwrap();
    assert!(text.contains("Content-Length: 0\n"), "{text}");
    for bad in [directory.0.join("missing"), directory.0.clone()] {
        let error = post(&server, Body::file(&bad)).unwrap_err();
        assert!(matches!(error, Error::Body(_)) && error.to_string().contains(bad.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_file_is_sent_again_where_a_redirection_leads() {
    let server = Server::new(|peer| {
        while let Some(request) = peer.request() {
            match request.starts_with("PUT /first ") {
                true => peer.answer(307, "Location: /second\r\n", ""),
                false => peer.answer(200, "", &request),
            }
        }
    });
    let directory = Directory::new();
    let request =
        Client::default().put(&format!("{}/first", server.url)).body(Body::file(directory.write("f", "hello")));
    let text = smol::block_on(async { request.send().await.unwrap().text(LIMIT).await }).unwrap();
    assert!(text.starts_with("PUT /second ") && text.ends_with("hello"), "{text}");
}

#[test]
fn python_reads_an_upload_as_it_was_meant() {
    let (server, directory) = (Server::mirror(), Directory::new());
    let binary: Vec<u8> = (0..200).map(|n| b'a' + n % 26).collect();
    let path = directory.write("image.bin", &binary);
    let upload = Multipart::new().text("title", "the \"roof\" & more").file("image", &path).bytes(
        "notes",
        "n.txt",
        "text/plain",
        "all is well",
    );
    let text = post(&server, upload).unwrap();
    let (head, body) = text.split_once("\n\n").unwrap();
    let content_type = head.lines().find(|line| line.starts_with("Content-Type:")).unwrap();
    let message = directory.write("message", format!("{content_type}\r\nMIME-Version: 1.0\r\n\r\n{body}"));
    let script = "
import email, email.policy, sys
message = email.message_from_binary_file(open(sys.argv[1], 'rb'), policy=email.policy.HTTP)
for part in message.iter_parts():
    print(part.get_param('name', header='content-disposition'), part.get_filename(), part.get_content_type(),
          repr(part.get_payload(decode=True)))
";
    let output = std::process::Command::new("python3").args(["-c", script]).arg(&message).output().unwrap();
    let seen = String::from_utf8(output.stdout).unwrap();
    let binary = String::from_utf8(binary).unwrap();
    let expected = format!(
        "title None text/plain b'the \"roof\" & more'\n\
         image image.bin application/octet-stream b'{binary}'\nnotes n.txt text/plain b'all is well'\n"
    );
    assert_eq!(seen, expected, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn trailers_follow_chunks_both_ways() {
    let server = Server::new(|peer| {
        peer.head().unwrap();
        let mut lines = Vec::new();
        while let Some(line) = peer.line() {
            let end = line.is_empty();
            lines.push(line);
            if end {
                break;
            }
        }
        assert_eq!(lines, ["5", "hello", "0", "X-Checksum: 7", ""]);
        peer.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-Sum:  12 \r\nX-Other: a:b\r\n\r\n",
        );
    });
    let body = Body::reader(None, Cursor::new("hello")).trailers(|| {
        let mut fields = Headers::new();
        fields.append("X-Checksum", "7").unwrap();
        fields
    });
    smol::block_on(async {
        let mut response = Client::default().post(&server.url).body(body).send().await.unwrap();
        assert!(response.trailers().is_empty());
        let mut buffer = [0; 10];
        assert_eq!(response.read(&mut buffer).await.unwrap(), 3);
        assert_eq!(response.read(&mut buffer).await.unwrap(), 0);
        let trailers: Vec<_> = response.trailers().iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(trailers, ["X-Sum=12", "X-Other=a:b"]);
    });
}

#[test]
fn progress_is_told_and_a_rate_is_kept_both_ways() {
    let server = Server::mirror();
    let last = Arc::new(Mutex::new(Progress::default()));
    let seen = last.clone();
    let start = Instant::now();
    let request = Client::default()
        .post(&server.url)
        .body(vec![b'x'; 50_000])
        .limit_rate(200_000)
        .progress(move |progress| *seen.lock().unwrap() = progress);
    let text = smol::block_on(async { request.send().await.unwrap().text(LIMIT).await }).unwrap();
    let took = start.elapsed();
    let last = *last.lock().unwrap();
    let all = text.len() as u64;
    let expected = Progress { sent: 50_000, to_send: Some(50_000), received: all, to_receive: Some(all) };
    assert_eq!(last, expected);
    assert!(took >= Duration::from_millis(350), "100 kB at 200 kB/s took {took:?}");
}

#[test]
fn a_total_deadline_ends_what_never_pauses() {
    let server = Server::new(|peer| {
        peer.head();
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n");
        while peer.send(&[b'x'; 65536]) {}
    });
    let start = Instant::now();
    smol::block_on(async {
        let request = Client::default().get(&server.url).timeout(Duration::from_millis(300));
        let mut response = request.send().await.unwrap();
        let mut buffer = vec![0; 65536];
        let error = loop {
            if let Err(error) = response.read(&mut buffer).await {
                break error;
            }
        };
        assert!(matches!(error, Error::Timeout { .. }) && error.to_string().contains("127.0.0.1"), "{error}");
        // And a body that is read as fast as it can be sent.
        let sink = Server::new(|peer| while peer.exactly(65536).len() == 65536 {});
        let endless = Body::reader(None, smol::io::repeat(b'.'));
        let request = Client::default().post(&sink.url).body(endless).timeout(Duration::from_millis(300));
        assert!(matches!(request.send().await, Err(Error::Timeout { .. })));
    });
    assert!(start.elapsed() < Duration::from_secs(10));
}
