//! Whom the client trusts over TLS, and as whom it is known.

#![cfg(all(feature = "fetch", feature = "web"))]
#![allow(clippy::unwrap_used)]

#[path = "fetch_support/authority.rs"]
mod authority;
mod fetch_support;

use std::process::{Child, Command, Stdio};

use fetch_support::{Directory, Foreign, Python};
use ioto::config::Profile;
use ioto::fetch::{Client, Error, Options};
use ioto::net::{self, Pin, TlsClient, TlsClientBuilder};
use rcgen::{CertificateParams, date_time_ymd};

const LIMIT: usize = 1 << 20;

/// A certificate for this machine, see [`authority::certified`], and a file to serve.
fn certified(change: impl FnOnce(&mut CertificateParams)) -> (Directory, Pin) {
    let (directory, pin) = authority::certified(&["localhost", "127.0.0.1"], change);
    directory.write("hello.txt", "hello");
    (directory, pin)
}

fn trusting(directory: &Directory) -> TlsClientBuilder {
    TlsClient::builder().authority(directory.0.join("ca.pem"))
}

fn get(tls: TlsClientBuilder, port: u16) -> Result<String, Error> {
    let client = Client::new(Options { tls: Some(tls.build().unwrap()), ..Options::default() });
    smol::block_on(async { client.get(&format!("https://localhost:{port}/hello.txt")).send().await?.text(LIMIT).await })
}

fn refusal(result: Result<String, Error>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Connect(net::Error::Handshake { .. })) && !error.is_transient(), "{error}");
    let text = error.to_string();
    assert!(text.contains("localhost"), "{text}");
    text
}

#[test]
fn certificates_that_are_not_valid_now_are_refused() {
    let (old, _) = certified(|params| params.not_after = date_time_ymd(2020, 1, 1));
    let python = Python::serve(&old, true);
    assert!(refusal(get(trusting(&old), python.port)).to_lowercase().contains("expired"));
    let (early, _) = certified(|params| params.not_before = date_time_ymd(2090, 1, 1));
    let python = Python::serve(&early, true);
    assert!(refusal(get(trusting(&early), python.port)).to_lowercase().contains("not valid yet"));
}

#[test]
fn only_a_pinned_key_will_do() {
    let (directory, pin) = certified(|_| ());
    let python = Python::serve(&directory, true);
    assert_eq!(get(trusting(&directory).pins([pin]), python.port).unwrap(), "hello");
    let (other, other_pin) = certified(|_| ());
    assert!(refusal(get(trusting(&directory).pins([other_pin]), python.port)).contains("pinned"));
    // A pin does not replace the authority.
    refusal(get(trusting(&other).pins([pin]), python.port));
    assert_eq!(get(trusting(&directory).pins([other_pin, pin]), python.port).unwrap(), "hello");
}

#[test]
fn openssl_makes_the_same_pin() {
    let (directory, pin) = certified(|_| ());
    let script = "openssl x509 -in \"$1\" -noout -pubkey | openssl pkey -pubin -outform der | \
                  openssl dgst -sha256 -binary | base64";
    let certificate = directory.0.join("server.crt");
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(certificate).output().unwrap();
    assert_eq!(pin.to_string(), format!("sha256//{}", String::from_utf8(output.stdout).unwrap().trim()));
    assert_eq!(pin.to_string().parse(), Ok(pin));
}

#[test]
fn unverified_is_for_developers_alone_and_pins_hold_even_then() {
    let (directory, pin) = certified(|params| params.not_after = date_time_ymd(2020, 1, 1));
    let python = Python::serve(&directory, true);
    assert!(matches!(TlsClient::builder().unverified(Profile::Prod), Err(net::Error::Unverified)));
    let unverified = || TlsClient::builder().unverified(Profile::Dev).unwrap();
    assert_eq!(get(unverified(), python.port).unwrap(), "hello");
    assert_eq!(get(unverified().pins([pin]), python.port).unwrap(), "hello");
    let (_, other_pin) = certified(|_| ());
    refusal(get(unverified().pins([other_pin]), python.port));
}

