//! Which of several certificates a client gets: the one for the name that it asks for (SNI, RFC 6066 §3).

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificates of a server; the first is for all other names.
#[derive(Debug)]
pub(super) struct Certificates(pub Vec<Certificate>);

/// A certificate with its key, and the names that it is for.
#[derive(Debug)]
pub(super) struct Certificate {
    pub names: Vec<String>,
    pub key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |certificate: &&Certificate| certificate.key.key.choose_scheme(hello.signature_schemes()).is_some();
        let of_the_name = |score: u8| {
            let name = hello.server_name()?;
            self.0.iter().filter(|one| one.names.iter().any(|own| matching(own, name) == score)).find(fits)
        };
        // A name for itself is before one with `*`. Nobody's name is no error: who came by an address asks for none either.
        let found = of_the_name(EXACT).or_else(|| of_the_name(WILDCARD)).or_else(|| self.0.iter().find(fits));
        found.or(self.0.first()).map(|certificate| certificate.key.clone())
    }
}

const EXACT: u8 = 2;
const WILDCARD: u8 = 1;

/// How well a name of a certificate fits the name that is asked for. `*` is one whole label, the first (RFC 9525 §6.3).
fn matching(own: &str, asked: &str) -> u8 {
    let asked = asked.strip_suffix('.').unwrap_or(asked);
    if own.eq_ignore_ascii_case(asked) {
        return EXACT;
    }
    let fits = own
        .strip_prefix("*.")
        .zip(asked.split_once('.'))
        .is_some_and(|(own, (label, rest))| !label.is_empty() && own.contains('.') && own.eq_ignore_ascii_case(rest));
    if fits { WILDCARD } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_label() {
        for (own, asked, expected) in [
            ("device.example.com", "Device.Example.com", EXACT),
            ("device.example.com", "device.example.com.", EXACT),
            ("*.example.com", "device.example.com", WILDCARD),
            ("*.EXAMPLE.com", "device.example.COM", WILDCARD),
            ("*.example.com", "a.device.example.com", 0),
            ("*.example.com", "example.com", 0),
            ("*.example.com", ".example.com", 0),
            ("*.com", "example.com", 0),
            ("d*.example.com", "device.example.com", 0),
            ("*", "device", 0),
            ("device", "device", EXACT),
            ("", "device", 0),
        ] {
            assert_eq!(matching(own, asked), expected, "{own} {asked}");
        }
    }
}
