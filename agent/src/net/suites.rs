//! The cipher suites of TLS by their names.

use rustls::SupportedCipherSuite;
use rustls::crypto::ring::cipher_suite as ring;

/// The suites of TLS 1.3 that there are, the preferred one first.
const TLS13: [SupportedCipherSuite; 3] =
    [ring::TLS13_AES_256_GCM_SHA384, ring::TLS13_AES_128_GCM_SHA256, ring::TLS13_CHACHA20_POLY1305_SHA256];

/// The suite of a name as [`Tls::ciphers`](crate::config::Tls) holds it.
fn suite(name: &str) -> Option<SupportedCipherSuite> {
    Some(match name {
        "TLS_AES_256_GCM_SHA384" => ring::TLS13_AES_256_GCM_SHA384,
        "TLS_AES_128_GCM_SHA256" => ring::TLS13_AES_128_GCM_SHA256,
        "TLS_CHACHA20_POLY1305_SHA256" => ring::TLS13_CHACHA20_POLY1305_SHA256,
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" => ring::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" => ring::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" => ring::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => ring::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => ring::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" => ring::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        _ => return None,
    })
}

/// The suites of these names, in their order. Names of TLS 1.2 alone leave TLS 1.3 as it is: lists of old know nothing of
/// it. Names of TLS 1.3 alone end TLS 1.2.
///
/// # Errors
/// The name that no suite has.
pub(super) fn suites(names: &[String]) -> Result<Vec<SupportedCipherSuite>, String> {
    let named: Vec<_> = names.iter().map(|name| suite(name).ok_or_else(|| name.clone())).collect::<Result<_, _>>()?;
    let has_13 = named.iter().any(|suite| suite.tls13().is_some());
    Ok(if has_13 { named } else { TLS13.into_iter().chain(named).collect() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::CIPHERS;

    #[test]
    fn every_name_of_the_configuration_is_a_suite() {
        for (name, _) in CIPHERS {
            let found = format!("{:?}", suite(name).unwrap().suite());
            assert_eq!(found.replacen("TLS13_", "TLS_", 1), name);
        }
        assert_eq!(suites(&["TLS_RSA_WITH_RC4_128_MD5".into()]).unwrap_err(), "TLS_RSA_WITH_RC4_128_MD5");
    }

    #[test]
    fn names_of_tls_1_2_leave_tls_1_3_as_it_is() {
        let names = |names: &[&str]| suites(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        assert_eq!(names(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]).len(), 4);
        assert_eq!(names(&["TLS_AES_128_GCM_SHA256"]).len(), 1);
        assert_eq!(names(&["TLS_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]).len(), 2);
    }
}
