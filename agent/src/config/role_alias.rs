//! `aws.credentials`: temporary keys that AWS IoT gives a device for its certificate.

use std::path::PathBuf;

use super::node::quote;
use super::section::Section;
use super::tls::pair;

/// Where AWS IoT's credentials provider is, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleAlias {
    /// `aws.credentials.endpoint`: `https://` and the host of `aws iot describe-endpoint --endpoint-type iot:CredentialProvider`.
    pub endpoint: String,
    /// `aws.credentials.roleAlias`
    pub role_alias: String,
    /// `aws.credentials.thing`: the name of the thing that the certificate belongs to; nothing: the device's id.
    pub thing: Option<String>,
    /// `aws.credentials.certificate`: PEM file of the device's certificate.
    pub certificate: Option<PathBuf>,
    /// `aws.credentials.key`: PEM file of its key.
    pub key: Option<PathBuf>,
    /// `aws.credentials.authority`: PEM file of the roots to trust there; nothing: the system's roots.
    pub authority: Option<PathBuf>,
}

impl RoleAlias {
    /// Nothing when the section names no role alias.
    pub(super) fn read(s: &Section) -> Option<Self> {
        let (certificate, key) = pair(s);
        let read = Self {
            endpoint: s.optional_text("endpoint").unwrap_or_default(),
            role_alias: s.optional_text("roleAlias").unwrap_or_default(),
            thing: s.optional_text("thing"),
            certificate,
            key,
            authority: s.file("authority"),
        };
        let Self { endpoint, role_alias, .. } = &read;
        match (endpoint.is_empty(), role_alias.is_empty()) {
            (true, true) => return None,
            (true, false) => s.problem("roleAlias", "needs aws.credentials.endpoint beside it"),
            (false, true) => s.problem("endpoint", "needs aws.credentials.roleAlias beside it"),
            (false, false) => {}
        }
        if !endpoint.is_empty() && !is_url(endpoint) {
            s.problem("endpoint", format!("expected a URL as 'https://HOST', found {}", quote(endpoint)));
        }
        let is_nobody = read.certificate.is_none() && !s.has("certificate");
        if endpoint.starts_with("https://") && !role_alias.is_empty() && is_nobody {
            s.problem(
                "endpoint",
                "needs aws.credentials.certificate and aws.credentials.key: AWS IoT gives keys for them",
            );
        }
        // The characters of its names (AWS IoT API Reference, CreateRoleAlias).
        if !role_alias.bytes().all(|b| b.is_ascii_alphanumeric() || b"_=,@-".contains(&b)) || role_alias.len() > 128 {
            s.problem("roleAlias", format!("expected the name of a role alias as 'ioto', found {}", quote(role_alias)));
        }
        Some(read)
    }
}

/// `http://` is for an emulator on a developer's desk.
fn is_url(text: &str) -> bool {
    let host = text.strip_prefix("https://").or(text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty() && !host.contains(['/', '@', '?', '#']) && !host.contains(char::is_whitespace)
    })
}
