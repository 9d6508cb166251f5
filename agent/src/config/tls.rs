//! `tls`: the certificates of the web server, and those that it wants of clients.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::ciphers::{CIPHERS, Named, named};
use super::node::{Node, Value};
use super::section::{Section, choose, text};

/// Certificates and keys, PEM files. Without any the device makes its own key and a self-signed certificate.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// `certificate`: the chain, the server's own certificate first.
    pub certificate: Option<PathBuf>,
    /// `key`: the private key, readable by the agent's user only.
    pub key: Option<PathBuf>,
    /// `certificates`: more of them, chosen by the name that the client asks for.
    pub certificates: Vec<TlsCertificate>,
    /// `verify.client`: whether clients show a certificate.
    pub clients: ClientCertificates,
    /// `authority`: who issues the certificates of clients.
    pub authority: Option<PathBuf>,
    /// `crl`: which of them are revoked.
    pub crl: Option<PathBuf>,
    /// `ciphers`: the cipher suites that are offered, by their IANA names; empty: all.
    pub ciphers: Vec<String>,
}

/// An item of `tls.certificates`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsCertificate {
    /// `certificate`: the chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// `key`: the private key.
    pub key: PathBuf,
    /// `names`: what it is for, when not for the names in it; `*` may be the first label.
    pub names: Vec<String>,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// `false`: they are not asked.
    #[default]
    Off,
    /// `'optional'`: they are asked. One that is shown must be good.
    Optional,
    /// `true` or `'required'`: who shows none is not let in.
    Required,
}

const CLIENTS: [(&str, ClientCertificates); 2] =
    [("optional", ClientCertificates::Optional), ("required", ClientCertificates::Required)];

impl Tls {
    pub(super) fn read(s: &Section) -> Self {
        let (certificate, key) = pair(s);
        let verify = s.section("verify");
        let clients = verify.value("client", ClientCertificates::Off, show_clients, clients);
        let issuer = verify.flag("issuer", true);
        let is_on = clients != ClientCertificates::Off;
        let mut files = [None, None];
        for (file, key) in files.iter_mut().zip(["authority", "crl"]) {
            match is_on {
                true => *file = s.file(key),
                // Nobody asks for it: it need not be there.
                false if s.has(key) => {
                    s.path(key, "".as_ref());
                    s.no_effect(key);
                }
                false => drop(s.file(key)),
            }
        }
        let [authority, crl] = files;
        if is_on && !s.has("authority") {
            verify.problem("client", "needs tls.authority, the file with the certificates of those who issue them");
        }
        if is_on && !issuer {
            verify.problem("issuer", "expected true: a certificate that anybody can make proves nothing");
        }
        Self { certificate, key, certificates: certificates(s), clients, authority, crl, ciphers: ciphers(s) }
    }
}

fn certificates(s: &Section) -> Vec<TlsCertificate> {
    let show = |one: &Option<TlsCertificate>| {
        let file = |path: &Path| Json::from(path.to_string_lossy());
        one.as_ref().map_or(
            Json::Null,
            |one| json!({"certificate": file(&one.certificate), "key": file(&one.key), "names": one.names}),
        )
    };
    let all = s.list("certificates", Vec::new(), show, |node, item| {
        if !matches!(node.value, Value::Object(_)) {
            return Err(format!("expected {{certificate: '…', key: '…'}}, found {}", node.describe()));
        }
        let names = item.list("names", Vec::new(), |name: &String| Json::from(name.as_str()), |node, _| host(node));
        if !item.has("certificate") && !item.has("key") {
            return Err("needs `certificate` and `key`, two files".into());
        }
        // What is wrong with the files is said by then.
        let (certificate, key) = pair(&item);
        Ok(certificate.zip(key).map(|(certificate, key)| TlsCertificate { certificate, key, names }))
    });
    all.into_iter().flatten().collect()
}

/// The host name of a certificate.
fn host(node: &Node) -> Result<String, String> {
    let name = text(node)?;
    let bare = name.strip_prefix("*.").unwrap_or(&name);
    let is_label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    match bare.len() <= 253 && bare.split('.').all(is_label) {
        true => Ok(name),
        false => Err(format!("expected a host name as 'a.example.com' or '*.example.com', found {}", node.describe())),
    }
}

/// Suites that are not secure are left out, with a word about it; one at least must remain.
fn ciphers(s: &Section) -> Vec<String> {
    let show = |suite: &Named| match suite {
        Named::Suite(name) => Json::from(*name),
        Named::Old => Json::Null,
    };
    let all = s.list("ciphers", Vec::new(), show, |node, item| {
        let suite = named(&text(node)?)?;
        if suite == Named::Old {
            item.left_out(node, "is not secure");
        }
        Ok(suite)
    });
    let name = |suite: &Named| match suite {
        Named::Suite(name) => Some((*name).to_owned()),
        Named::Old => None,
    };
    let suites: Vec<_> = all.iter().filter_map(name).collect();
    if suites.is_empty() && !all.is_empty() {
        let good: Vec<_> = CIPHERS.iter().map(|(_, openssl)| *openssl).collect();
        s.problem("ciphers", format!("none of them is secure, expected some of {}", good.join(" ")));
    }
    suites
}

fn show_clients(clients: &ClientCertificates) -> Json {
    match clients {
        ClientCertificates::Off => Json::from(false),
        ClientCertificates::Optional => Json::from("optional"),
        ClientCertificates::Required => Json::from("required"),
    }
}

fn clients(node: &Node) -> Result<ClientCertificates, String> {
    let flag = match &node.value {
        Value::Flag(flag) => Some(*flag),
        Value::Text(text) if !node.origin.is_file() => text.parse().ok(),
        _ => None,
    };
    match flag {
        Some(true) => Ok(ClientCertificates::Required),
        Some(false) => Ok(ClientCertificates::Off),
        None => choose(node, &CLIENTS).map_err(|text| text.replacen("expected ", "expected true, false, ", 1)),
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
