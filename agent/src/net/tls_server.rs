//! The TLS configuration of a server: its certificates, and whose certificates it takes.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use super::sni::{Certificate, Certificates};
use super::suites::suites;
use super::tls_client::read_roots;
use super::x509::Holder;
use super::{Error, clock};

/// TLS 1.2 and 1.3 with the certificate chain and the private key of two PEM files, the server's own certificate first; see
/// [`TlsServer`] for more.
///
/// # Errors
/// Each names its file: it cannot be read, holds no certificate or key, or the key is not that of the certificate.
pub fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
    TlsServer::new().identity(certificate, key).build()
}

/// What the TLS of a server is made of. Files are read by [`build`](Self::build).
///
/// ALPN offers `http/1.1` and `http/1.0`; who offers other protocols alone is refused (RFC 7301 §3.2). Sessions are resumed
/// with tickets whose keys live in memory only and change every 6 hours, so they cost no memory each and no session is older
/// than 12 hours. Each configuration has keys of its own: nobody resumes a session that another one admitted. Nothing is
/// taken before the handshake has ended (no 0-RTT).
///
/// ```no_run
/// # fn main() -> Result<(), ioto::net::Error> {
/// use ioto::net::tls_server::TlsServer;
///
/// let config = TlsServer::new()
///     .identity("/etc/ioto/certs/web.crt", "/etc/ioto/certs/web.key")
///     .identity_for("/etc/ioto/certs/shop.crt", "/etc/ioto/certs/shop.key", ["shop.example.com"])
///     .clients("/etc/ioto/certs/staff-ca.crt")
///     .clients_optional(true)
///     .build()?;
/// # drop(config);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TlsServer {
    identities: Vec<Identity>,
    authority: Option<PathBuf>,
    revoked: Option<PathBuf>,
    is_optional: bool,
    ciphers: Vec<String>,
}

#[derive(Clone, Debug)]
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    names: Vec<String>,
}

impl TlsServer {
    /// Nothing yet; a certificate at least is needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows this certificate to clients that ask for one of its names: PEM files of the chain, own certificate first, and
    /// of the key. The first one is for all other names too.
    pub fn identity(self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity_for(certificate, key, Vec::<String>::new())
    }

    /// The same for other names than those in the certificate, perhaps with `*` as the first label.
    pub fn identity_for<T: Into<String>>(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        names: impl IntoIterator<Item = T>,
    ) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        self.identities.push(Identity { certificate: certificate.into(), key: key.into(), names });
        self
    }

    /// Wants a certificate of clients, issued by an authority in this PEM file. Who has none is refused.
    pub fn clients(mut self, authority: impl Into<PathBuf>) -> Self {
        self.authority = Some(authority.into());
        self
    }

    /// Lets clients in that show no certificate; one that is shown must be good all the same.
    pub fn clients_optional(mut self, is_optional: bool) -> Self {
        self.is_optional = is_optional;
        self
    }

    /// Refuses client certificates that are in the revocation lists of this PEM file. It needs a list of every authority in
    /// the chain of a client: whose list is not there is refused too.
    pub fn revoked(mut self, lists: impl Into<PathBuf>) -> Self {
        self.revoked = Some(lists.into());
        self
    }

    /// Offers these cipher suites alone, by their IANA names, the preferred one first. Without one of TLS 1.3 among them all
    /// of those stay.
    pub fn ciphers<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.ciphers = names.into_iter().map(Into::into).collect();
        self
    }

    /// Reads the files.
    ///
    /// # Errors
    /// Each names its file: it cannot be read, holds nothing of its kind, or the key is not that of the certificate. And a
    /// cipher suite has an unknown name, or there is no certificate.
    pub fn build(&self) -> Result<Arc<ServerConfig>, Error> {
        let mut provider = ring::default_provider();
        if !self.ciphers.is_empty() {
            provider.cipher_suites = suites(&self.ciphers)
                .map_err(|name| Error::Tls(format!("there is no cipher suite '{name}' of TLS here")))?;
        }
        let provider = Arc::new(provider);
        let certificates = self.identities.iter().map(|one| one.read(&provider)).collect::<Result<Vec<_>, _>>()?;
        if certificates.is_empty() {
            return Err(Error::Tls("a server needs a certificate".into()));
        }
        let unusable = |error: rustls::Error| Error::Tls(format!("the server's TLS cannot be set up: {error}"));
        let has_12 = provider.cipher_suites.iter().any(|suite| suite.tls13().is_none());
        let versions = if has_12 { rustls::ALL_VERSIONS } else { &[&rustls::version::TLS13] };
        let verifier = self.verifier(&provider)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(unusable)?
            .with_client_cert_verifier(verifier);
        let mut config = builder.with_cert_resolver(Arc::new(Certificates(certificates)));
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        config.send_tls13_tickets = 1;
        config.ticketer = ring::Ticketer::new().map_err(unusable)?;
        // The tickets are enough; a store would cost memory for each client.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    /// What verifies the certificates of clients.
    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let Some(authority) = &self.authority else { return Ok(WebPkiClientVerifier::no_client_auth()) };
        let roots = Arc::new(read_roots(authority)?);
        let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        if let Some(file) = &self.revoked {
            verifier = verifier.with_crls(read_lists(file)?);
        }
        if self.is_optional {
            verifier = verifier.allow_unauthenticated();
        }
        let of_lists = || Error::Pem {
            path: self.revoked.clone().unwrap_or_else(|| authority.clone()),
            wanted: "certificate revocation list",
        };
        verifier.build().map_err(|_| of_lists())
    }
}

