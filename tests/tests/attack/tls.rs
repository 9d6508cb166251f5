//! TLS handshakes that are cut in the middle.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use ioto_tests::{Credulous, free_port};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::attackers::connect_from;
use crate::others::{Target, alone, are_served_at, server};

fn client() -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the usual versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth()
}

/// The first message of a client.
fn hello() -> Vec<u8> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut connection = ClientConnection::new(Arc::new(client()), name).expect("a client");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("written to memory");
    bytes
}

#[test]
fn a_thousand_handshakes_that_are_cut_disturb_nobody() {
    let _alone = alone();
    for threads in [1, 2] {
        break_off_at(threads);
    }
}

/// The others use TLS, too.
fn break_off_at(threads: usize) {
    let mut agent = server(threads);
    let (plain, secure) = (agent.address(), SocketAddr::from(([127, 0, 0, 1], free_port())));
    agent.configure("tls", &format!("{{web: {{listen: ['http://{plain}', 'https://{secure}']}}}}"));
    agent.start();
    let hello = hello();
    let target = Target { address: secure, path: "/", tls: Some(Arc::new(client())) };
    are_served_at(&target, &agent, &format!("1,000 TLS handshakes cut in the middle, threads: {threads}"), || {
        let (mut answered, mut held) = (0, Vec::new());
        for number in 0..1000 {
            let mut stream = connect_from(number / 100, secure).expect("connected");
            match number % 3 {
                // All the work of the server, for nothing.
                0 => {
                    stream.write_all(&hello).expect("sent");
                    answered += usize::from(stream.read(&mut [0; 100]).is_ok_and(|read| read > 0));
                }
                1 => stream.write_all(&hello[..hello.len() / 2]).expect("sent"),
                // This one waits.
                _ => {
                    stream.write_all(&hello[..50]).expect("sent");
                    held.push(stream);
                }
            }
        }
        assert_eq!(answered, 334, "the server shook hands");
    });
}
