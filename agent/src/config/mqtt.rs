//! `mqtt`: the MQTT client.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::Secret;
use super::cron::Cron;
use super::mqtt_url::{AWS_PORT, MqttUrl};
use super::node::{Node, Value, quote};
use super::outbound::OutboundProxy;
use super::queue::QueueLimits;
use super::section::{Section, text};
use super::tls::pair;
use super::will::Will;

/// <https://docs.aws.amazon.com/iot/latest/developerguide/protocols.html>
const AWS_ALPN: &str = "x-amzn-mqtt-ca";

/// The keep-alive intervals that AWS IoT Core takes ("Keep-alive interval", AWS IoT Core endpoints and quotas).
const AWS_KEEP_ALIVE: RangeInclusive<Duration> = Duration::from_secs(30)..=Duration::from_secs(1200);

/// `mqtt.profile`: whose rules the client keeps beside those of MQTT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MqttProfile {
    /// Those of AWS IoT Core when the broker's host is one of its endpoints.
    #[default]
    Auto,
    /// Those of AWS IoT Core.
    Aws,
    /// None.
    Generic,
}

/// `mqtt.schedule`: when the connection is to stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MqttSchedule {
    /// `anytime`.
    #[default]
    Always,
    /// `never`: only while there is something to send.
    Never,
    /// In these minutes; outside of them as `mqtt.onDemand` says.
    Cron(Cron),
}

/// One entry of `mqtt.subscribe`: `{filter: 'demo/#', qos: 1}` or just the filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topic filter.
    pub filter: String,
    /// The highest quality of service wanted, 0 to 2.
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
    /// `mqtt.queue`: bounds of the messages that wait to be sent, of the priorities high, normal and low.
    pub queue: [QueueLimits; 3],
    /// `mqtt.maxPacket`: bytes of one packet, in either direction.
    pub max_packet: usize,
    /// `mqtt.profile`
    pub profile: MqttProfile,
    /// `mqtt.sign`: signs the address of the WebSocket with the credentials of the section `aws`; by default for AWS IoT over
    /// `wss://` without a user name.
    pub sign: bool,
    /// `mqtt.proxy`: the proxy on the way to the broker.
    pub proxy: OutboundProxy,
    /// `mqtt.schedule`
    pub schedule: MqttSchedule,
    /// `mqtt.onDemand`: outside of the schedule, connects while there is something to send; with `schedule: 'never'` always
    /// so.
    pub on_demand: bool,
    /// `mqtt.idle`: how long a connection that was made on demand stays without messages.
    pub idle: Duration,
    /// `mqtt.delay`: how long after the start, or after the schedule begins, the client waits before it connects.
    pub delay: Duration,
    /// `mqtt.jitter`: a random time up to this one more, so that a fleet does not connect in the same second.
    pub jitter: Duration,
    /// `mqtt.throttle`: messages that match this filter slow the client down; none by default.
    pub throttle: Option<String>,
    /// `mqtt.will`: the last will.
    pub will: Will,
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
            queue: [QueueLimits::default(); 3],
            max_packet: 129 * 1024,
            profile: MqttProfile::Auto,
            sign: false,
            proxy: OutboundProxy::default(),
            schedule: MqttSchedule::Always,
            on_demand: false,
            idle: Duration::from_secs(60),
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            throttle: None,
            will: Will::default(),
            subscribe: Vec::new(),
        }
    }
}

impl MqttProfile {
    /// Whether the rules of AWS IoT Core hold for a broker: `PREFIX-ats.iot.REGION.amazonaws.com`, also in China.
    pub fn is_aws(self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let is_endpoint = || {
            let name = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"));
            name.is_some_and(|name| name.split('.').rev().nth(1) == Some("iot"))
        };
        match self {
            Self::Auto => is_endpoint(),
            Self::Aws => true,
            Self::Generic => false,
        }
    }
}

impl Mqtt {
    /// Whether the rules of AWS IoT Core hold.
    pub fn is_aws(&self) -> bool {
        self.profile.is_aws(&self.url.host)
    }

