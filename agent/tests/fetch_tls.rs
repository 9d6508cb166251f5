//! The HTTP client over TLS, against Python's `ssl` and OpenSSL.

#![cfg(all(feature = "fetch", feature = "web"))]
#![allow(clippy::unwrap_used)]

#[path = "fetch_support/authority.rs"]
mod authority;
mod fetch_support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use fetch_support::{Directory, Python};
use ioto::fetch::{Body, Client, Error, Options};
use ioto::net::{self, TlsClient};
use smol::io::AsyncReadExt;

const LIMIT: usize = 1024 * 1024;

fn certified(names: &[&str]) -> Directory {
    authority::certified(names, |_| ()).0
}

fn trusting(directory: &Directory) -> Client {
    let tls = TlsClient::builder().authority(directory.0.join("ca.pem")).build().unwrap();
    Client::new(Options { tls: Some(tls), ..Default::default() })
}

fn get(client: &Client, url: &str) -> Result<String, Error> {
    smol::block_on(async { client.get(url).send().await?.text(LIMIT).await })
}

#[test]
fn a_server_with_a_certificate_of_the_authority_is_trusted() {
    let directory = certified(&["localhost", "127.0.0.1"]);
    directory.write("hello.txt", "hello over TLS");
    let python = Python::serve(&directory, true);
    let client = trusting(&directory);
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{}/hello.txt", python.port);
        assert_eq!(get(&client, &url).unwrap(), "hello over TLS");
    }
}

#[test]
fn a_large_body_arrives_whole_over_tls() {
    let directory = certified(&["localhost"]);
    let content: Vec<u8> = (0..5_000_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
    directory.write("large.bin", &content);
    let python = Python::serve(&directory, true);
    let request = trusting(&directory).get(&format!("https://localhost:{}/large.bin", python.port));
    let mut received = Vec::new();
    smol::block_on(async { request.send().await?.read_to_end(&mut received).await.map_err(Error::Body) }).unwrap();
    assert!(received == content);
}

#[test]
fn a_large_body_is_sent_whole_over_tls() {
    let directory = certified(&["localhost"]);
    let python = Python::serve(&directory, true);
    let content: Vec<u8> = (0..3_000_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
    let url = format!("https://localhost:{}/", python.port);
    let reader = Body::reader(Some(3_000_000), smol::io::Cursor::new(content.clone()));
    for body in [Body::bytes(content.clone()), reader] {
        let request = trusting(&directory).post(&url).body(body);
        let echo = smol::block_on(async { request.send().await?.bytes(4_000_000).await });
        assert!(echo.unwrap() == content);
    }
}

/// Python closes without the goodbye of TLS; so does an attacker who cuts a body short.
#[test]
fn an_open_end_without_a_goodbye_is_no_end() {
    let directory = certified(&["localhost"]);
    let python = Python::serve(&directory, true);
    let request = trusting(&directory).post(&format!("https://localhost:{}/open-ended", python.port)).body("hello");
    let error = smol::block_on(async { request.send().await?.bytes(LIMIT).await }).unwrap_err();
    assert!(matches!(error, Error::Response { source: ioto::http1::Error::Truncated, .. }), "{error}");
}

#[test]
fn another_name_and_another_authority_are_refused() {
    let directory = certified(&["elsewhere.example"]);
    let python = Python::serve(&directory, true);
    let refused = |client: &Client, host: &str| {
        let error = get(client, &format!("https://{host}:{}/", python.port)).unwrap_err();
        assert!(matches!(&error, Error::Connect(net::Error::Handshake { .. })), "{error}");
        assert!(!error.is_transient(), "{error}");
    };
    refused(&trusting(&directory), "localhost");
    refused(&trusting(&directory), "127.0.0.1");
    let other = certified(&["localhost"]);
    refused(&trusting(&other), "localhost");
}

#[test]
fn openssl_speaks_tls_1_2_and_1_3_with_us() {
    for version in ["-tls1_2", "-tls1_3"] {
        let directory = certified(&["localhost"]);
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-www", version, "-cert"])
            .arg(directory.0.join("server.crt"))
            .arg("-key")
            .arg(directory.0.join("server.key"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need openssl");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.map_while(Result::ok).find(|line| line.starts_with("ACCEPT")).unwrap();
        let port = line.rsplit(':').next().unwrap().to_owned();
        let page = get(&trusting(&directory), &format!("https://localhost:{port}/"));
        let _ = child.kill();
        let _ = child.wait();
        let page = page.unwrap();
        assert!(page.contains(&version.replace("-tls1_", "TLSv1.")), "{page}");
    }
}
