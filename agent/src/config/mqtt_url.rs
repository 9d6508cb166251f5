//! `mqtt.endpoint`: where a broker is and what carries MQTT there.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::listen::{is_host, split_port};
use super::node::quote;

/// The port on which AWS IoT takes MQTT beside HTTPS, told apart by the ALPN protocol.
pub(super) const AWS_PORT: u16 = 443;

/// The path of MQTT over WebSocket when none is given: that of AWS IoT, HiveMQ, EMQX and mosquitto behind its proxies.
const PATH: &str = "/mqtt";

/// Bytes of a path and its query.
const MAX_PATH: usize = 2048;

/// `mqtt.endpoint` as a URL: `mqtt://host:1883`, `mqtts://host:8883`, `ws://host:80/mqtt`, `wss://host:443/mqtt`; a bare host
/// name is `mqtts://host` on `mqtt.port`, 443 by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MqttUrl {
    /// Whether the connection is TLS.
    pub tls: bool,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// For MQTT over WebSocket: path and query of the upgrade.
    pub path: Option<String>,
}

impl MqttUrl {
    /// Reads a URL; `port` is that of `mqtt.port`.
    pub(super) fn parse(text: &str, port: Option<u16>) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.contains('@') {
            return Err("holds a user or a password; they belong into mqtt.username and mqtt.password".into());
        }
        let wrong = || {
            format!(
                "expected a host name, 'mqtt://HOST:PORT', 'mqtts://HOST:PORT' or 'wss://HOST:PORT/PATH', found {}",
                quote(text)
            )
        };
        let (tls, is_websocket, rest, default) = match text.split_once("://") {
            Some(("mqtt", rest)) => (false, false, rest, 1883),
            Some(("mqtts", rest)) => (true, false, rest, 8883),
            Some(("ws", rest)) => (false, true, rest, 80),
            Some(("wss", rest)) => (true, true, rest, 443),
            Some(_) => return Err(wrong()),
            None => (true, false, text, AWS_PORT),
        };
        let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = match (is_websocket, path) {
            (false, "" | "/") => None,
            (false, _) => return Err(wrong()),
            (true, "") => Some(PATH.to_owned()),
            (true, path)
                if path.len() <= MAX_PATH && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') =>
            {
                Some(path.to_owned())
            }
            (true, _) => return Err(wrong()),
        };
        let (host, own) = split_port(place).ok_or_else(wrong)?;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if !inner.map_or(is_host(host), |address| address.parse::<Ipv6Addr>().is_ok()) {
            return Err(wrong());
        }
        match (own, port) {
            (Some(0), _) => Err(wrong()),
            (Some(own), Some(port)) if own != port => Err(format!("says port {own}, but mqtt.port says {port}")),
            _ => {
                let port = own.or(port).unwrap_or(default);
                Ok(Self { tls, host: inner.unwrap_or(host).to_owned(), port, path })
            }
        }
    }
}

impl FromStr for MqttUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text, None)
    }
}

impl fmt::Display for MqttUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (&self.path, self.tls) {
            (None, false) => "mqtt",
            (None, true) => "mqtts",
            (Some(_), false) => "ws",
            (Some(_), true) => "wss",
        };
        let path = self.path.as_deref().unwrap_or_default();
        match (self.host.is_empty(), self.host.contains(':')) {
            (true, _) => Ok(()),
            (_, true) => write!(f, "{scheme}://[{}]:{}{path}", self.host, self.port),
            (_, false) => write!(f, "{scheme}://{}:{}{path}", self.host, self.port),
        }
    }
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
            ("ws://x", None, Ok("ws://x:80/mqtt")),
            ("wss://x/", None, Ok("wss://x:443/")),
            ("wss://[::1]:8443/a/b?c=d", None, Ok("wss://[::1]:8443/a/b?c=d")),
            ("mqtt://x:1", Some(2), Err("says port 1")),
            ("mqtt://x:0", None, Err("expected a host name")),
            ("mqtt://x/y", None, Err("expected a host name")),
            ("ws://x/a b", None, Err("expected a host name")),
            ("ws://x/a\r\nb", None, Err("expected a host name")),
            ("mqtt://u:secret@x", None, Err("mqtt.password")),
            ("http://x", None, Err("expected a host name")),
            ("mqtt://", None, Err("expected a host name")),
            ("a b", None, Err("expected a host name")),
        ];
        for (text, port, expected) in rows {
            match (MqttUrl::parse(text, port), expected) {
                (Ok(url), Ok(shown)) => assert_eq!(url.to_string(), shown, "{text}"),
                (Err(error), Err(part)) => {
                    assert!(error.contains(part) && !error.contains("secret"), "{text}: {error}")
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
