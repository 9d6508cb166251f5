//! `mqtt`: the MQTT client.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::Secret;
use super::listen::{is_host, split_port};
use super::node::{Node, Value, quote};
use super::section::{Section, text};
use super::tls::pair;

/// The port on which AWS IoT takes MQTT beside HTTPS, told apart by [`AWS_ALPN`].
const AWS_PORT: u16 = 443;

/// <https://docs.aws.amazon.com/iot/latest/developerguide/protocols.html>
const AWS_ALPN: &str = "x-amzn-mqtt-ca";

/// `mqtt.endpoint` as a URL: `mqtt://host:1883`, `mqtts://host:8883`; a bare host name is `mqtts://host` on `mqtt.port`,
/// 443 by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MqttUrl {
    /// Whether the connection is TLS.
    pub tls: bool,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// One entry of `mqtt.subscribe`: `{filter: 'demo/#', qos: 1}` or just the filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topic filter.
    pub filter: String,
    /// The highest quality of service wanted, 0 or 1.
    pub qos: u8,
}

/// The MQTT client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mqtt {
    /// `mqtt.endpoint` and `mqtt.port`
    pub url: MqttUrl,
    /// `mqtt.alpn`: protocol name offered in the TLS handshake; by default `x-amzn-mqtt-ca` on port 443, as AWS IoT wants it,
    /// and none on others. Empty: none.
    pub alpn: Option<String>,
    /// `mqtt.authority`: PEM file of the roots that sign the broker's certificate; nothing: the system's roots.
    pub authority: Option<PathBuf>,
    /// `mqtt.certificate`: PEM file of the client certificate.
    pub certificate: Option<PathBuf>,
    /// `mqtt.key`: PEM file of its key.
    pub key: Option<PathBuf>,
    /// `mqtt.clientId`; nothing: the device's id.
    pub client_id: Option<String>,
    /// `mqtt.username`
    pub username: Option<String>,
    /// `mqtt.password`
    pub password: Secret,
    /// `mqtt.keepAlive`: silence after which the client pings.
    pub keep_alive: Duration,
    /// `mqtt.timeout`: how long connecting may take.
    pub timeout: Duration,
    /// `mqtt.inflight`: publishes that wait for their acknowledgement at a time.
    pub inflight: u16,
    /// `mqtt.queue`: messages that wait to be sent at most.
    pub queue: usize,
    /// `mqtt.maxPacket`: bytes of one packet, in either direction.
    pub max_packet: usize,
    /// `mqtt.subscribe`: filters whose messages the agent takes and shows in `ioto status`.
    pub subscribe: Vec<Subscription>,
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            url: MqttUrl::default(),
            alpn: None,
            authority: None,
            certificate: None,
            key: None,
            client_id: None,
            username: None,
            password: Secret::default(),
            keep_alive: Duration::from_secs(60),
            timeout: Duration::from_secs(30),
            inflight: 50,
            queue: 1000,
            max_packet: 129 * 1024,
            subscribe: Vec::new(),
        }
    }
}

impl Mqtt {
    pub(super) fn read(s: &Section) -> Self {
        let d = Self::default();
        let port = s.value("port", None, |port: &Option<u16>| port.map_or(Json::Null, Json::from), port);
        let url = s.value("endpoint", d.url, |url| Json::from(url.to_string()), |node| endpoint(&text(node)?, port));
        let alpn = s.text("alpn", if url.tls && url.port == AWS_PORT { AWS_ALPN } else { "" });
        let (certificate, key) = pair(s);
        Self {
            url,
            alpn: Some(alpn).filter(|alpn| !alpn.is_empty()),
            authority: s.file("authority"),
            certificate,
            key,
            client_id: s.optional_text("clientId"),
            username: s.optional_text("username"),
            password: s.secret("password"),
            // MQTT's own limit is a 16-bit number of seconds [MQTT 3.1.1 §3.1.2.10].
            keep_alive: s.duration("keepAlive", Duration::from_secs(5)..=Duration::from_secs(65_535), d.keep_alive),
            timeout: s.duration("timeout", Duration::from_secs(1)..=Duration::from_secs(60 * 60), d.timeout),
            inflight: s.count("inflight", 1..=65_535, d.inflight),
            queue: s.count("queue", 1..=100_000, d.queue),
            // The longest packet that MQTT can say [MQTT 3.1.1 §2.2.3].
            max_packet: s.size("maxPacket", 1024..=268_435_455, d.max_packet),
            subscribe: s.list("subscribe", d.subscribe, show_subscription, subscription),
        }
    }
}

