//! Certificates for the servers of tests.

use ioto::net::{Pin, base64};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::fetch_support::Directory;

/// A directory with `ca.pem` and a certificate of that authority for these names, `server.crt` and `server.key`; and the
/// pin of the key.
pub fn certified(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (Directory, Pin) {
    let directory = Directory::new();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "An authority for tests");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    change(&mut params);
    let certificate = params.signed_by(&key, &authority).unwrap();
    directory.write("ca.pem", pem("CERTIFICATE", authority.der()));
    directory.write("server.crt", pem("CERTIFICATE", certificate.der()));
    directory.write("server.key", pem("PRIVATE KEY", key.serialized_der()));
    (directory, Pin::of(certificate.der()).unwrap())
}

/// OpenSSL wants lines of at most 64 characters (RFC 7468 §2).
fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
