//! The TLS configuration of a server: certificate and key from PEM files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Error;

/// TLS 1.2 and 1.3 with the certificate chain and the private key of two PEM files, the server's own certificate first.
/// ALPN offers `http/1.1`. Sessions are resumed with tickets whose key lives in memory only, so they cost no memory each.
///
/// # Errors
/// Each names its file: it cannot be read, holds no certificate or key, or the key is not that of the certificate.
pub fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
    let chain = read_chain(certificate)?;
    let private_key = read_key(key)?;
    let identity = |reason: rustls::Error| Error::Identity {
        certificate: certificate.to_owned(),
        reason: format!("{reason} (key {})", key.display()),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(identity)?
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .map_err(identity)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 1;
    config.ticketer = ring::Ticketer::new().map_err(identity)?;
    Ok(Arc::new(config))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unusable = || Error::Pem { path: path.to_owned(), wanted: "certificate" };
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<_, _>>().map_err(|_| unusable())?;
    if chain.is_empty() { Err(unusable()) } else { Ok(chain) }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| Error::Pem { path: path.to_owned(), wanted: "private key" })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })
}