impl fmt::Display for MqttUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        match (self.host.is_empty(), self.host.contains(':')) {
            (true, _) => Ok(()),
            (_, true) => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            (_, false) => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

fn port(node: &Node) -> Result<Option<u16>, String> {
    let port = match &node.value {
        Value::Number(port) if port.fract() == 0.0 && (1.0..=65_535.0).contains(port) => Some(*port as u16),
        Value::Text(port) => port.parse().ok().filter(|port| *port > 0),
        _ => None,
    };
    port.map(Some).ok_or_else(|| format!("expected a port, 1 to 65535, found {}", node.describe()))
}

/// `port` is that of `mqtt.port`.
fn endpoint(text: &str, port: Option<u16>) -> Result<MqttUrl, String> {
    if text.is_empty() {
        return Ok(MqttUrl::default());
    }
    if text.contains('@') {
        return Err("holds a user or a password; they belong into mqtt.username and mqtt.password".into());
    }
    let wrong = || format!("expected a host name, 'mqtt://HOST:PORT' or 'mqtts://HOST:PORT', found {}", quote(text));
    let (tls, rest, default) = match text.split_once("://") {
        Some(("mqtt", rest)) => (false, rest, 1883),
        Some(("mqtts", rest)) => (true, rest, 8883),
        Some(_) => return Err(wrong()),
        None => (true, text, AWS_PORT),
    };
    let (host, own) = split_port(rest.strip_suffix('/').unwrap_or(rest)).ok_or_else(wrong)?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if !inner.map_or(is_host(host), |address| address.parse::<Ipv6Addr>().is_ok()) {
        return Err(wrong());
    }
    match (own, port) {
        (Some(own), Some(port)) if own != port => Err(format!("says port {own}, but mqtt.port says {port}")),
        _ => Ok(MqttUrl { tls, host: inner.unwrap_or(host).to_owned(), port: own.or(port).unwrap_or(default) }),
    }
}

fn subscription(node: &Node, s: Section) -> Result<Subscription, String> {
    let (filter, qos) = match &node.value {
        Value::Object(_) => (s.text("filter", ""), s.count("qos", 0..=1, 1)),
        _ => (text(node)?, 1),
    };
    match is_filter(&filter) {
        true => Ok(Subscription { filter, qos }),
        false => Err(format!("expected a topic filter as 'a/+/b/#', found {}", quote(&filter))),
    }
}

fn show_subscription(subscription: &Subscription) -> Json {
    json!({"filter": subscription.filter, "qos": subscription.qos})
}

/// `#` only as the last level, `+` only as a whole one [MQTT 3.1.1 §4.7.1].
fn is_filter(filter: &str) -> bool {
    let last = filter.split('/').count() - 1;
    let good = |(index, level): (usize, &str)| match level {
        "#" => index == last,
        "+" => true,
        level => !level.contains(['#', '+', '\0']),
    };
    !filter.is_empty() && filter.len() <= 65_535 && filter.split('/').enumerate().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls_or_hosts() {
        let rows = [
            ("", None, Ok("")),
            ("x.iot.eu-central-1.amazonaws.com", None, Ok("mqtts://x.iot.eu-central-1.amazonaws.com:443")),
            ("x", Some(8883), Ok("mqtts://x:8883")),
            ("x:8884", None, Ok("mqtts://x:8884")),
            ("mqtt://127.0.0.1", None, Ok("mqtt://127.0.0.1:1883")),
            ("mqtts://[::1]/", None, Ok("mqtts://[::1]:8883")),
            ("mqtt://x:1", Some(1), Ok("mqtt://x:1")),
            ("mqtt://x:1", Some(2), Err("says port 1")),
            ("mqtt://u:secret@x", None, Err("mqtt.password")),
            ("http://x", None, Err("expected a host name")),
            ("mqtt://", None, Err("expected a host name")),
            ("a b", None, Err("expected a host name")),
        ];
        for (text, port, expected) in rows {
            match (endpoint(text, port), expected) {
                (Ok(url), Ok(shown)) => assert_eq!(url.to_string(), shown, "{text}"),
                (Err(error), Err(part)) => {
                    assert!(error.contains(part) && !error.contains("secret"), "{text}: {error}")
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn filters_follow_the_standard() {
        for filter in ["a", "a/b", "/", "+", "#", "a/+/b/#", "$aws/x"] {
            assert!(is_filter(filter), "{filter}");
        }
        for filter in ["", "a#", "a/#/b", "a+/b", "#/a"] {
            assert!(!is_filter(filter), "{filter}");
        }
    }
}
