//! `tls`: the certificate of the web server.

use std::path::PathBuf;

use super::section::Section;

/// Certificate and key, PEM files. Without both the device makes its own key and a self-signed certificate.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// `tls.certificate`: the chain, the server's own certificate first.
    pub certificate: Option<PathBuf>,
    /// `tls.key`: the private key, readable by the agent's user only.
    pub key: Option<PathBuf>,
}

impl Tls {
    pub(super) fn read(s: &Section) -> Self {
        if s.section("verify").flag("client", false) {
            s.section("verify")
                .problem("client", "client certificates are not verified in this version, expected false");
        }
        let (certificate, key) = pair(s);
        Self { certificate, key }
    }
}

/// The files `certificate` and `key` of a section, of which one needs the other.
pub(super) fn pair(s: &Section) -> (Option<PathBuf>, Option<PathBuf>) {
    let files = (s.file("certificate"), s.file("key"));
    match (s.has("certificate"), s.has("key")) {
        (true, false) => s.problem("certificate", "needs the file of its private key beside it, as `key`"),
        (false, true) => s.problem("key", "needs the file of its certificate beside it, as `certificate`"),
        _ => {}
    }
    files
}
