//! TLS of the web server as openssl, curl and Python see it: versions, names, tickets, reloads, and what goes wrong.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

#[path = "web_support/pki.rs"]
mod pki;
mod web_support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ioto::net::tls_server::TlsServer;
use pki::{Authority, s_client};
use web_support::{Dir, Running, curl, read_to_close, server, settings, status};

fn start(tls: &TlsServer) -> (Running, u16) {
    let server = server(settings("/nowhere".into())).tls(tls.build().unwrap()).listen("https://127.0.0.1:0").unwrap();
    let running = Running::start(server);
    let port = running.address().port();
    (running, port)
}

fn identity(authority: &Authority, name: &str) -> TlsServer {
    let (certificate, key) = authority.certificate(name, &format!("/CN={name}"), &format!("subjectAltName=DNS:{name}"));
    TlsServer::new().identity(certificate, key)
}

fn python(script: &str, arguments: &[&str]) -> String {
    let output = Command::new("python3").args(["-c", script]).args(arguments).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let authority = Authority::new("ca");
    let (_server, port) = start(&identity(&authority, "localhost"));
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let said = s_client(port, "/hello", &[version]);
        assert!(said.contains(&format!("New, {name}")) && said.contains("200 OK"), "{said}");
    }
    for version in ["-tls1_1", "-tls1"] {
        let said = s_client(port, "/hello", &[version, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(said.contains("SSL alert number") && !said.contains("200 OK"), "{said}");
    }
    let ca = authority.file("ca.crt");
    let script = "import ssl, sys, urllib.request\n\
                  trust = ssl.create_default_context(cafile=sys.argv[1])\n\
                  print(urllib.request.urlopen(sys.argv[2], context=trust).read().decode())";
    let url = format!("https://localhost:{port}/hello");
    assert_eq!(python(script, &[ca.to_str().unwrap(), &url]), "hello\n\n");
    assert_eq!(curl(&["--cacert", ca.to_str().unwrap(), &url]), "hello\n");
}

#[test]
fn the_name_that_is_asked_for_decides_about_the_certificate() {
    let authority = Authority::new("ca");
    let one = |name: &str, names: &str| authority.certificate(name, &format!("/CN={name}"), names);
    let (first, wild) =
        (one("first", "subjectAltName=DNS:first.example"), one("wild", "subjectAltName=DNS:*.wild.example"));
    let (exact, old) = (
        one("exact", "subjectAltName=DNS:a.wild.example,DNS:b.example"),
        one("old.example", "basicConstraints=CA:FALSE"),
    );
    let named = one("named", "subjectAltName=DNS:unused.example");
    authority.certificate_until("rsa", "/CN=rsa", "subjectAltName=DNS:first.example", "rsa:2048", 2049);
    let rsa = authority.pair("rsa");
    let (_server, port) = start(
        &TlsServer::new()
            .identity(first.0, first.1)
            .identity(wild.0, wild.1)
            .identity(exact.0, exact.1)
            .identity(old.0, old.1)
            .identity_for(named.0, named.1, ["x.example", "*.y.example"])
            .identity(rsa.0, rsa.1),
    );
    let subject = |arguments: &[&str]| {
        let said = s_client(port, "/hello", arguments);
        assert!(said.contains("200 OK"), "{said}");
        said.lines().find_map(|line| line.strip_prefix("subject=CN = ")).unwrap().to_owned()
    };
    for (name, expected) in [
        ("first.example", "first"),
        ("z.wild.example", "wild"),
        ("Z.WILD.example", "wild"),
        ("a.wild.example", "exact"),
        ("b.example", "exact"),
        ("old.example", "old.example"),
        ("x.example", "named"),
        ("q.y.example", "named"),
        ("unused.example", "first"),
        ("a.b.wild.example", "first"),
        ("nobody.example", "first"),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            assert_eq!(subject(&["-servername", name, version]), expected, "{name}");
        }
    }
    assert_eq!(subject(&["-noservername"]), "first");
    // A client that knows RSA alone gets the certificate that it can verify.
    let of_old = ["-tls1_2", "-sigalgs", "RSA+SHA256", "-cipher", "aRSA"];
    assert_eq!(subject(&[&["-servername", "first.example"], &of_old[..]].concat()), "rsa");
    assert_eq!(subject(&[&["-noservername"], &of_old[..]].concat()), "rsa");
}

