//! The signed address of MQTT over WebSocket at AWS IoT Core.
//!
//! Source: AWS IoT Core Developer Guide, "Device communication protocols", and "IAM users, groups, and roles" for where
//! the session token stands.

use std::fmt;
use std::time::Duration;

use super::skew::Skews;
use super::{Error, Provider, sigv4};
use crate::config;
use crate::http1::Headers;

/// The signing name; the service that calls of the data plane go to is `iotdata`.
const SERVICE: &str = "iotdevicegateway";
const PATH: &str = "/mqtt";
/// The longest that the broker takes. The address is used at once, but a device whose clock is late needs the time.
const EXPIRES: Duration = Duration::from_secs(24 * 60 * 60);

/// Makes the targets of `wss://HOST/mqtt`, with what is known about the device's clock.
///
/// ```
/// use ioto::aws::{Credentials, Provider, WebSocketSigner};
///
/// let signer = WebSocketSigner::new(Provider::Static(Credentials::new("AKIDEXAMPLE", "secret")), "eu-central-1");
/// let target = smol::block_on(signer.target("prefix-ats.iot.eu-central-1.amazonaws.com", ioto::net::utc_ms())).unwrap();
/// assert!(target.starts_with("/mqtt?X-Amz-Algorithm=AWS4-HMAC-SHA256&"));
/// ```
pub struct WebSocketSigner {
    provider: Provider,
    region: String,
    skews: Skews,
}

impl WebSocketSigner {
    /// With credentials and a region from elsewhere than the configuration.
    pub fn new(provider: Provider, region: impl Into<String>) -> Self {
        Self { provider, region: region.into(), skews: Skews::default() }
    }

    /// With the region and the credentials of the section `aws`, or of the environment. `device` is the device's id.
    pub fn with_config(config: &config::Aws, device: &str) -> Result<Self, Error> {
        Ok(Self::new(Provider::new(config, device)?, &config.region))
    }

    /// Path and query to ask for in the upgrade. `authority` is the value of its `Host` field; `now` is the device's time in
    /// milliseconds since 1970. Make a new one for each connection, and keep it out of logs: it opens the door for a day.
    pub async fn target(&self, authority: &str, now: i64) -> Result<String, Error> {
        let now = now.saturating_add(self.skews.of(authority));
        let credentials = self.provider.credentials(now).await?;
        let headers = [("Host", authority)];
        let request =
            sigv4::Request { method: "GET", target: PATH, headers: &headers, payload: sigv4::Payload::Bytes(b"") };
        let scope = sigv4::Scope { region: &self.region, service: SERVICE };
        let options = sigv4::Options { unsigned_token: true, ..sigv4::Options::default() };
        Ok(sigv4::presign(&request, &credentials, &scope, now, EXPIRES, &options))
    }

    /// Learns the time from the head of an answer to an upgrade that was sent at `sent` and answered at `received`, both by
    /// the device's clock. When the broker refused, true says that the clock was wrong and a new target will help.
    pub fn learn(&self, authority: &str, answer: &Headers, sent: i64, received: i64) -> bool {
        self.skews.learn(authority, answer, sent, received, self.skews.of(authority))
    }
}

impl fmt::Debug for WebSocketSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketSigner").field("region", &self.region).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Credentials;
    use super::*;
    use crate::net;

    const HOST: &str = "prefix-ats.iot.us-east-1.amazonaws.com";

    fn signer() -> WebSocketSigner {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret").with_token("a+token/=");
        WebSocketSigner::new(Provider::Static(credentials), "us-east-1")
    }

    /// The signature was computed with `SigV4QueryAuth` of botocore, without the token.
    #[test]
    fn the_token_stands_after_the_signature_and_is_not_part_of_it() {
        let now = net::parse_iso8601("2026-01-02T03:04:05Z").unwrap();
        let target = smol::block_on(signer().target(HOST, now)).unwrap();
        let (rest, token) = target.rsplit_once('&').unwrap();
        assert_eq!(token, "X-Amz-Security-Token=a%2Btoken%2F%3D");
        assert_eq!(
            rest,
            "/mqtt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Fus-east-1%2Fiotdevicegateway%2Faws4_request\
             &X-Amz-Date=20260102T030405Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=48fba172aafbc5791840bbc460dbf51f231f5d7c180364749af3bf470e5ec0be"
        );
    }

    #[test]
    fn a_refusal_tells_the_time() {
        let signer = signer();
        let now = net::parse_iso8601("2026-01-02T03:04:05Z").unwrap();
        let mut answer = Headers::new();
        answer.append("Date", "Fri, 02 Jan 2026 06:04:05 GMT").unwrap();
        assert!(signer.learn(HOST, &answer, now, now));
        let target = smol::block_on(signer.target(HOST, now)).unwrap();
        assert!(target.contains("X-Amz-Date=20260102T060405Z"), "{target}");
        assert!(!signer.learn(HOST, &answer, now, now), "it is known by now");
    }
}
