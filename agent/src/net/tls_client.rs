//! The client's side of TLS: whom it trusts and who it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_rustls::TlsConnector;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use smol::future::FutureExt;
use smol::net::TcpStream;

use super::connect::elapsed;
use super::pin::Pinned;
use super::{Error, Pin, Step, Stream};
use crate::config::Profile;

/// Where distributions keep the system's roots: Debian, Yocto and Buildroot; Alpine; Fedora.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Sessions that are remembered for a shorter handshake. A device talks to few servers; each costs memory.
const SESSIONS: usize = 8;

/// Bytes that one connection takes from its writer before the kernel takes them: one TLS record.
const WRITE_BUFFER: usize = 16 * 1024;

/// How to speak TLS to servers: the trusted roots, perhaps our certificate, the application protocols.
///
/// TLS 1.2 and 1.3 with the cryptography of *ring*. The certificate of the server is always verified against the host
/// name or IP address that was asked for. Clones share the configuration and its session cache.
///
/// ```no_run
/// # fn main() -> Result<(), ioto::net::Error> {
/// use ioto::net::TlsClient;
///
/// let broker = TlsClient::builder()
///     .authority("/etc/ioto/certs/AmazonRootCA1.pem")
///     .identity("/var/lib/ioto/certs/device.crt", "/var/lib/ioto/certs/device.key")
///     .alpn(["x-amzn-mqtt-ca"])
///     .build()?;
/// # drop(broker);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
}

impl TlsClient {
    /// Trusts the system's roots and has no certificate of its own.
    pub fn system() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// Begins with the system's roots, no certificate and no application protocol.
    pub fn builder() -> TlsClientBuilder {
        TlsClientBuilder::default()
    }

    /// Speaks TLS on a connection that stands. `host` is the name or address that the certificate must be valid for;
    /// it is sent as SNI when it is a name.
    pub async fn handshake(&self, host: &str, tcp: TcpStream, timeout: Duration) -> Result<Stream, Error> {
        let name = server_name(host)?;
        let port = tcp.peer_addr().map_or(0, |address| address.port());
        let connector = TlsConnector::from(self.config.clone());
        let handshake = async {
            connector
                .connect_with(name, tcp, |connection| connection.set_buffer_limit(Some(WRITE_BUFFER)))
                .await
                .map(Stream::from)
                .map_err(|source| Error::Handshake { host: host.into(), source })
        };
        handshake.or(elapsed(host, port, Step::Handshake, timeout)).await
    }

    /// Whether both are the same, and so the same identity and trust.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }

    /// The configuration, for code that speaks rustls itself.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }
}

impl From<Arc<ClientConfig>> for TlsClient {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self { config }
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").finish_non_exhaustive()
    }
}

/// What a [`TlsClient`] is made of. Files are read by [`build`](Self::build).
#[derive(Clone, Debug, Default)]
pub struct TlsClientBuilder {
    authority: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    alpn: Vec<Vec<u8>>,
    pins: Vec<Pin>,
    unverified: bool,
}

impl TlsClientBuilder {
    /// Trusts the certificates of this PEM file and no others.
    pub fn authority(mut self, file: impl Into<PathBuf>) -> Self {
        self.authority = Some(file.into());
        self
    }

    /// Shows this certificate to servers that ask: PEM files of the chain, own certificate first, and of the key.
    pub fn identity(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// Offers these application protocols, the preferred one first (ALPN, RFC 7301).
    pub fn alpn<T: AsRef<str>>(mut self, protocols: impl IntoIterator<Item = T>) -> Self {
        self.alpn = protocols.into_iter().map(|p| p.as_ref().as_bytes().to_vec()).collect();
        self
    }

    /// Trusts, of all servers with a good certificate, those alone that hold one of these keys.
    pub fn pins(mut self, pins: impl IntoIterator<Item = Pin>) -> Self {
        self.pins.extend(pins);
        self
    }

    /// Does not verify who the server is, on a developer's desk: everybody on the way can read along and change everything.
    /// Pins are checked nevertheless.
    ///
    /// # Errors
    /// [`Error::Unverified`] in any profile but `dev`.
    pub fn unverified(mut self, profile: Profile) -> Result<Self, Error> {
        self.unverified = true;
        match profile {
            Profile::Dev => Ok(self),
            Profile::Prod => Err(Error::Unverified),
        }
    }

    /// Reads the files.
    pub fn build(self) -> Result<TlsClient, Error> {
        let roots = match &self.authority {
            Some(file) => read_roots(file)?,
            None if self.unverified => RootCertStore::empty(),
            None => system_roots()?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = match self.unverified || self.pins.is_empty() {
            true => None,
            false => {
                let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots.clone()), provider.clone());
                Some(builder.build().map_err(|error| Error::Tls(error.to_string()))?)
            }
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites for TLS 1.2 and 1.3")
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = read_certificates(certificate)?;
                builder.with_client_auth_cert(chain, read_key(key)?).map_err(|reason| Error::Identity {
                    certificate: certificate.clone(),
                    reason: reason.to_string(),
                })?
            }
        };
        config.alpn_protocols = self.alpn;
        if self.unverified || !self.pins.is_empty() {
            let verifier = verifier.map(|verifier| verifier as Arc<dyn ServerCertVerifier>);
            config.dangerous().set_certificate_verifier(Arc::new(Pinned::new(verifier, self.pins, provider)));
        }
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(TlsClient { config: Arc::new(config) })
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, Error> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| Error::Name { host: host.into() })
}

