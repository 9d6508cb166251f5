//! Authorities and certificates made by openssl, in a directory of their own.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Dir;

const SETTINGS: &str = "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\nserial=serial\ncrlnumber=crlnumber\nnew_certs_dir=.\n\
    default_md=sha256\npolicy=any\nunique_subject=no\ndefault_crl_days=30\ncopy_extensions=none\n\
    [any]\ncommonName=optional\norganizationName=optional\n[req]\ndistinguished_name=dn\n[dn]\n\
    [v3_ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";

/// An authority with its own certificate `ca.crt` and its list of the revoked, `ca.crl`.
pub struct Authority(Dir);

impl Authority {
    pub fn new(name: &str) -> Self {
        let this = Self(Dir::new());
        for (file, text) in [("openssl.cnf", SETTINGS), ("index.txt", ""), ("serial", "1000\n"), ("crlnumber", "10\n")]
        {
            fs::write(this.file(file), text).unwrap();
        }
        this.openssl(&format!(
            "req -x509 -config openssl.cnf -extensions v3_ca -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
             -keyout ca.key -out ca.crt -days 3650 -subj /CN={name}"
        ));
        this
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.0.join(name)
    }

    pub fn openssl(&self, arguments: &str) -> String {
        openssl_in(&self.0.0, arguments)
    }

    /// Makes NAME.crt and NAME.key with that subject and those extensions, valid from 2020 to the year.
    pub fn certificate_until(&self, name: &str, subject: &str, extensions: &str, key: &str, year: u16) {
        self.openssl(&format!(
            "req -config openssl.cnf -new -newkey {key} -nodes -keyout {name}.key -out {name}.csr -subj {subject}"
        ));
        fs::write(self.file("extensions"), extensions).unwrap();
        self.openssl(&format!(
            "ca -config openssl.cnf -batch -notext -in {name}.csr -out {name}.crt -cert ca.crt -keyfile ca.key \
             -startdate 20200101000000Z -enddate {year}0101000000Z -extfile extensions"
        ));
    }

    /// The same with a key on P-256, valid.
    pub fn certificate(&self, name: &str, subject: &str, extensions: &str) -> (PathBuf, PathBuf) {
        self.certificate_until(name, subject, extensions, "ec -pkeyopt ec_paramgen_curve:P-256", 2049);
        self.pair(name)
    }

    pub fn pair(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.file(&format!("{name}.crt")), self.file(&format!("{name}.key")))
    }

    /// Revokes the certificates of these names, and writes the list.
    pub fn revoke(&self, names: &[&str]) {
        for name in names {
            self.openssl(&format!("ca -config openssl.cnf -revoke {name}.crt -cert ca.crt -keyfile ca.key"));
        }
        self.openssl("ca -config openssl.cnf -gencrl -cert ca.crt -keyfile ca.key -out ca.crl");
    }

    /// The SHA-256 of a certificate as openssl writes it.
    pub fn fingerprint(&self, name: &str) -> String {
        let text = self.openssl(&format!("x509 -in {name}.crt -noout -fingerprint -sha256"));
        text.trim().rsplit('=').next().unwrap().to_owned()
    }
}

fn openssl_in(directory: &Path, arguments: &str) -> String {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What `openssl s_client` says when it connects there and asks for a page; whether it got one is for the caller to see.
pub fn s_client(port: u16, path: &str, arguments: &[&str]) -> String {
    use std::io::Write;
    let mut child = Command::new("openssl")
        .args(["s_client", "-ign_eof", "-connect", &format!("127.0.0.1:{port}")])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    // It may be gone already.
    let _ = child.stdin.as_mut().unwrap().write_all(request.as_bytes());
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}
