//! A TLS server in front of a broker that remembers what it was told before the first byte of MQTT: SNI, ALPN, the upgrade.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

/// What one connection told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub name: Option<String>,
    pub alpn: Option<String>,
    /// The first bytes, as text.
    pub first: String,
}

/// The server. It speaks the given ALPN protocols, and none when there are none.
pub struct Front {
    pub port: u16,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Front {
    pub fn start(directory: &Path, broker: SocketAddr, alpn: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let chain = CertificateDer::pem_file_iter(directory.join("server.crt")).expect("a file");
        let chain = chain.collect::<Result<_, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(directory.join("server.key")).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("they fit");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let (config, told) = (Arc::new(config), Arc::<Mutex<Vec<Told>>>::default());
        let notes = told.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (config, notes) = (config.clone(), notes.clone());
                thread::spawn(move || serve(client, broker, config, &notes));
            }
        });
        Self { port, told }
    }

    pub fn told(&self) -> Vec<Told> {
        self.told.lock().expect("nobody panicked").clone()
    }
}

/// Both ways in one thread, with short waits: a test sends little.
fn serve(mut client: TcpStream, broker: SocketAddr, config: Arc<ServerConfig>, notes: &Mutex<Vec<Told>>) -> Option<()> {
    let mut tls = ServerConnection::new(config).ok()?;
    while tls.is_handshaking() {
        tls.complete_io(&mut client).ok()?;
    }
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let told =
        Told { name: tls.server_name().map(str::to_owned), alpn: text(tls.alpn_protocol()), first: String::new() };
    let index = {
        let mut notes = notes.lock().ok()?;
        notes.push(told);
        notes.len() - 1
    };
    let mut server = TcpStream::connect(broker).ok()?;
    client.set_nonblocking(true).ok()?;
    server.set_nonblocking(true).ok()?;
    let mut buffer = [0; 16 * 1024];
    loop {
        if tls.wants_write() {
            let _ = tls.write_tls(&mut client);
        }
        match tls.read_tls(&mut client) {
            Ok(0) => return None,
            Ok(_) => {
                tls.process_new_packets().ok()?;
            }
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return None,
            Err(_) => thread::sleep(std::time::Duration::from_millis(1)),
        }
        while let Ok(count @ 1..) = tls.reader().read(&mut buffer) {
            let note = &mut notes.lock().ok()?[index];
            if note.first.len() < 4096 {
                note.first.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
            server.write_all(&buffer[..count]).ok()?;
        }
        match server.read(&mut buffer) {
            Ok(0) => return None,
            Ok(count) => tls.writer().write_all(&buffer[..count]).ok()?,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return None,
            Err(_) => {}
        }
    }
}