fn system_roots() -> Result<RootCertStore, Error> {
    if let Some(file) = std::env::var_os("SSL_CERT_FILE") {
        return read_roots(Path::new(&file));
    }
    match SYSTEM_ROOTS.iter().map(Path::new).find(|file| file.exists()) {
        Some(file) => read_roots(file),
        None => Err(Error::NoRoots),
    }
}

/// A root that rustls cannot use is left out: bundles hold a few for other purposes. One at least must remain.
pub(super) fn read_roots(file: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let (_, ignored) = roots.add_parsable_certificates(read_certificates(file)?);
    if ignored > 0 {
        log::debug!("{}: {ignored} certificates cannot serve as roots", file.display());
    }
    match roots.is_empty() {
        true => Err(Error::Pem { path: file.into(), wanted: "certificate of an authority" }),
        false => Ok(roots),
    }
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(|sections| sections.collect());
    match certificates {
        Ok(found) if found.is_empty() => Err(Error::Pem { path: file.into(), wanted: "certificate" }),
        other => other.map_err(|e| pem_error(file, "certificate", e)),
    }
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(file).map_err(|e| pem_error(file, "private key", e))
}

fn pem_error(file: &Path, wanted: &'static str, error: pem::Error) -> Error {
    match error {
        pem::Error::Io(source) => Error::File { path: file.into(), source },
        _ => Error::Pem { path: file.into(), wanted },
    }
}

