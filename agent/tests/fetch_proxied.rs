//! Requests through proxies, and past them.

#![cfg(feature = "fetch")]
#![allow(clippy::unwrap_used)]

mod fetch_support;

use std::io::{Read, Write};
use std::net::TcpStream;

use fetch_support::Server;
use ioto::fetch::{Client, CookieJar, Error, Options};
use ioto::net::{self, Fault};

const LIMIT: usize = 1 << 20;

fn through(proxy: &str, direct: &str) -> Client {
    let (proxies, direct) = (proxy.parse::<net::Proxy>().unwrap().into(), direct.parse().unwrap());
    Client::new(Options { proxies, direct, ..Options::default() })
}

fn text(client: &Client, url: &str) -> String {
    smol::block_on(async { client.get(url).send().await.unwrap().text(LIMIT).await.unwrap() })
}

#[test]
fn plain_requests_go_to_the_proxy_as_they_are_and_keep_its_connection() {
    let proxy = Server::mirror();
    let client = through(&proxy.url.replace("http://", "http://me:secret@"), "");
    for _ in 0..2 {
        let seen = text(&client, "http://far.example/path?q");
        assert!(seen.starts_with("GET http://far.example/path?q HTTP/1.1\nHost: far.example\n"), "{seen}");
        assert!(seen.contains("Proxy-Authorization: Basic bWU6c2VjcmV0\n"), "{seen}");
    }
    assert_eq!(proxy.connections(), 1);
}

#[test]
fn exceptions_go_past_the_proxy_and_never_share_its_connections() {
    let (proxy, server) = (Server::mirror(), Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ndirect"));
    let client = through(&proxy.url, "127.0.0.0/8");
    assert_eq!(text(&client, &server.url), "direct");
    let client = through(&proxy.url, "");
    assert!(text(&client, &server.url).starts_with("GET http://127.0.0.1:"));
    let past = client.get(&server.url).proxy(None);
    assert_eq!(smol::block_on(async { past.send().await.unwrap().text(LIMIT).await.unwrap() }), "direct");
}

#[test]
fn tls_goes_through_a_tunnel_and_a_refusal_names_the_proxy() {
    let proxy = Server::new(|peer| {
        let head = peer.head().unwrap();
        assert!(head.starts_with("CONNECT far.example:443 HTTP/1.1\n"), "{head}");
        peer.answer(407, "", "");
    });
    let error = smol::block_on(through(&proxy.url, "").get("https://far.example/").send()).unwrap_err();
    assert!(matches!(error, Error::Connect(net::Error::Proxy { fault: Fault::Login, .. })), "{error}");
    let refusing = Server::answering("HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n");
    let error = smol::block_on(through(&refusing.url, "").get("http://far.example/").send()).unwrap_err();
    assert!(error.to_string().contains(&refusing.url), "{error}");
}

#[test]
fn a_socks_proxy_carries_requests() {
    let server = Server::mirror();
    let address = server.url.trim_start_matches("http://").to_owned();
    let socks = Server::new(move |peer| {
        let stream = peer.stream();
        let mut bytes = [0; 64];
        stream.read_exact(&mut bytes[..3]).unwrap();
        stream.write_all(&[5, 0]).unwrap();
        let request = stream.read(&mut bytes).unwrap();
        assert_eq!(&bytes[..5], &[5, 1, 0, 3, 11], "the name is looked up there: {request}");
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        let mut far = TcpStream::connect(&address).unwrap();
        let (mut from, mut to) = (stream.try_clone().unwrap(), far.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut far, stream);
    });
    let client = through(&socks.url.replace("http", "socks5"), "");
    for _ in 0..2 {
        let seen = text(&client, "http://far.example/x");
        assert!(seen.starts_with("GET /x HTTP/1.1\nHost: far.example\n"), "{seen}");
    }
    assert_eq!(socks.connections(), 1);
}

#[test]
fn cookies_come_back_to_who_set_them_also_over_redirections() {
    let server = Server::new(|peer| {
        while let Some(request) = peer.request() {
            match request.starts_with("GET /login ") {
                true => peer.answer(302, "Location: /\r\nSet-Cookie: id=7; Path=/\r\n", ""),
                false => peer.answer(200, "", &request),
            }
        }
    });
    let jar = CookieJar::new();
    let client = Client::new(Options { cookies: Some(jar.clone()), ..Options::default() });
    assert!(text(&client, &format!("{}/login", server.url)).contains("Cookie: id=7\n"));
    assert!(text(&client, &server.url).contains("Cookie: id=7\n"));
    assert!(!text(&Client::default(), &server.url).contains("Cookie"));
    jar.clear();
    assert!(!text(&client, &server.url).contains("Cookie"));
}
