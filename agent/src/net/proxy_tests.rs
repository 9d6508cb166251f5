//! Proxies of our own on loopback: what they are told, and what they may answer.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream as Socket};
use std::thread;

use super::*;

const LONG: Duration = Duration::from_secs(10);

/// A proxy that takes one connection: each step is read (so many bytes as are listed) and answered. Gives its address, and
/// all that it was told.
fn scripted(steps: Vec<(usize, &'static [u8])>) -> (u16, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut told = Vec::new();
        for (bytes, answer) in steps {
            let told_before = told.len();
            told.resize(told_before + bytes, 0);
            socket.read_exact(&mut told[told_before..]).unwrap();
            socket.write_all(answer).unwrap();
        }
        told
    };
    (port, thread::spawn(script))
}

/// An HTTP proxy that answers one CONNECT.
fn http_proxy(answer: &'static [u8]) -> (u16, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = move || {
        let (mut socket, _) = listener.accept().unwrap();
        let head = read_head(&mut socket);
        // Byte by byte: the end of the head must be found wherever it is cut.
        for byte in answer {
            let _ = socket.write_all(&[*byte]);
        }
        head
    };
    (port, thread::spawn(script))
}

fn read_head(socket: &mut Socket) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn through(proxy: &str, host: &str, port: u16) -> Result<TcpStream, Error> {
    smol::block_on(proxy.parse::<Proxy>().unwrap().connect(host, port, LONG))
}

fn rest_of(mut stream: TcpStream) -> String {
    let mut rest = String::new();
    smol::block_on(stream.read_to_string(&mut rest)).unwrap();
    rest
}

#[test]
fn an_http_proxy_is_told_host_and_login_and_the_bytes_of_the_host_stay_in_the_stream() {
    let (port, told) = http_proxy(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nhello");
    let stream = through(&format!("http://Aladdin:open%20sesame@127.0.0.1:{port}"), "example.com", 8883).unwrap();
    assert_eq!(rest_of(stream), "hello");
    assert_eq!(
        told.join().unwrap(),
        "CONNECT example.com:8883 HTTP/1.1\r\nHost: example.com:8883\r\n\
         Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
    );
}

#[test]
fn an_address_of_ipv6_has_its_brackets_for_an_http_proxy() {
    for host in ["::1", "[::1]"] {
        let (port, told) = http_proxy(b"HTTP/1.0 200\r\n\r\n");
        through(&format!("http://127.0.0.1:{port}"), host, 1).unwrap();
        assert!(told.join().unwrap().starts_with("CONNECT [::1]:1 HTTP/1.1\r\nHost: [::1]:1\r\n\r\n"));
    }
}

#[test]
fn what_an_http_proxy_refuses_is_said_in_words() {
    for (answer, word, is_transient) in [
        (&b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..], "user name and password", false),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!", "403 Forbidden", false),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "503", true),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "does not answer in HTTP", false),
        (b"SSH-2.0-x\r\n\r\n", "does not answer in HTTP", false),
        (b"HTTP/1.1 200 OK\r\n", "closed the connection", true),
        (b"", "closed the connection", true),
    ] {
        let (port, _told) = http_proxy(answer);
        let error = through(&format!("http://u:hunter2@127.0.0.1:{port}"), "h", 1).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(word) && text.contains(&format!("http://127.0.0.1:{port}")), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(error.is_transient(), is_transient, "{text}");
    }
}

#[test]
fn an_endless_head_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n");
        while socket.write_all(b"X-More: and more\r\n").is_ok() {}
    });
    let error = through(&format!("http://127.0.0.1:{port}"), "h", 1).unwrap_err();
    assert!(matches!(error, Error::Proxy { fault: Fault::NotHttp, .. }), "{error}");
}

#[test]
fn a_host_that_would_be_a_header_is_never_sent() {
    let (port, _told) = http_proxy(b"HTTP/1.1 200 OK\r\n\r\n");
    let error = through(&format!("http://127.0.0.1:{port}"), "h\r\nX: y", 1).unwrap_err();
    assert!(matches!(error, Error::Proxy { fault: Fault::Host(_), .. }), "{error}");
}