#[test]
fn sessions_are_resumed_by_tickets_until_the_certificates_change() {
    let authority = Authority::new("ca");
    let tls = identity(&authority, "localhost").clients(authority.file("ca.crt")).clients_optional(true);
    let (server, port) = start(&tls);
    let dir = Dir::new();
    let kept = dir.0.join("session").to_str().unwrap().to_owned();
    for version in ["-tls1_2", "-tls1_3"] {
        let ask = |flag: &str, name: &str| {
            let said = s_client(port, "/hello", &[version, "-servername", name, flag, &kept]);
            assert!(said.contains("200 OK"), "{said}");
            said.contains("Reused, ")
        };
        assert!(!ask("-sess_out", "localhost"));
        assert!(ask("-sess_in", "localhost"), "{version}");
        assert!(ask("-sess_in", "localhost"), "{version}");
        // A session of another name is none.
        assert!(!ask("-sess_in", "other.example"));
        server.handle.set_tls(tls.build().unwrap());
        assert!(!ask("-sess_in", "localhost"), "{version}");
    }
}

#[test]
fn who_speaks_other_protocols_alone_is_told_so() {
    let authority = Authority::new("ca");
    let (_server, port) = start(&identity(&authority, "localhost"));
    for version in ["-tls1_2", "-tls1_3"] {
        let ask = |protocols: &str| s_client(port, "/hello", &[version, "-alpn", protocols]);
        for (offered, taken) in
            [("h2,http/1.1", "http/1.1"), ("http/1.0", "http/1.0"), ("http/1.0,http/1.1", "http/1.1")]
        {
            let said = ask(offered);
            assert!(said.contains(&format!("ALPN protocol: {taken}")) && said.contains("200 OK"), "{offered}: {said}");
        }
        for offered in ["h2", "acme-tls/1"] {
            let said = ask(offered);
            // no_application_protocol
            assert!(said.contains("alert number 120") && !said.contains("200 OK"), "{offered}: {said}");
        }
    }
    assert!(curl(&["-k", "--http2", &format!("https://127.0.0.1:{port}/hello")]).contains("hello"));
}

