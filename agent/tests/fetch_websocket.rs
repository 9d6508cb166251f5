//! WebSockets against tungstenite's server, and against servers that are none.

#![cfg(all(feature = "fetch", feature = "web"))]
#![allow(clippy::unwrap_used, clippy::result_large_err)]

mod fetch_support;

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_tungstenite::tungstenite::handshake::server::{Request, Response};
use async_tungstenite::tungstenite::protocol::frame::CloseFrame;
use async_tungstenite::tungstenite::{Message as Frames, WebSocket as Served, accept, accept_hdr};
use fetch_support::Server;
use fetch_support::gate::Gate;
use ioto::fetch::{Client, Error, Message, Options, Stage, Timeouts};
use ioto::net::{self, Fault, TlsClient};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

fn serve(script: impl FnOnce(Served<TcpStream>) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/chat?x=1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let check = |request: &Request, mut response: Response| {
            assert_eq!(request.uri().to_string(), "/chat?x=1");
            assert_eq!(request.headers()["authorization"], "Bearer t");
            let offered = request.headers().get("sec-websocket-protocol").map(|v| v.to_str().unwrap().to_owned());
            if let Some(offered) = offered {
                let last = offered.rsplit(", ").next().unwrap().parse().unwrap();
                response.headers_mut().insert("sec-websocket-protocol", last);
            }
            Ok(response)
        };
        script(accept_hdr(listener.accept().unwrap().0, check).unwrap());
    });
    url
}

fn impatient() -> Client {
    let timeouts = Timeouts { idle: Duration::from_millis(200), ..Timeouts::default() };
    Client::new(Options { timeouts, ..Options::default() })
}

#[test]
fn messages_go_both_ways_until_one_side_says_farewell() {
    let url = serve(|mut socket| {
        // It speaks before it is asked: that may come with the answer to the handshake.
        socket.send(Frames::text("hello")).unwrap();
        loop {
            match socket.read().unwrap() {
                Frames::Close(frame) => {
                    assert_eq!(frame.unwrap().reason.as_str(), "enough");
                    break;
                }
                Frames::Text(text) if text.as_str() == "bye" => {
                    let reason = CloseFrame { code: 4001.into(), reason: "bye".into() };
                    socket.close(Some(reason)).unwrap();
                }
                message => socket.send(message).unwrap(),
            }
        }
    });
    smol::block_on(async {
        let mut socket = impatient().get(&url).bearer("t").websocket(&["a", "b"]).await.unwrap();
        assert_eq!(socket.protocol(), Some("b"));
        assert_eq!(socket.receive().await.unwrap(), Some("hello".into()));
        for message in [Message::from("täxt"), Message::Binary(vec![7; 300_000]), "".into()] {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.receive().await.unwrap(), Some(message));
        }
        socket.close(1000, "enough").await.unwrap();
    });
    let url = serve(|mut socket| {
        socket.close(Some(CloseFrame { code: 4001.into(), reason: "bye".into() })).unwrap();
        while socket.read().is_ok() {}
    });
    smol::block_on(async {
        let mut socket = impatient().get(&url).bearer("t").websocket(&[]).await.unwrap();
        assert_eq!(socket.receive().await.unwrap(), None);
        assert_eq!(socket.closed(), Some((4001, "bye")));
        assert_eq!(socket.receive().await.unwrap(), None);
    });
}