#[test]
fn a_socks_proxy_looks_the_name_up_and_takes_a_login() {
    let request = 5 + "example.com".len() + 2;
    let (port, told) =
        scripted(vec![(4, b"\x05\x02"), (3 + 4 + 6, b"\x01\x00"), (request, b"\x05\x00\x00\x03\x02ab\x00\x00hello")]);
    let stream = through(&format!("socks5://user:secret@127.0.0.1:{port}"), "example.com", 0x1234).unwrap();
    assert_eq!(rest_of(stream), "hello");
    assert_eq!(told.join().unwrap(), b"\x05\x02\x00\x02\x01\x04user\x06secret\x05\x01\x00\x03\x0bexample.com\x12\x34");
}

#[test]
fn a_socks_proxy_without_login_gets_addresses_as_such() {
    let (port, told) = scripted(vec![(3, b"\x05\x00"), (10, b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01hi")]);
    assert_eq!(rest_of(through(&format!("socks5h://127.0.0.1:{port}"), "10.1.2.3", 80).unwrap()), "hi");
    assert_eq!(told.join().unwrap(), b"\x05\x01\x00\x05\x01\x00\x01\x0a\x01\x02\x03\x00\x50");
    let (port, told) =
        scripted(vec![(3, b"\x05\x00"), (22, &[5, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1])]);
    through(&format!("socks5://127.0.0.1:{port}"), "[::1]", 80).unwrap();
    assert_eq!(told.join().unwrap()[3..7], [5, 1, 0, 4]);
}

#[test]
fn what_a_socks_proxy_refuses_is_said_in_words() {
    let request = 5 + 1 + 2;
    for (steps, word, is_transient) in [
        (vec![(3, &b"\x05\xff"[..])], "user name and password", false),
        (vec![(3, b"\x05\x02")], "does not answer in SOCKS5", false),
        (vec![(3, b"HT")], "does not answer in SOCKS5", false),
        (vec![(3, b"\x05\x00"), (request, b"\x05\x02\x00\x01")], "rules do not allow", false),
        (vec![(3, b"\x05\x00"), (request, b"\x05\x04\x00\x01")], "cannot reach the host", true),
        (vec![(3, b"\x05\x00"), (request, b"\x05\x00\x00\x09")], "does not answer in SOCKS5", false),
        (vec![(3, b"\x05\x00"), (request, b"\x05\x00\x00\x01\x7f")], "closed the connection", true),
        (vec![(3, b"\x05")], "closed the connection", true),
    ] {
        let (port, _told) = scripted(steps);
        let error = through(&format!("socks5://127.0.0.1:{port}"), "h", 1).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(error.is_transient(), is_transient, "{error}");
    }
    let (port, _told) = scripted(vec![(4, b"\x05\x02"), (5, b"\x01\x01")]);
    let error = through(&format!("socks5://u:p@127.0.0.1:{port}"), "h", 1).unwrap_err();
    assert!(matches!(error, Error::Proxy { fault: Fault::Login, .. }), "{error}");
}

#[test]
fn a_proxy_that_says_nothing_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for scheme in ["http", "socks5"] {
        let proxy: Proxy = format!("{scheme}://127.0.0.1:{port}").parse().unwrap();
        let start = Instant::now();
        let error = smol::block_on(proxy.connect("h", 1, Duration::from_millis(150))).unwrap_err();
        assert!(matches!(error, Error::Timeout { step: Step::Proxy, .. }), "{error}");
        assert!(error.is_transient() && start.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn proxies_are_urls_and_no_error_shows_the_password() {
    for (text, shown) in [
        ("http://gate", "http://gate:8080"),
        ("http://gate:3128/", "http://gate:3128"),
        ("socks5://[::1]", "socks5://[::1]:1080"),
        ("socks5h://u@[::1]:99", "socks5://[::1]:99"),
        ("http://u:p%40%3A@gate", "http://gate:8080"),
    ] {
        assert_eq!(text.parse::<Proxy>().unwrap().to_string(), shown, "{text}");
    }
    for text in [
        "",
        "gate",
        "https://gate",
        "http://",
        "http://gate:0",
        "http://u:secret@",
        "http://u:sec%2@gate",
        "http://a b",
    ] {
        let error = text.parse::<Proxy>().unwrap_err();
        assert!(error.contains("proxy") && !error.contains("sec"), "{error}");
    }
    assert!(!format!("{:?}", "http://u:hunter2@gate".parse::<Proxy>().unwrap()).contains("hunter2"));
}
