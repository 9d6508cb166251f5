//! Who we are to AWS.

use std::sync::Arc;

use crate::config::{self, Secret};
use crate::net;

use super::{Error, RoleAlias};

/// Credentials are renewed this long before they expire, so that no request on its way carries dead ones.
const MARGIN_MS: i64 = 5 * 60_000;

/// An access key, perhaps a temporary one. `Debug` shows the id only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Secret,
    expires: Option<i64>,
}

impl Credentials {
    /// A long-term access key.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            secret_access_key: Secret::new(secret_access_key),
            session_token: Secret::default(),
            expires: None,
        }
    }

    /// Adds the session token of a temporary key.
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.session_token = Secret::new(token);
        self
    }

    /// Adds the time at which a temporary key expires, in milliseconds since 1970.
    pub fn with_expiry(mut self, expires: i64) -> Self {
        self.expires = Some(expires);
        self
    }

    /// The public part of the key.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// When the key expires, in milliseconds since 1970; nothing for a long-term key.
    pub fn expires(&self) -> Option<i64> {
        self.expires
    }

    /// Whether it is time to get new ones.
    pub fn is_stale(&self, now: i64) -> bool {
        self.expires.is_some_and(|expires| now.saturating_add(MARGIN_MS) >= expires)
    }

    pub(super) fn secret_access_key(&self) -> &str {
        self.secret_access_key.expose()
    }

    pub(super) fn token(&self) -> Option<&str> {
        (!self.session_token.is_empty()).then(|| self.session_token.expose())
    }
}

/// Where credentials come from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Provider {
    /// Given once, valid for good or until they expire.
    Static(Credentials),
    /// From AWS IoT, for the device's certificate.
    RoleAlias(Arc<RoleAlias>),
}

impl Provider {
    /// The credentials of the configuration, else those of the environment variables `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`. `device` is the device's id.
    pub fn new(config: &config::Aws, device: &str) -> Result<Self, Error> {
        match &config.credentials {
            Some(alias) => Ok(Self::RoleAlias(Arc::new(RoleAlias::new(alias, &config.proxy, device)?))),
            None => Self::with_environment(config, |name| std::env::var(name).ok()),
        }
    }

    fn with_environment(config: &config::Aws, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let (id, secret, token) = match config.access_key_id.is_empty() {
            false => (
                config.access_key_id.clone(),
                config.secret_access_key.expose().to_owned(),
                config.session_token.expose().to_owned(),
            ),
            true => {
                let read = |name: &str| variable(name).unwrap_or_default();
                (read("AWS_ACCESS_KEY_ID"), read("AWS_SECRET_ACCESS_KEY"), read("AWS_SESSION_TOKEN"))
            }
        };
        match id.is_empty() || secret.is_empty() {
            true => Err(Error::NoCredentials),
            false => Ok(Self::Static(Credentials::new(id, secret).with_token(token))),
        }
    }

    /// Credentials for a request at `now`, in milliseconds since 1970.
    pub async fn credentials(&self, now: i64) -> Result<Credentials, Error> {
        match self {
            Self::Static(credentials) => match credentials.expires() {
                Some(expires) if expires <= now => Err(Error::Expired { at: net::iso8601(expires) }),
                _ => Ok(credentials.clone()),
            },
            Self::RoleAlias(alias) => alias.credentials().await,
        }
    }

    /// A service does not know these credentials any more. Whether others may be had.
    pub(super) fn refused(&self, access_key_id: &str) -> bool {
        match self {
            Self::Static(_) => false,
            Self::RoleAlias(alias) => alias.refused(access_key_id),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(config: &config::Aws, environment: &[(&str, &str)]) -> Result<Credentials, Error> {
        let variable = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
        smol::block_on(Provider::with_environment(config, variable)?.credentials(0))
    }

    const ENVIRONMENT: [(&str, &str); 3] =
        [("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "s3"), ("AWS_SESSION_TOKEN", "tok")];

    #[test]
    fn the_configuration_comes_before_the_environment() {
        let config = config::Aws {
            access_key_id: "AKIDCONF".into(),
            secret_access_key: Secret::new("s1"),
            ..Default::default()
        };
        let found = of(&config, &ENVIRONMENT).unwrap();
        assert_eq!(found, Credentials::new("AKIDCONF", "s1"));
        assert_eq!(found.token(), None, "the token of the environment belongs to the key of the environment");
    }

    #[test]
    fn the_environment_serves_when_nothing_is_configured() {
        let found = of(&config::Aws::default(), &ENVIRONMENT).unwrap();
        assert_eq!(found, Credentials::new("AKIDENV", "s3").with_token("tok"));
    }

    #[test]
    fn a_key_without_its_secret_is_no_key() {
        for environment in [&ENVIRONMENT[..1], &ENVIRONMENT[1..], &[]] {
            assert!(matches!(of(&config::Aws::default(), environment), Err(Error::NoCredentials)));
        }
    }

    #[test]
    fn temporary_keys_grow_stale_before_they_expire() {
        let key = Credentials::new("id", "secret").with_expiry(1_000_000);
        assert!(!key.is_stale(1_000_000 - MARGIN_MS - 1) && key.is_stale(1_000_000 - MARGIN_MS));
        let provider = Provider::Static(key);
        assert!(smol::block_on(provider.credentials(999_999)).is_ok());
        assert!(matches!(smol::block_on(provider.credentials(1_000_000)), Err(Error::Expired { .. })));
        assert!(!Credentials::new("id", "secret").is_stale(i64::MAX));
    }

    #[test]
    fn secrets_do_not_show() {
        let text = format!("{:?}", Credentials::new("AKID", "hush").with_token("quiet"));
        assert!(text.contains("AKID") && !text.contains("hush") && !text.contains("quiet"), "{text}");
    }
}
