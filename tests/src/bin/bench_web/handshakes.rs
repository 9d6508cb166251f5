//! New TLS connections, each with a full handshake. wrk would resume its sessions.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ioto_tests::Credulous;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned, version};

use crate::Outcome;
use crate::load::Load;

/// How long a peer may be silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// A TLS connection of this program.
pub type Connection = StreamOwned<ClientConnection, TcpStream>;

/// TLS 1.3, a server key of ECDSA P-256, key exchange X25519, no sessions to resume.
pub fn client() -> Arc<ClientConfig> {
    let mut provider = ring::default_provider();
    provider.kx_groups = vec![ring::kx_group::X25519];
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS13])
        .expect("ring knows TLS 1.3");
    let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Credulous)).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Loads a server from as many threads as there are connections at a time.
pub fn run(address: SocketAddr, path: &str, connections: usize, seconds: u64) -> Outcome<Load> {
    let config = client();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let began = Instant::now();
    let end = began + Duration::from_secs(seconds);
    let counts: Vec<(u64, Vec<io::Error>)> = thread::scope(|scope| {
        let (config, request) = (&config, request.as_bytes());
        let threads: Vec<_> =
            (0..connections).map(|_| scope.spawn(move || repeat(end, config, address, request))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    });
    let mut load = Load { seconds: began.elapsed().as_secs_f64(), ..Load::default() };
    for (requests, errors) in counts {
        load.requests += requests;
        load.errors += errors.len() as u64;
        load.complaints.extend(errors.first().map(ToString::to_string));
    }
    load.complaints.dedup();
    match load.requests {
        0 => Err(format!("no TLS handshake succeeded: {}", load.complaints.join("; "))),
        _ => Ok(load),
    }
}

fn repeat(end: Instant, config: &Arc<ClientConfig>, address: SocketAddr, request: &[u8]) -> (u64, Vec<io::Error>) {
    let (mut requests, mut errors) = (0, Vec::new());
    while Instant::now() < end && errors.len() < 100 {
        match once(config, address, request) {
            Ok(()) => requests += 1,
            Err(error) => errors.push(error),
        }
    }
    (requests, errors)
}

fn once(config: &Arc<ClientConfig>, address: SocketAddr, request: &[u8]) -> io::Result<()> {
    let mut connection = connect(config, address)?;
    connection.write_all(request)?;
    let mut answer = Vec::with_capacity(2048);
    match connection.read_to_end(&mut answer) {
        // A server may close without saying so.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
        _ => {}
    }
    let expected = (Some(HandshakeKind::Full), Some(rustls::ProtocolVersion::TLSv1_3));
    let handshake = (connection.conn.handshake_kind(), connection.conn.protocol_version());
    match answer.starts_with(b"HTTP/1.1 200") && handshake == expected {
        true => Ok(()),
        false => Err(io::Error::other(format!("{handshake:?}, {} bytes of an answer", answer.len()))),
    }
}

/// Connects; the handshake follows with the first bytes.
pub fn connect(config: &Arc<ClientConfig>, address: SocketAddr) -> io::Result<Connection> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    Ok(StreamOwned::new(ClientConnection::new(config.clone(), name).map_err(io::Error::other)?, stream))
}