#[test]
fn http_on_the_port_of_https_gets_an_answer_that_can_be_read() {
    let authority = Authority::new("ca");
    let (server, port) = start(&identity(&authority, "localhost"));
    let answer = server.talk("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(status(&answer) == 400 && answer.ends_with("this is an https port: use https://\n"), "{answer}");
    assert!(answer.contains("Connection: close"), "{answer}");
    let answer = curl(&["-d", &"x".repeat(100_000), &format!("http://127.0.0.1:{port}/hello")]);
    assert!(answer.contains("https://"), "{answer}");
    // Lower case is no method, and no TLS.
    for garbage in [&b"get / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\0\0\0", b"\x80\x2e\x01\x03\x01", &[0xff; 20_000]] {
        let answer = server.talk(garbage);
        assert!(!answer.contains("HTTP/1.1"), "{answer}");
    }
    assert!(s_client(port, "/hello", &[]).contains("200 OK"));
}

/// The bytes of a ClientHello, as Python makes it.
fn client_hello() -> Vec<u8> {
    let script = "import ssl\n\
                  received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()\n\
                  tls = ssl._create_unverified_context().wrap_bio(received, sent, server_hostname='localhost')\n\
                  try: tls.do_handshake()\n\
                  except ssl.SSLWantReadError: print(sent.read().hex(), end='')";
    let digits = python(script, &[]);
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn handshakes_that_are_cut_changed_or_never_end_harm_nobody() {
    let authority = Authority::new("ca");
    let (server, port) = start(&identity(&authority, "localhost"));
    let hello = client_hello();
    let seed = fastrand::u64(..);
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..300 {
        let mut bytes = hello.clone();
        match random.bool() {
            true => bytes.truncate(random.usize(..bytes.len())),
            false => (0..random.usize(1..8)).for_each(|_| bytes[random.usize(..hello.len())] = random.u8(..)),
        }
        let mut stream = server.connect();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        read_to_close(&mut stream);
    }
    // One byte after another, and then nothing: until `timeouts.tls`, 2.5 s here.
    let began = Instant::now();
    let mut slow: Vec<TcpStream> = (0..50).map(|_| server.connect()).collect();
    slow.iter_mut().for_each(|stream| stream.write_all(&hello[..7]).unwrap());
    assert!(s_client(port, "/hello", &[]).contains("200 OK"));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    for stream in &mut slow {
        let _ = stream.read(&mut [0]);
    }
    assert!((2..8).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert!(s_client(port, "/hello", &[]).contains("200 OK"));
}

#[test]
fn the_cipher_suites_are_those_that_are_named() {
    let authority = Authority::new("ca");
    let ask = |port: u16, arguments: &[&str]| {
        let said = s_client(port, "/hello", arguments);
        let line = said.lines().find_map(|line| line.split_once("Cipher is ")).map(|(_, name)| name.to_owned());
        line.unwrap_or_default()
    };
    let tls = identity(&authority, "localhost");
    let (_one, port) = start(&tls.clone().ciphers(["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"]));
    assert_eq!(ask(port, &["-tls1_2"]), "ECDHE-ECDSA-CHACHA20-POLY1305");
    assert_eq!(ask(port, &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]), "(NONE)");
    assert_eq!(ask(port, &["-tls1_3"]), "TLS_AES_256_GCM_SHA384");
    let (_two, port) = start(&tls.clone().ciphers(["TLS_AES_128_GCM_SHA256"]));
    assert_eq!(ask(port, &["-tls1_3"]), "TLS_AES_128_GCM_SHA256");
    assert_eq!(ask(port, &["-tls1_2"]), "(NONE)");
    let error = tls.ciphers(["TLS_RSA_WITH_RC4_128_MD5"]).build().unwrap_err().to_string();
    assert!(error.contains("TLS_RSA_WITH_RC4_128_MD5"), "{error}");
}

#[test]
fn files_that_are_missing_cut_or_of_another_are_named() {
    let (authority, other) = (Authority::new("ca"), Authority::new("other"));
    let (certificate, key) = authority.certificate("localhost", "/CN=localhost", "subjectAltName=DNS:localhost");
    let (_, foreign) = other.certificate("localhost", "/CN=localhost", "subjectAltName=DNS:localhost");
    let error = |tls: TlsServer| tls.build().unwrap_err().to_string();
    let text = error(TlsServer::new().identity(&certificate, &foreign));
    assert!(text.contains("localhost.crt") && text.contains("do not belong together"), "{text}");
    assert!(text.contains(foreign.to_str().unwrap()), "{text}");
    let good = TlsServer::new().identity(&certificate, &key);
    assert!(good.build().is_ok());
    let cut = |path: &Path, to: usize| {
        let whole = fs::read(path).unwrap();
        let half = other.file("half.pem");
        fs::write(&half, &whole[..to.min(whole.len())]).unwrap();
        half
    };
    for to in [0, 10, 100, 400] {
        let text = error(TlsServer::new().identity(cut(&certificate, to), &key));
        assert!(text.contains("half.pem") && text.contains("certificate"), "{text}");
        let text = error(TlsServer::new().identity(&certificate, cut(&key, to.min(200))));
        assert!(text.contains("half.pem") && text.contains("private key"), "{text}");
        let text = error(good.clone().clients(cut(&authority.file("ca.crt"), to)));
        assert!(text.contains("half.pem") && text.contains("certificate"), "{text}");
    }
    authority.revoke(&[]);
    let clients = good.clone().clients(authority.file("ca.crt"));
    assert!(clients.clone().revoked(authority.file("ca.crl")).build().is_ok());
    let text = error(clients.clone().revoked(cut(&authority.file("ca.crl"), 100)));
    assert!(text.contains("half.pem") && text.contains("revocation list"), "{text}");
    let text = error(clients.revoked(authority.file("none.crl")));
    assert!(text.contains("none.crl") && text.contains("No such file"), "{text}");
    assert!(error(TlsServer::new()).contains("needs a certificate"));
    assert!(error(good.identity(&certificate, &foreign)).contains("do not belong together"));
}

#[test]
fn new_certificates_come_in_while_connections_go_on() {
    let authority = Authority::new("ca");
    let first = identity(&authority, "first");
    let (server, port) = start(&first);
    let script = format!(
        "import http.client, ssl, sys\n\
         c = http.client.HTTPSConnection('127.0.0.1', {port}, context=ssl._create_unverified_context())\n\
         for line in sys.stdin:\n\
         \x20   c.request('GET', '/hello'); r = c.getresponse(); r.read()\n\
         \x20   print(r.status, r.getheader('Connection'), flush=True)"
    );
    let mut client = Command::new("python3")
        .args(["-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    let mut ask = || {
        input.write_all(b"\n").unwrap();
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    };
    assert_eq!(ask(), "200 None\n");
    server.handle.set_tls(identity(&authority, "second").build().unwrap());
    assert_eq!(ask(), "200 None\n");
    assert!(s_client(port, "/hello", &[]).contains("subject=CN = second"));
    assert_eq!(ask(), "200 None\n");
    drop(input);
    client.wait().unwrap();
}
