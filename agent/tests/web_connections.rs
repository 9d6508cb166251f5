//! Connections of the web server: limits, TLS, Unix sockets, stopping; and curl.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ioto::net::tls_server;
use ioto::web::{Address, Error, Server, own_certificate};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use web_support::{Dir, MEGABYTE, Running, curl, get, read_response, read_to_close, server, settings, start, status};

#[test]
fn a_reader_that_never_reads_is_cut_and_others_are_served() {
    let (server, _dir) = start(|settings| settings.timeouts.inactivity = Duration::from_millis(600));
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
fn a_client_that_sends_megabytes_before_it_reads_gets_its_answer() {
    let (server, _dir) = start(|_| {});
    let mut stream = server.connect();
    stream.write_all(b"POST /json HTTP/1.1\r\nHost: h\r\nContent-Length: 6000000\r\n\r\n").unwrap();
    // The answer is there already, and is not lost by what comes after it.
    std::thread::sleep(Duration::from_millis(100));
    stream.write_all(&vec![b'x'; 6_000_000]).unwrap();
    assert_eq!(status(&read_to_close(&mut stream)), 413);
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
    let (certificate, key) = own_certificate(&dir.0, &[]).unwrap();
    let (new_certificate, new_key) = own_certificate(&other.0, &[]).unwrap();
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
    assert!(start.elapsed() < Duration::from_secs(8));

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