#[test]
fn identities_never_share_a_connection() {
    let (directory, _) = certified(|_| ());
    let certs = directory.0.to_str().unwrap();
    let server = format!(
        "listen 127.0.0.1:{{PORT}} ssl; ssl_certificate {certs}/server.crt; ssl_certificate_key {certs}/server.key;
         ssl_client_certificate {certs}/ca.pem; ssl_verify_client optional_no_ca;
         location / {{ return 200 \"$ssl_client_verify $connection\"; }}"
    );
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(_server) = Foreign::nginx(&server.replace("{PORT}", &port.to_string())) else { return };
    let plain = trusting(&directory).build().unwrap();
    let known = trusting(&directory).identity(directory.0.join("server.crt"), directory.0.join("server.key"));
    let known = known.build().unwrap();
    let client = Client::new(Options { tls: Some(plain), ..Options::default() });
    let ask = |tls: Option<&TlsClient>| {
        let mut request = client.get(&format!("https://localhost:{port}/"));
        if let Some(tls) = tls {
            request = request.tls(tls.clone());
        }
        let text = smol::block_on(async { request.send().await.unwrap().text(LIMIT).await.unwrap() });
        let (verified, connection) = text.split_once(' ').map(|(v, c)| (v.to_owned(), c.to_owned())).unwrap();
        (verified, connection)
    };
    let (first, second) = (ask(None), ask(Some(&known)));
    assert_eq!(first.0, "NONE");
    assert!(second.0 != "NONE" && second.1 != first.1, "{first:?} {second:?}");
    assert_eq!((ask(None), ask(Some(&known))), (first, second), "each goes on with its own");
}

#[test]
fn a_peer_that_speaks_no_tls_or_stops_in_the_middle_is_named() {
    let plain = fetch_support::Server::answering("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n");
    let (directory, _) = certified(|_| ());
    let port: u16 = plain.url.rsplit(':').next().unwrap().parse().unwrap();
    let error = get(trusting(&directory), port).unwrap_err();
    assert!(matches!(error, Error::Connect(net::Error::Handshake { .. })), "{error}");
    let mute = fetch_support::Server::new(|peer| drop(peer.line()));
    let port: u16 = mute.url.rsplit(':').next().unwrap().parse().unwrap();
    let error = get(trusting(&directory), port).unwrap_err();
    assert!(error.to_string().contains("localhost"), "{error}");
}

#[test]
fn a_tunnel_through_a_proxy_carries_tls_to_the_server_and_its_connection_is_kept() {
    let (directory, _) = certified(|_| ());
    let certs = directory.0.to_str().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "listen 127.0.0.1:{port} ssl; ssl_certificate {certs}/server.crt; ssl_certificate_key {certs}/server.key;"
    );
    let Some(server) = Foreign::nginx(&config) else { return };
    server.write("hello.txt", "hello");
    let proxy = fetch_support::Server::new(move |peer| {
        // The name is looked up by the proxy.
        assert!(peer.head().unwrap().starts_with("CONNECT localhost:"));
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n");
        let mut far = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let stream = peer.stream();
        let (mut from, mut to) = (stream.try_clone().unwrap(), far.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut far, stream);
    });
    let tls = Some(trusting(&directory).build().unwrap());
    let client =
        Client::new(Options { tls, proxies: proxy.url.parse::<net::Proxy>().unwrap().into(), ..Options::default() });
    for _ in 0..3 {
        let request = client.get(&format!("https://localhost:{port}/hello.txt"));
        let text = smol::block_on(async { request.send().await.unwrap().text(LIMIT).await.unwrap() });
        assert_eq!(text, "hello");
    }
    assert_eq!(proxy.connections(), 1);
}

/// OpenSSL as a server that wants a certificate of the client.
fn openssl(directory: &Directory) -> (Child, u16) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = |name: &str| directory.0.join(name);
    let child = Command::new("openssl")
        .args(["s_server", "-accept", &port.to_string(), "-www", "-quiet", "-Verify", "2", "-verify_return_error"])
        .arg("-cert")
        .arg(file("server.crt"))
        .arg("-key")
        .arg(file("server.key"))
        .arg("-CAfile")
        .arg(file("ca.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..100 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break;
        }
        fetch_support::pause(50);
    }
    (child, port)
}

#[test]
fn a_server_that_wants_a_certificate_refuses_who_has_none() {
    let (directory, _) = certified(|_| ());
    let (mut child, port) = openssl(&directory);
    let result = get(trusting(&directory), port);
    let known = trusting(&directory).identity(directory.0.join("server.crt"), directory.0.join("server.key"));
    let good = get(known, port);
    child.kill().unwrap();
    child.wait().unwrap();
    let error = result.unwrap_err().to_string();
    assert!(error.contains("localhost") && error.to_lowercase().contains("certificate"), "{error}");
    good.unwrap();
}