#[cfg(all(test, feature = "web"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_rustls::TlsAcceptor;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    use rustls::ServerConfig;
    use rustls::server::WebPkiClientVerifier;
    use smol::io::{AsyncReadExt, AsyncWriteExt};
    use smol::net::TcpListener;

    use super::*;
    use crate::net::{base64, connect};

    const LONG: Duration = Duration::from_secs(10);

    /// An authority with its certificates in a directory of its own, removed at the end.
    struct Authority {
        issuer: CertifiedIssuer<'static, KeyPair>,
        directory: PathBuf,
    }

    impl Authority {
        fn new(name: &str) -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            let directory =
                std::env::temp_dir().join(format!("ioto-tls-{}-{:x}", std::process::id(), fastrand::u64(..)));
            std::fs::create_dir(&directory).unwrap();
            let authority = Self { issuer, directory };
            authority.write("ca.pem", &pem("CERTIFICATE", authority.issuer.der()));
            authority
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.directory.join(name);
            std::fs::write(&path, text).unwrap();
            path
        }

        fn file(&self) -> PathBuf {
            self.directory.join("ca.pem")
        }

        fn certificate(&self, names: &[&str]) -> (PathBuf, PathBuf) {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(names.iter().map(|n| n.to_string()).collect::<Vec<_>>()).unwrap();
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            (
                self.write("leaf.crt", &pem("CERTIFICATE", certificate.der())),
                self.write("leaf.key", &pem("PRIVATE KEY", key.serialized_der())),
            )
        }

        fn server(&self, names: &[&str], ask_client: bool, alpn: &[&str]) -> ServerConfig {
            let (certificate, key) = self.certificate(names);
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder =
                ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
            let roots = Arc::new(read_roots(&self.file()).unwrap());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
            let builder = match ask_client {
                true => builder.with_client_cert_verifier(verifier),
                false => builder.with_no_client_auth(),
            };
            let mut config =
                builder.with_single_cert(read_certificates(&certificate).unwrap(), read_key(&key).unwrap()).unwrap();
            config.alpn_protocols = alpn.iter().map(|a| a.as_bytes().to_vec()).collect();
            config
        }
    }

    impl Drop for Authority {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64::encode(der))
    }

    /// Connects to a server that returns what it gets; the answer to `hello`, and the protocol agreed on.
    fn talk(server: ServerConfig, host: &str, client: &TlsClient) -> Result<(String, Option<Vec<u8>>), Error> {
        smol::block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let echo = async {
                let (tcp, _) = listener.accept().await.unwrap();
                if let Ok(mut tls) = TlsAcceptor::from(Arc::new(server)).accept(tcp).await {
                    let mut buffer = [0; 5];
                    if tls.read_exact(&mut buffer).await.is_ok() {
                        tls.write_all(&buffer).await.unwrap();
                        tls.close().await.unwrap();
                    }
                }
            };
            let exchange = async {
                let tcp = smol::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let mut stream = client.handshake(host, tcp, LONG).await?;
                let io = |source| Error::Handshake { host: host.into(), source };
                stream.write_all(b"hello").await.map_err(io)?;
                stream.flush().await.map_err(io)?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.map_err(io)?;
                Ok((answer, stream.alpn().map(<[u8]>::to_vec)))
            };
            smol::future::zip(exchange, echo).await.0
        })
    }

    #[test]
    fn a_server_of_the_authority_is_trusted_by_name_and_by_address() {
        let authority = Authority::new("one");
        let client = TlsClient::builder().authority(authority.file()).build().unwrap();
        let names = ["device.example", "127.0.0.1", "::1"];
        for host in ["device.example", "127.0.0.1", "::1", "[::1]"] {
            let (answer, alpn) = talk(authority.server(&names, false, &[]), host, &client).unwrap();
            assert_eq!((answer.as_str(), alpn), ("hello", None));
        }
    }

    #[test]
    fn another_name_or_address_is_refused() {
        let authority = Authority::new("one");
        let client = TlsClient::builder().authority(authority.file()).build().unwrap();
        for host in ["other.example", "127.0.0.2"] {
            let error =
                talk(authority.server(&["device.example", "127.0.0.1"], false, &[]), host, &client).unwrap_err();
            assert!(matches!(error, Error::Handshake { .. }) && !error.is_transient(), "{error}");
        }
    }

    #[test]
    fn a_server_of_another_authority_is_refused() {
        let (ours, theirs) = (Authority::new("one"), Authority::new("two"));
        let client = TlsClient::builder().authority(ours.file()).build().unwrap();
        let error = talk(theirs.server(&["device.example"], false, &[]), "device.example", &client).unwrap_err();
        assert!(error.to_string().contains("authority"), "{error}");
    }

    #[test]
    fn the_client_shows_its_certificate_to_a_server_that_asks() {
        let authority = Authority::new("one");
        let server = || authority.server(&["device.example"], true, &[]);
        let (certificate, key) = authority.certificate(&["client"]);
        let client = TlsClient::builder().authority(authority.file()).identity(certificate, key).build().unwrap();
        assert_eq!(talk(server(), "device.example", &client).unwrap().0, "hello");
        let nobody = TlsClient::builder().authority(authority.file()).build().unwrap();
        talk(server(), "device.example", &nobody).unwrap_err();
    }

    #[test]
    fn the_protocol_is_agreed_on() {
        let authority = Authority::new("one");
        let client = TlsClient::builder().authority(authority.file()).alpn(["x-amzn-mqtt-ca"]).build().unwrap();
        let server = authority.server(&["device.example"], false, &["http/1.1", "x-amzn-mqtt-ca"]);
        assert_eq!(talk(server, "device.example", &client).unwrap().1.unwrap(), b"x-amzn-mqtt-ca");
    }

    #[test]
    fn a_host_that_no_certificate_can_name_is_refused_before_the_handshake() {
        let authority = Authority::new("one");
        let client = TlsClient::builder().authority(authority.file()).build().unwrap();
        smol::block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let tcp = smol::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let error = client.handshake("no name", tcp, LONG).await.unwrap_err();
            assert!(matches!(error, Error::Name { .. }), "{error}");
        });
    }

    #[test]
    fn a_server_without_tls_is_named_as_such() {
        let authority = Authority::new("one");
        let client = TlsClient::builder().authority(authority.file()).build().unwrap();
        smol::block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let plain = async {
                let (mut tcp, _) = listener.accept().await.unwrap();
                tcp.write_all(b"220 mail.example ESMTP\r\n").await.unwrap();
                smol::Timer::after(Duration::from_millis(50)).await;
            };
            let (result, ()) = smol::future::zip(connect("127.0.0.1", port, Some(&client), LONG), plain).await;
            assert!(matches!(result.unwrap_err(), Error::Handshake { .. }));
        });
    }

    #[test]
    fn a_file_that_is_missing_or_empty_or_wrong_is_named() {
        let authority = Authority::new("one");
        let (certificate, key) = authority.certificate(&["client"]);
        let other = authority.write("other.key", &pem("PRIVATE KEY", KeyPair::generate().unwrap().serialized_der()));
        let empty = authority.write("empty.pem", "");
        let build = |ca: &Path, certificate: &Path, key: &Path| {
            TlsClient::builder().authority(ca).identity(certificate, key).build().unwrap_err().to_string()
        };
        let missing = authority.directory.join("missing.pem");
        assert!(build(&missing, &certificate, &key).contains("missing.pem"));
        assert!(build(&empty, &certificate, &key).contains("empty.pem has no usable certificate"));
        assert!(build(&authority.file(), &empty, &key).contains("empty.pem has no usable certificate"));
        assert!(build(&authority.file(), &certificate, &empty).contains("empty.pem has no usable private key"));
        assert!(build(&authority.file(), &certificate, &other).contains("cannot be used with its key"));
    }
}