    pub(super) fn read(s: &Section) -> Self {
        let d = Self::default();
        let port = s.value("port", None, |port: &Option<u16>| port.map_or(Json::Null, Json::from), port);
        let url =
            s.value("endpoint", d.url, |url| Json::from(url.to_string()), |node| MqttUrl::parse(&text(node)?, port));
        let is_mqtt_beside_https = url.tls && url.path.is_none() && url.port == AWS_PORT;
        let alpn = s.text("alpn", if is_mqtt_beside_https { AWS_ALPN } else { "" });
        let (certificate, key) = pair(s);
        let username = s.optional_text("username");
        let profiles = [("auto", MqttProfile::Auto), ("aws", MqttProfile::Aws), ("generic", MqttProfile::Generic)];
        let profile = s.choice("profile", &profiles, d.profile);
        let is_aws = profile.is_aws(&url.host);
        let is_secure_socket = url.tls && url.path.is_some();
        let sign = s.flag("sign", is_aws && is_secure_socket && username.is_none());
        if sign && !is_secure_socket {
            s.problem("sign", "needs an endpoint as 'wss://HOST/mqtt': only the address of a WebSocket can be signed");
        }
        // MQTT's own limit is a 16-bit number of seconds [MQTT 3.1.1 §3.1.2.10].
        let keep_alive = s.duration("keepAlive", Duration::from_secs(5)..=Duration::from_secs(65_535), d.keep_alive);
        if is_aws && !AWS_KEEP_ALIVE.contains(&keep_alive) {
            s.problem("keepAlive", "is out of range, AWS IoT takes 30 secs to 20 mins");
        }
        let show_schedule = |schedule: &MqttSchedule| Json::from(schedule.to_string());
        let schedule = s.value("schedule", d.schedule, show_schedule, schedule);
        let on_demand = s.flag("onDemand", schedule == MqttSchedule::Never);
        let day = || Duration::ZERO..=Duration::from_secs(24 * 60 * 60);
        Self {
            url,
            alpn: Some(alpn).filter(|alpn| !alpn.is_empty()),
            authority: s.file("authority"),
            certificate,
            key,
            client_id: s.optional_text("clientId"),
            username,
            password: s.secret("password"),
            keep_alive,
            timeout: s.duration("timeout", Duration::from_secs(1)..=Duration::from_secs(60 * 60), d.timeout),
            inflight: s.count("inflight", 1..=65_535, d.inflight),
            queue: QueueLimits::read_all(&s.section("queue")),
            // The longest packet that MQTT can say [MQTT 3.1.1 §2.2.3].
            max_packet: s.size("maxPacket", 1024..=268_435_455, d.max_packet),
            profile,
            sign,
            proxy: OutboundProxy::read(&s.section("proxy")),
            schedule,
            on_demand,
            idle: s.duration("idle", Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60), d.idle),
            delay: s.duration("delay", day(), d.delay),
            jitter: s.duration("jitter", day(), d.jitter),
            throttle: s.value("throttle", None, |filter: &Option<String>| Json::from(filter.clone()), throttle),
            will: Will::read(&s.section("will")),
            subscribe: s.list("subscribe", d.subscribe, show_subscription, subscription),
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

fn schedule(node: &Node) -> Result<MqttSchedule, String> {
    match text(node)?.as_str() {
        "" | "anytime" => Ok(MqttSchedule::Always),
        "never" | "unscheduled" => Ok(MqttSchedule::Never),
        text => text.parse().map(MqttSchedule::Cron),
    }
}

impl fmt::Display for MqttSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("anytime"),
            Self::Never => f.write_str("never"),
            Self::Cron(cron) => cron.fmt(f),
        }
    }
}

fn throttle(node: &Node) -> Result<Option<String>, String> {
    match text(node)? {
        filter if filter.is_empty() => Ok(None),
        filter if is_filter(&filter) => Ok(Some(filter)),
        other => Err(format!("expected a topic filter as 'a/+/b/#', found {}", quote(&other))),
    }
}

fn subscription(node: &Node, s: Section) -> Result<Subscription, String> {
    let (filter, qos) = match &node.value {
        Value::Object(_) => (s.text("filter", ""), s.count("qos", 0..=2, 1)),
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
    fn endpoints_of_aws_are_known_by_their_names() {
        let auto = MqttProfile::Auto;
        for host in ["x-ats.iot.eu-central-1.amazonaws.com", "X.IOT.cn-north-1.amazonaws.com.cn"] {
            assert!(auto.is_aws(host) && !MqttProfile::Generic.is_aws(host), "{host}");
        }
        for host in
            ["iot.example.com", "x.iot.amazonaws.com.evil.example", "x.s3.eu-central-1.amazonaws.com", "localhost"]
        {
            assert!(!auto.is_aws(host) && MqttProfile::Aws.is_aws(host), "{host}");
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
