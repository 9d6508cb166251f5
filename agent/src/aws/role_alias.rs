//! Temporary credentials that AWS IoT gives a device for its certificate.
//!
//! Source: AWS IoT Core Developer Guide, "Authorizing direct calls to AWS services using AWS IoT Core credential provider".
//!
//! How long they last is counted from the provider's own `Date` by a clock that nobody sets, so that a device whose clock is
//! wrong neither keeps dead credentials nor throws good ones away.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Credentials, Error};
use crate::config;
use crate::fetch::{self, Client, Options, Response};
use crate::net::{self, Proxy, TlsClient};

/// New ones are asked for so long before the end, or after 80 % of the time if that is earlier.
const MARGIN: Duration = Duration::from_secs(5 * 60);
/// So long before the end the old ones are used no more: a request takes its time.
const LAST: Duration = Duration::from_secs(30);
/// How long the provider is left alone after it failed, while the old credentials are good.
const PATIENCE: Duration = Duration::from_secs(60);
/// One request to the provider.
const TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER: usize = 16 * 1024;

/// The credentials provider, for one role alias.
pub struct RoleAlias {
    client: Client,
    url: String,
    thing: String,
    held: Mutex<Option<Held>>,
    /// Held by the one who asks for new ones.
    asking: smol::lock::Mutex<()>,
}

#[derive(Clone)]
struct Held {
    credentials: Credentials,
    renew: Instant,
    end: Instant,
}

impl RoleAlias {
    /// Reads certificate, key and roots; connects to nothing. `device` is the name of the thing if the configuration has none.
    pub(super) fn new(config: &config::RoleAlias, proxy: &config::OutboundProxy, device: &str) -> Result<Self, Error> {
        let mut tls = TlsClient::builder();
        if let Some(file) = &config.authority {
            tls = tls.authority(file);
        }
        if let (Some(certificate), Some(key)) = (&config.certificate, &config.key) {
            tls = tls.identity(certificate, key);
        }
        let tls = match config.endpoint.starts_with("https://") {
            true => Some(tls.build().map_err(fetch::Error::from)?),
            false => None,
        };
        let proxy = Proxy::from_config(proxy).map_err(|text| Error::Endpoint(format!("aws.proxy: {text}")))?;
        // The provider is asked every hour or so: no connection is kept for that.
        let options = Options { tls, proxies: proxy.into(), redirects: 0, idle_connections: 0, ..Options::default() };
        Ok(Self {
            client: Client::new(options),
            url: format!("{}/role-aliases/{}/credentials", config.endpoint, config.role_alias),
            thing: config.thing.clone().unwrap_or_else(|| device.to_owned()),
            held: Mutex::new(None),
            asking: smol::lock::Mutex::new(()),
        })
    }

    /// Credentials that are good now. One caller at a time asks for new ones; the others go on with the old while these last.
    pub(super) async fn credentials(&self) -> Result<Credentials, Error> {
        if let Some(fresh) = self.held(|held, now| now < held.renew) {
            return Ok(fresh);
        }
        let asking = match self.asking.try_lock() {
            Some(asking) => asking,
            None => match self.held(|held, now| now < held.end) {
                Some(good) => return Ok(good),
                None => self.asking.lock().await,
            },
        };
        // Somebody else may have got them meanwhile.
        if let Some(fresh) = self.held(|held, now| now < held.renew) {
            return Ok(fresh);
        }
        let result = self.ask().await;
        drop(asking);
        match result {
            Ok(held) => {
                let credentials = held.credentials.clone();
                *self.lock() = Some(held);
                Ok(credentials)
            }
            Err(error) => self.bear(error),
        }
    }

    /// A service refused these credentials: they are used no more. Whether there can be others.
    pub(super) fn refused(&self, access_key_id: &str) -> bool {
        let mut held = self.lock();
        if held.as_ref().is_some_and(|held| held.credentials.access_key_id() == access_key_id) {
            *held = None;
        }
        true
    }

    /// Goes on with the old credentials where the provider failed, if they are good.
    fn bear(&self, error: Error) -> Result<Credentials, Error> {
        let mut held = self.lock();
        match held.as_mut().filter(|held| Instant::now() < held.end) {
            Some(held) => {
                log::warn!("no new AWS credentials yet, the old ones are used on: {error}");
                held.renew = (Instant::now() + PATIENCE).min(held.end);
                Ok(held.credentials.clone())
            }
            None => Err(error),
        }
    }

    async fn ask(&self) -> Result<Held, Error> {
        let asked = Instant::now();
        let request = self.client.get(&self.url).header("x-amzn-iot-thingname", &self.thing).timeout(TIMEOUT);
        let response = request.send().await?;
        if !response.is_success() {
            return Err(self.explained(Error::refusal(response).await));
        }
        let now = server_time(&response);
        let answer = response.json(ANSWER).await?;
        let (credentials, expires) = read(&answer).ok_or_else(|| Error::Answer("these are no credentials".into()))?;
        let life = Duration::from_millis(u64::try_from(expires - now).unwrap_or(0));
        let renew = life.saturating_sub(MARGIN).min(life.mul_f64(0.8));
        log::debug!("AWS credentials {} for {life:?}", credentials.access_key_id());
        // Devices that were switched on together do not ask together for ever.
        Ok(Held {
            credentials,
            renew: asked + renew.mul_f64(0.9 + 0.1 * fastrand::f64()),
            end: asked + life.saturating_sub(LAST),
        })
    }

    /// Says what to do about a refusal.
    fn explained(&self, error: Error) -> Error {
        let Error::Service { status, code, message, body } = error else { return error };
        let hint = match status {
            403 => format!("; is '{}' the thing of the certificate, and may it assume the role alias?", self.thing),
            404 => "; is aws.credentials.roleAlias right?".to_owned(),
            _ => String::new(),
        };
        Error::Service { status, code, message: format!("{message}{hint}"), body }
    }

    fn held(&self, is_good: impl Fn(&Held, Instant) -> bool) -> Option<Credentials> {
        self.lock().as_ref().filter(|held| is_good(held, Instant::now())).map(|held| held.credentials.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RoleAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleAlias").field("url", &self.url).field("thing", &self.thing).finish_non_exhaustive()
    }
}

/// The time there in milliseconds since 1970; ours when it does not say.
fn server_time(response: &Response) -> i64 {
    let date = response.header("date").and_then(net::parse_http_date);
    let since = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or_else(net::utc_ms)
}

/// The credentials of an answer, and when they expire.
fn read(answer: &Value) -> Option<(Credentials, i64)> {
    let text = |name: &str| answer["credentials"][name].as_str().filter(|text| !text.is_empty());
    let credentials =
        Credentials::new(text("accessKeyId")?, text("secretAccessKey")?).with_token(text("sessionToken")?);
    Some((credentials, net::parse_iso8601(text("expiration")?)?))
}

#[cfg(test)]
#[path = "role_alias_tests.rs"]
mod tests;
