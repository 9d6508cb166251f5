//! The device's own key and self-signed certificate, made on its first start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, date_time_ymd};

use crate::device::write_file;
use crate::net::{Error, base64, tls_server};

/// Names that reach the device from itself.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The paths of certificate and key (`web.crt` and `web.key`, PEM) in `dir`. They are made when they are missing: a P-256 key
/// of mode 0600 that never leaves the device, and a certificate for `names` (host names or IP addresses) and for the device
/// itself. Kept on later starts, so that a browser's exception stays good. A pair that cannot be used is renamed to `*.bad`
/// and made again; that is logged.
///
/// The certificate is valid from 2024 to 9999: a device's clock is wrong until the network has set it, and nobody renews
/// what nobody signed.
///
/// # Errors
/// The directory or a file cannot be written; the text names it.
pub fn own_certificate(dir: &Path, names: &[String]) -> io::Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (dir.join("web.crt"), dir.join("web.key"));
    if certificate.exists() || key.exists() {
        match tls_server::server_config(&certificate, &key) {
            Ok(_) => return Ok((certificate, key)),
            // What cannot be read now, for want of rights or file descriptors, is no reason for a new identity.
            Err(Error::File { path, source }) if source.kind() != io::ErrorKind::NotFound => {
                return Err(at(&path, "read", source));
            }
            Err(error) => {
                log::warn!("the device's own certificate is set aside and made again: {error}");
                set_aside(&certificate)?;
                set_aside(&key)?;
            }
        }
    }
    let (certificate_der, key_der) = make(names)?;
    // The key first: a certificate without a key would be set aside on the next start, and so would a key without one.
    let write = |path: &Path, mode, text: String| {
        write_file(path, mode, text.as_bytes()).map_err(|error| at(path, "write", error))
    };
    write(&key, 0o600, pem("PRIVATE KEY", &key_der))?;
    write(&certificate, 0o644, pem("CERTIFICATE", &certificate_der))?;
    log::info!("made the device's own key and certificate {}", certificate.display());
    Ok((certificate, key))
}

/// A new key and its certificate, DER.
fn make(names: &[String]) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut all: Vec<String> = names.iter().filter(|name| is_name(name)).cloned().collect();
    for name in OWN_NAMES {
        if !all.iter().any(|known| known == name) {
            all.push(name.to_owned());
        }
    }
    let mut params = CertificateParams::new(all.clone()).map_err(io::Error::other)?;
    params.distinguished_name = DistinguishedName::new();
    // A common name has at most 64 characters (RFC 5280, ub-common-name); the names that count are the alternative ones.
    let common: String = all.first().map(|name| name.chars().take(64).collect()).unwrap_or_default();
    params.distinguished_name.push(DnType::CommonName, common);
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
    let certificate = params.self_signed(&key).map_err(io::Error::other)?;
    Ok((certificate.der().to_vec(), key.serialize_der()))
}

/// Host names come from the network's or an owner's hand; one that no certificate can hold is left out.
fn is_name(name: &str) -> bool {
    let is_host = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    is_host || name.parse::<std::net::IpAddr>().is_ok()
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let encoded = base64::encode(der);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, left) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = left;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn set_aside(path: &Path) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".bad");
    match fs::rename(path, &aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, "set aside", error)),
        _ => Ok(()),
    }
}

fn at(path: &Path, what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Self {
            Dir(std::env::temp_dir().join(format!("ioto-cert-{}-{}", std::process::id(), fastrand::u64(..))))
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_pair_is_made_once_and_the_key_is_private() {
        let dir = Dir::new();
        let names = ["device-7.local".to_owned(), "not a name".to_owned(), "192.0.2.7".to_owned()];
        let (certificate, key) = own_certificate(&dir.0, &names).unwrap();
        let first = fs::read(&certificate).unwrap();
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        tls_server::server_config(&certificate, &key).unwrap();
        own_certificate(&dir.0, &[]).unwrap();
        assert_eq!(fs::read(&certificate).unwrap(), first);
        assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 2);
    }

    #[test]
    fn a_pair_that_does_not_match_is_set_aside_and_made_again() {
        let (dir, other) = (Dir::new(), Dir::new());
        let (certificate, key) = own_certificate(&dir.0, &[]).unwrap();
        let (_, foreign) = own_certificate(&other.0, &[]).unwrap();
        fs::copy(foreign, &key).unwrap();
        assert!(tls_server::server_config(&certificate, &key).is_err());
        own_certificate(&dir.0, &[]).unwrap();
        tls_server::server_config(&certificate, &key).unwrap();
        assert!(dir.0.join("web.key.bad").exists());
    }

    #[test]
    fn a_pair_that_was_cut_off_is_made_again() {
        let dir = Dir::new();
        let (certificate, key) = own_certificate(&dir.0, &[]).unwrap();
        for damage in [&b""[..], b"-----BEGIN CERTIFICATE-----\nMIIB", b"\0\xff"] {
            fs::write(&certificate, damage).unwrap();
            own_certificate(&dir.0, &[]).unwrap();
            tls_server::server_config(&certificate, &key).unwrap();
        }
        fs::remove_file(&key).unwrap();
        own_certificate(&dir.0, &[]).unwrap();
        tls_server::server_config(&certificate, &key).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_read_now_is_kept() {
        let dir = Dir::new();
        let (certificate, key) = own_certificate(&dir.0, &[]).unwrap();
        let before = fs::read(&key).unwrap();
        fs::remove_file(&certificate).unwrap();
        fs::create_dir(&certificate).unwrap();
        let error = own_certificate(&dir.0, &[]).unwrap_err();
        assert!(error.to_string().contains("cannot read") && error.to_string().contains("web.crt"), "{error}");
        assert_eq!(fs::read(&key).unwrap(), before);
    }

    #[test]
    fn errors_name_the_file() {
        let dir = Dir::new();
        let (certificate, key) = own_certificate(&dir.0, &[]).unwrap();
        let missing = tls_server::server_config(&dir.0.join("none.crt"), &key).unwrap_err();
        assert!(missing.to_string().contains("none.crt"), "{missing}");
        let no_key = tls_server::server_config(&certificate, &certificate).unwrap_err();
        assert!(no_key.to_string().contains("private key"), "{no_key}");
    }
}
