//! `mqtt`: the MQTT client.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// `mqtt.endpoint` as a URL: `mqtt://host:1883`, `mqtts://host:8883`; a bare host name is `mqtts://host` on `mqtt.port`.
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
    /// `mqtt.alpn`: protocol name offered in the TLS handshake; AWS IoT on port 443 wants `x-amzn-mqtt-ca`.
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
