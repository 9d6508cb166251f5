//! The names of cipher suites, as IANA, OpenSSL and Mbed TLS have them.

use super::node::quote;

/// The suites that there are: the name of IANA, and that of OpenSSL.
pub const CIPHERS: [(&str, &str); 9] = [
    ("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
    ("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    ("TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"),
];

/// Parts of names that only suites have which are broken, or whose recorded traffic a stolen key opens.
const OLD: [&str; 22] = [
    "RC4", "RC2", "DES", "3DES", "CBC", "CBC3", "CBC8", "NULL", "MD5", "EXP", "EXPORT", "ANON", "ADH", "AECDH", "IDEA",
    "SEED", "SRP", "KRB5", "PSK", "DSS", "DHE", "DH",
];
/// First parts of OpenSSL's names for suites whose key exchange is RSA, without forward secrecy.
const RSA: [&str; 5] = ["AES128", "AES256", "CAMELLIA128", "CAMELLIA256", "ARIA128"];

/// A cipher suite in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// By its name of IANA.
    Suite(&'static str),
    /// One that is known and not offered.
    Old,
}

/// What a name means, in any case of letters.
pub(super) fn named(name: &str) -> Result<Named, String> {
    let upper = name.to_ascii_uppercase();
    // Mbed TLS has IANA's names with hyphens, and `TLS1-3-AES-256-GCM-SHA384` and the like.
    let iana_name = upper.replace('-', "_").replacen("TLS1_3_", "TLS_", 1);
    if let Some((iana, _)) = CIPHERS.iter().find(|(iana, openssl)| *iana == iana_name || *openssl == upper) {
        return Ok(Named::Suite(iana));
    }
    let parts: Vec<_> = upper.split(['-', '_']).collect();
    let has = |part: &str| parts.contains(&part);
    let is_static_rsa = iana_name.starts_with("TLS_RSA_") || parts.first().is_some_and(|first| RSA.contains(first));
    // OpenSSL names the mode of all suites but those of CBC.
    let is_block = parts.iter().any(|part| part.starts_with("AES") || part.starts_with("CAMELLIA"))
        && parts.last().is_some_and(|last| last.starts_with("SHA"))
        && !["GCM", "CCM", "CCM8"].into_iter().any(has);
    match OLD.into_iter().any(has) || is_static_rsa || is_block {
        true => Ok(Named::Old),
        false => {
            let known: Vec<_> = CIPHERS.iter().map(|(_, openssl)| *openssl).collect();
            Err(format!("unknown cipher suite {}, expected one of {}", quote(name), known.join(" ")))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn good_ones_are_taken_old_ones_left_out_and_others_refused() {
        for (iana, openssl) in CIPHERS {
            assert_eq!(named(iana), Ok(Named::Suite(iana)));
            assert_eq!(named(&openssl.to_lowercase()), Ok(Named::Suite(iana)));
            assert_eq!(named(&iana.replace('_', "-")), Ok(Named::Suite(iana)));
        }
        assert_eq!(named("TLS1-3-AES-128-GCM-SHA256"), Ok(Named::Suite("TLS_AES_128_GCM_SHA256")));
        for old in [
            "RC4-MD5",
            "DES-CBC3-SHA",
            "AES128-SHA",
            "AES256-GCM-SHA384",
            "ECDHE-RSA-AES128-SHA256",
            "ECDHE-ECDSA-AES256-SHA",
            "DHE-RSA-AES256-GCM-SHA384",
            "ADH-AES128-SHA",
            "NULL-SHA256",
            "TLS_RSA_WITH_AES_128_GCM_SHA256",
            "TLS-RSA-WITH-AES-128-GCM-SHA256",
            "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
            "TLS_ECDH_anon_WITH_AES_128_CBC_SHA",
            "CAMELLIA128-SHA",
        ] {
            assert_eq!(named(old), Ok(Named::Old), "{old}");
        }
        for unknown in ["", "HIGH", "!aNULL", "TLS_AES_128_GCM", "ECDHE-RSA-AES128-GCM-SHA265"] {
            assert!(named(unknown).unwrap_err().contains("ECDHE-RSA-AES128-GCM-SHA256"), "{unknown}");
        }
    }
}
