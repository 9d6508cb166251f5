//! `aws`: where AWS is and who we are there.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
use super::node::quote;
use super::outbound::OutboundProxy;
use super::role_alias::RoleAlias;
use super::section::Section;
use super::units::FOREVER;

/// Access to AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aws {
    /// `aws.region`, as `eu-central-1`.
    pub region: String,
    /// `aws.endpoint`: a URL that takes the place of AWS's own endpoints (an emulator, a private link).
    pub endpoint: Option<String>,
    /// `aws.authority`: PEM file of the roots to trust; nothing: the system's roots.
    pub authority: Option<PathBuf>,
    /// `aws.proxy`: the proxy on the way to AWS.
    pub proxy: OutboundProxy,
    /// `aws.accessKeyId`
    pub access_key_id: String,
    /// `aws.secretAccessKey`
    pub secret_access_key: Secret,
    /// `aws.sessionToken`
    pub session_token: Secret,
    /// `aws.credentials`: AWS IoT gives temporary keys for the device's certificate.
    pub credentials: Option<RoleAlias>,
    /// `timeouts.aws`: one call, with its retries.
    pub timeout: Duration,
}

impl Default for Aws {
    fn default() -> Self {
        Self {
            region: "us-east-1".into(),
            endpoint: None,
            authority: None,
            proxy: OutboundProxy::default(),
            access_key_id: String::new(),
            secret_access_key: Secret::default(),
            session_token: Secret::default(),
            credentials: None,
            timeout: Duration::from_secs(60),
        }
    }
}

impl Aws {
    /// The files that requests take: of whom to trust, and who we are.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let alias = self.credentials.iter().flat_map(|alias| [&alias.authority, &alias.certificate, &alias.key]);
        [&self.authority].into_iter().chain(alias).flatten()
    }

    pub(super) fn read(s: &Section, timeouts: &Section) -> Self {
        let d = Self::default();
        let aws = Self {
            region: s.text("region", &d.region),
            endpoint: s.optional_text("endpoint"),
            authority: s.file("authority"),
            proxy: OutboundProxy::read(&s.section("proxy")),
            access_key_id: s.text("accessKeyId", &d.access_key_id),
            secret_access_key: s.secret("secretAccessKey"),
            session_token: s.secret("sessionToken"),
            credentials: RoleAlias::read(&s.section("credentials")),
            timeout: timeouts.duration("aws", Duration::from_secs(1)..=FOREVER, d.timeout),
        };
        if aws.region.is_empty()
            || !aws.region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            s.problem("region", format!("expected a region as 'eu-central-1', found {}", quote(&aws.region)));
        }
        match aws.endpoint.as_deref() {
            Some(endpoint) if endpoint.contains('@') => {
                s.problem("endpoint", "holds a user or a password; requests are signed with aws.secretAccessKey");
            }
            Some(endpoint) if !is_url(endpoint) => {
                s.problem("endpoint", format!("expected a URL as 'https://HOST:PORT', found {}", quote(endpoint)));
            }
            _ => {}
        }
        match (aws.access_key_id.is_empty(), aws.secret_access_key.is_empty()) {
            (false, true) => s.problem("accessKeyId", "needs aws.secretAccessKey beside it"),
            (true, false) => s.problem("secretAccessKey", "needs aws.accessKeyId beside it"),
            (false, false) if aws.credentials.is_some() => {
                s.problem("accessKeyId", "stands beside aws.credentials; one of the two says who we are");
            }
            _ => {}
        }
        aws
    }
}

fn is_url(text: &str) -> bool {
    let host = text.strip_prefix("http://").or(text.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty() && !host.starts_with('/') && !host.contains(char::is_whitespace))
}
