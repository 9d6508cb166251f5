//! `tls`: the certificate of the web server.

use std::path::PathBuf;

/// Certificate and key, PEM files. Without both the device makes its own key and a self-signed certificate.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// `tls.certificate`: the chain, the server's own certificate first.
    pub certificate: Option<PathBuf>,
    /// `tls.key`: the private key, readable by the agent's user only.
    pub key: Option<PathBuf>,
}