#[test]
fn a_silent_server_is_pinged_and_given_up_when_it_stays_silent() {
    let url = serve(|mut socket| {
        // Reading answers pings.
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(900) {
            socket.read().unwrap();
        }
        socket.send(Frames::text("still here")).unwrap();
        std::thread::sleep(Duration::from_secs(5));
    });
    smol::block_on(async {
        let mut socket = impatient().get(&url).bearer("t").websocket(&[]).await.unwrap();
        assert_eq!(socket.receive().await.unwrap(), Some("still here".into()));
        let start = Instant::now();
        let error = socket.receive().await.unwrap_err();
        assert!(matches!(error, Error::Timeout { stage: Stage::Idle, .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(3));
    });
}

#[test]
fn a_message_that_is_too_large_is_refused() {
    let url = serve(|mut socket| {
        let _ = socket.send(Frames::binary(vec![0; 2 << 20]));
        let _ = socket.read();
    });
    smol::block_on(async {
        let mut socket = impatient().get(&url).bearer("t").websocket(&[]).await.unwrap();
        let error = socket.receive().await.unwrap_err();
        assert!(matches!(error, Error::WebSocket { .. }) && error.to_string().contains("127.0.0.1"), "{error}");
    });
}

#[test]
fn a_server_that_agrees_to_something_else_is_refused() {
    let connect = |answer: &str| {
        let server = Server::closing(answer);
        smol::block_on(Client::default().get(&server.url).websocket(&["a"])).unwrap_err()
    };
    let head = "HTTP/1.1 101 X\r\nConnection: Upgrade\r\n";
    let wrong = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    for answer in [
        format!("{head}Upgrade: websocket\r\n{wrong}\r\n"),
        format!("{head}Upgrade: websocket\r\n\r\n"),
        format!("{head}Upgrade: other\r\n{wrong}\r\n"),
    ] {
        let error = connect(&answer);
        assert!(matches!(error, Error::Upgrade { .. }), "{error}");
    }
    assert!(matches!(connect("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Error::Status { status: 200, .. }));
    assert!(matches!(connect("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"), Error::Status { status: 403, .. }));
}

/// A server over TLS that says what it gets, and whom to trust for it.
fn serve_over_tls() -> (u16, TlsClient) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["far.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let served = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let served = Arc::new(served.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let trust = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let tls = StreamOwned::new(ServerConnection::new(served.clone()).unwrap(), stream);
            std::thread::spawn(move || {
                let mut socket = accept(tls).unwrap();
                while let Ok(message @ (Frames::Text(_) | Frames::Binary(_))) = socket.read() {
                    socket.send(message).unwrap();
                }
            });
        }
    });
    (port, Arc::new(trust.with_root_certificates(roots).with_no_client_auth()).into())
}

async fn echoes(client: &Client, url: &str) {
    let mut socket = client.get(url).bearer("t").websocket(&[]).await.unwrap();
    for message in [Message::from("hello"), Message::Binary(vec![7; 300_000])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.receive().await.unwrap(), Some(message));
    }
    socket.close(1000, "enough").await.unwrap();
}

#[test]
fn tls_carries_messages_to_whom_the_certificate_names() {
    let (port, trust) = serve_over_tls();
    let hosts = ["far.example", "near.example"].map(|host| (host.to_owned(), vec![[127, 0, 0, 1].into()])).to_vec();
    let client = Client::new(Options { tls: Some(trust), hosts: hosts.clone(), ..Options::default() });
    smol::block_on(async {
        echoes(&client, &format!("https://far.example:{port}/")).await;
        let error = client.get(&format!("https://near.example:{port}/")).websocket(&[]).await.unwrap_err();
        assert!(matches!(error, Error::Connect(net::Error::Handshake { .. })), "{error}");
        let stranger = Client::new(Options { tls: Some(serve_over_tls().1), hosts, ..Options::default() });
        let error = stranger.get(&format!("https://far.example:{port}/")).websocket(&[]).await.unwrap_err();
        assert!(matches!(error, Error::Connect(net::Error::Handshake { .. })), "{error}");
    });
}

#[test]
fn a_proxy_is_asked_for_a_tunnel_with_and_without_tls() {
    let (port, trust) = serve_over_tls();
    for (scheme, verb) in [("http", "CONNECT"), ("socks5", "SOCKS")] {
        let gate = Gate::open(Some("me:secret"));
        let through = |login: &str| {
            let proxies = format!("{scheme}://{login}@{}", gate.address).parse::<net::Proxy>().unwrap().into();
            Client::new(Options { tls: Some(trust.clone()), proxies, ..Options::default() })
        };
        smol::block_on(async {
            echoes(&through("me:secret"), &format!("https://far.example:{port}/")).await;
            assert_eq!(gate.carried(), [format!("{verb} far.example:{port}")]);
            let plain = serve(|mut socket| while socket.read().is_ok_and(|message| socket.send(message).is_ok()) {});
            let plain = plain.replace("127.0.0.1", "plain.example");
            echoes(&through("me:secret"), &plain).await;
            let port = plain.rsplit(':').next().unwrap().split('/').next().unwrap();
            assert_eq!(gate.carried(), [format!("{verb} plain.example:{port}")]);
            let error = through("me:wrong").get(&plain).websocket(&[]).await.unwrap_err();
            assert!(matches!(error, Error::Connect(net::Error::Proxy { fault: Fault::Login, .. })), "{error}");
        });
    }
}