impl Identity {
    fn read(&self, provider: &CryptoProvider) -> Result<Certificate, Error> {
        let chain = read_chain(&self.certificate)?;
        let holder = chain.first().and_then(|own| Holder::read(own));
        let key = CertifiedKey::from_der(chain, read_key(&self.key)?, provider).map_err(|error| {
            let reason = match error {
                rustls::Error::InconsistentKeys(_) => "they do not belong together".to_owned(),
                other => other.to_string(),
            };
            let reason = format!("{reason} (key {})", self.key.display());
            Error::Identity { certificate: self.certificate.clone(), reason }
        })?;
        if let Some(holder) = holder.as_ref().filter(|holder| !holder.is_current()) {
            let [from, to] = [holder.not_before, holder.not_after].map(|s| clock::iso8601(s.saturating_mul(1000)));
            log::warn!("{}: by the device's clock it is not valid, only {from} to {to}", self.certificate.display());
        }
        let names = if self.names.is_empty() { holder.map(own_names).unwrap_or_default() } else { self.names.clone() };
        Ok(Certificate { names, key: Arc::new(key) })
    }
}

/// The host names of a certificate. The common name counts where there is nothing else, as it did of old.
fn own_names(holder: Holder) -> Vec<String> {
    if holder.dns_names.is_empty() { holder.common_name.into_iter().collect() } else { holder.dns_names }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    read_all(path, "certificate")
}

fn read_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    read_all(path, "certificate revocation list")
}

/// All sections of one kind in a PEM file, one at least.
fn read_all<T: PemObject>(path: &Path, wanted: &'static str) -> Result<Vec<T>, Error> {
    let unusable = || Error::Pem { path: path.to_owned(), wanted };
    let all: Vec<_> = T::pem_slice_iter(&read(path)?).collect::<Result<_, _>>().map_err(|_| unusable())?;
    if all.is_empty() { Err(unusable()) } else { Ok(all) }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| Error::Pem { path: path.to_owned(), wanted: "private key" })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })
}

/// Why a handshake failed, for the owner of the server.
pub struct Failure<'a>(pub &'a rustls::Error);

impl Failure<'_> {
    /// Whether the client's certificate was at fault, or that it has none.
    pub fn is_of_certificate(&self) -> bool {
        matches!(self.0, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
    }
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use rustls::CertificateError as E;
        let rustls::Error::InvalidCertificate(reason) = self.0 else {
            return match self.0 {
                rustls::Error::NoCertificatesPresented => f.write_str("it showed no client certificate"),
                other => other.fmt(f),
            };
        };
        let text = match reason {
            E::Expired | E::ExpiredContext { .. } => "its client certificate has expired",
            E::NotValidYet | E::NotValidYetContext { .. } => {
                "its client certificate is not valid yet; check the device's clock"
            }
            E::Revoked => "its client certificate is revoked",
            E::UnknownIssuer => "its client certificate is of no issuer in tls.authority",
            E::UnknownRevocationStatus => "tls.crl has no list of the issuer of its client certificate",
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
                "its certificate is not one of a client (extended key usage)"
            }
            E::Other(other) => return write!(f, "its client certificate is not good: {}", other.0),
            E::BadSignature => "its client certificate or its proof has a wrong signature",
            other => return write!(f, "its client certificate is not good: {other:?}"),
        };
        f.write_str(text)
    }
}
