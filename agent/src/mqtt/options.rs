//! How to reach a broker, and the bounds of a connection to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::packet::{Connect, LastWill, Login};
use super::presence::Wishes;
use super::profile::{self, Profile};
use super::session::Limits;
use super::topic::MAX_LENGTH;
use super::websocket::Signer;
use super::{Error, Message, Priority, QoS, QueueLimits};
use crate::config::{self, MqttSchedule, MqttUrl, Secret};
use crate::net::{Proxy, TlsClient};

/// No wait between two attempts is shorter than this: a broker that restarts is back after a moment.
const BACKOFF_BASE: Duration = Duration::from_secs(1);

/// No wait is longer than this: the longest that an owner will accept after the network came back.
const BACKOFF_CAP: Duration = Duration::from_secs(15 * 60);

/// How to reach a broker, and the bounds of a connection to it. The defaults are those of the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<TlsClient>,
    /// For MQTT over WebSocket: what is asked for.
    pub(super) path: Option<String>,
    pub(super) signer: Option<Arc<dyn Signer>>,
    pub(super) proxy: Option<Proxy>,
    pub(super) profile: &'static Profile,
    pub(super) presence: Wishes,
    pub(super) client_id: String,
    pub(super) username: Option<String>,
    pub(super) password: Secret,
    pub(super) keep_alive: Duration,
    pub(super) timeout: Duration,
    pub(super) inflight: u16,
    pub(super) max_packet: usize,
    pub(super) backoff: (Duration, Duration),
    pub(super) clean_session: bool,
    pub(super) outbox: Option<PathBuf>,
    /// Those of [`Priority::ALL`].
    pub(super) queue_limits: [QueueLimits; 3],
    pub(super) will: Option<Message>,
}

impl Options {
    /// A broker without TLS. `client_id` names us there, and with it our session: it must be unique and stay the same.
    pub fn new(host: impl Into<String>, port: u16, client_id: impl Into<String>) -> Self {
        let defaults = config::Mqtt::default();
        Self {
            host: host.into(),
            port,
            tls: None,
            path: None,
            signer: None,
            proxy: None,
            profile: &profile::GENERIC,
            presence: Wishes { idle: defaults.idle, ..Wishes::default() },
            client_id: client_id.into(),
            username: None,
            password: Secret::default(),
            keep_alive: defaults.keep_alive,
            timeout: defaults.timeout,
            inflight: defaults.inflight,
            queue_limits: defaults.queue,
            max_packet: defaults.max_packet,
            backoff: (BACKOFF_BASE, BACKOFF_CAP),
            clean_session: false,
            outbox: None,
            will: None,
        }
    }

    /// A broker by its URL: `mqtt://host` (port 1883), `mqtts://host` (port 8883), `ws://host/path` (port 80) or
    /// `wss://host/path` (port 443), each with `:port` if it is another one; with TLS the roots are the system's.
    ///
    /// Errors: [`Options`](Error::Options) for another kind of URL, [`Net`](Error::Net) if the system has no roots.
    pub fn from_url(url: &str, client_id: impl Into<String>) -> Result<Self, Error> {
        let Some(MqttUrl { tls, host, port, path }) = url.parse().ok().filter(|_| url.contains("://")) else {
            let expected = "mqtt://HOST[:PORT], mqtts://HOST[:PORT] or wss://HOST[:PORT]/PATH is";
            return Err(Error::Options(format!("'{url}' is no broker: {expected}")));
        };
        let options = Self { path, ..Self::new(host, port, client_id) };
        if tls { Ok(options.tls(TlsClient::system()?)) } else { Ok(options) }
    }

    /// What the section `mqtt` of the configuration says; `device` is the client id if that names none.
    ///
    /// Errors: [`Net`](Error::Net) if a certificate or key cannot be used, [`Options`](Error::Options) otherwise.
    pub fn from_config(config: &config::Mqtt, device: &str) -> Result<Self, Error> {
        let client_id = config.client_id.as_deref().unwrap_or(device);
        let mut options = Self::new(&config.url.host, config.url.port, client_id)
            .keep_alive(config.keep_alive)
            .timeout(config.timeout)
            .inflight(config.inflight)
            .max_packet(config.max_packet);
        options.queue_limits = config.queue;
        options.path.clone_from(&config.url.path);
        options.profile = if config.is_aws() { &profile::AWS } else { &profile::GENERIC };
        options.presence = Wishes {
            schedule: config.schedule.clone(),
            on_demand: config.on_demand || config.schedule == MqttSchedule::Never,
            idle: config.idle,
            delay: config.delay,
            jitter: config.jitter,
        };
        options.proxy =
            Proxy::from_config(&config.proxy).map_err(|text| Error::Options(format!("mqtt.proxy: {text}")))?;
        if !config.will.topic.is_empty() {
            let config::Will { topic, payload, qos, retain } = &config.will;
            let message = Message::new(topic, payload.clone(), QoS::of((*qos).into()).unwrap_or(QoS::AtMostOnce));
            options = options.will(Message { retain: *retain, ..message });
        }
        options.username.clone_from(&config.username);
        options.password = config.password.clone();
        if config.url.tls {
            let mut tls = TlsClient::builder().alpn(&config.alpn);
            if let Some(authority) = &config.authority {
                tls = tls.authority(authority);
            }
            match (&config.certificate, &config.key) {
                (Some(certificate), Some(key)) => tls = tls.identity(certificate, key),
                (None, None) => {}
                _ => return Err(Error::Options("mqtt.certificate and mqtt.key need each other: set both".into())),
            }
            options = options.tls(tls.build()?);
        }
        options.connect_packet()?;
        Ok(options)
    }

    /// Uses TLS. Roots, client certificate and ALPN protocol are in `tls`; the host name is always sent (SNI).
    pub fn tls(mut self, tls: TlsClient) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Speaks MQTT over WebSocket: asks for this path, as `/mqtt`.
    pub fn websocket(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Has the target of the WebSocket made anew for each connection, as AWS IoT wants it without a client certificate.
    pub fn signer(mut self, signer: Arc<dyn Signer>) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Connects through a proxy.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// Keeps the rules of a broker, [`profile::AWS`] for example.
    pub fn profile(mut self, profile: &'static Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Connects only while there is something to send, and leaves after so much time without messages.
    pub fn on_demand(mut self, idle: Duration) -> Self {
        self.presence = Wishes { schedule: MqttSchedule::Never, on_demand: true, idle, ..self.presence };
        self
    }

    /// Connects only in the minutes of a schedule; `on_demand` and its time still hold outside of them.
    pub fn schedule(mut self, schedule: MqttSchedule) -> Self {
        self.presence.schedule = schedule;
        self
    }

    /// Has the broker forget us with each connection: for clients that come once and never again.
    pub fn clean_session(mut self, clean: bool) -> Self {
        self.clean_session = clean;
        self
    }

    /// Logs in with user name and password.
    pub fn login(mut self, username: impl Into<String>, password: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self.password = Secret::new(password);
        self
    }

    /// Silence after which to ping; zero: never, and then a dead connection is found only by the kernel. At most 65,535 s.
    pub fn keep_alive(mut self, interval: Duration) -> Self {
        self.keep_alive = interval;
        self
    }

    /// How long connecting may take, from the name look-up to the broker's acceptance.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Messages that wait for their acknowledgement at a time.
    pub fn inflight(mut self, messages: u16) -> Self {
        self.inflight = messages;
        self
    }

    /// Messages of each priority that wait to be sent; with the default policy, publishing waits above it.
    pub fn queue(mut self, messages: usize) -> Self {
        self.queue_limits.iter_mut().for_each(|limits| limits.count = messages);
        self
    }

    /// Bounds and policy of the messages of one priority that wait.
    pub fn queue_limits(mut self, priority: Priority, limits: QueueLimits) -> Self {
        let place = Priority::ALL.into_iter().zip(&mut self.queue_limits).find(|(known, _)| *known == priority);
        if let Some((_, place)) = place {
            *place = limits;
        }
        self
    }

    /// The last will: a message that the broker publishes when the connection ends without a goodbye.
    pub fn will(mut self, message: Message) -> Self {
        self.will = Some(message);
        self
    }

    /// Keeps what is durable in this file, so that it survives a kill or a reboot: messages that ask for it, all of QoS 2,
    /// and which messages of QoS 2 were received. One client has it at a time.
    pub fn outbox(mut self, file: impl Into<PathBuf>) -> Self {
        self.outbox = Some(file.into());
        self
    }

    /// Bytes of one packet, in either direction.
    pub fn max_packet(mut self, bytes: usize) -> Self {
        self.max_packet = bytes;
        self
    }

    /// Waits between attempts: random ones from `base`, longer each time, up to `cap`. For tests and for brokers of one's own.
    pub fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        self.backoff = (base, cap);
        self
    }

    /// The broker as log lines name it.
    pub(super) fn broker(&self) -> String {
        let (host, port, path) = (self.bare_host().to_owned(), self.port, self.path.clone());
        MqttUrl { tls: self.tls.is_some(), host, port, path }.to_string()
    }

    /// The value of the `Host` field of the upgrade: without the port when it is that of the scheme.
    pub(super) fn authority(&self) -> String {
        let host = match self.bare_host() {
            address if address.contains(':') => format!("[{address}]"),
            host => host.to_owned(),
        };
        match (self.tls.is_some(), self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    fn bare_host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host)
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            window: self.inflight.min(self.profile.window),
            queue: self.queue_limits,
            max_packet: self.max_packet,
            keep_alive: self.wire_keep_alive().map_or(self.keep_alive, |seconds| Duration::from_secs(seconds.into())),
        }
    }

    /// The CONNECT that these options make. The session is to survive the connection, unless it is that of a passer-by.
    pub(super) fn connect_packet(&self) -> Result<Connect, Error> {
        let wrong = |reason: &str| Err(Error::Options(reason.into()));
        let username = self.username.as_deref().unwrap_or_default();
        let password = self.password.expose();
        if self.host.is_empty() {
            return wrong("there is no broker to connect to: set mqtt.endpoint");
        }
        if self.client_id.is_empty() {
            return wrong("the client id is empty: set mqtt.clientId");
        }
        if self.client_id.len() > self.profile.max_client_id {
            let Profile { name, max_client_id, .. } = self.profile;
            return Err(Error::Profile { name, rule: format!("takes client ids of at most {max_client_id} bytes") });
        }
        if username.is_empty() && !password.is_empty() {
            return wrong("MQTT takes a password only with a user name: set mqtt.username");
        }
        if [&self.client_id, username, password].iter().any(|text| text.len() > MAX_LENGTH || text.contains('\0')) {
            return wrong("client id, user name and password may have 65535 bytes each, and no NUL");
        }
        let Some(keep_alive) = self.wire_keep_alive() else {
            return wrong("the keep-alive interval may be 65535 s at most (mqtt.keepAlive)");
        };
        let mut connect = Connect::new(&self.client_id);
        connect.clean_session = self.clean_session;
        connect.keep_alive = keep_alive;
        connect.login = (!username.is_empty()).then(|| Login::new(username, password));
        if let Some(will) = &self.will {
            will.check(self.max_packet)?;
            self.profile.check(will)?;
            let Message { topic, payload, qos, retain } = will;
            connect.last_will = Some(LastWill::new(topic, payload.to_vec(), (*qos).into(), *retain));
        }
        Ok(connect)
    }

    /// The interval in whole seconds, as CONNECT has it.
    fn wire_keep_alive(&self) -> Option<u16> {
        let seconds = self.keep_alive.as_secs() + u64::from(self.keep_alive.subsec_nanos() > 0);
        u16::try_from(seconds).ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_port_and_tls() {
        for (url, host, port) in [
            ("mqtt://localhost", "localhost", 1883),
            ("mqtt://10.0.0.1:1884/", "10.0.0.1", 1884),
            ("mqtt://[::1]", "::1", 1883),
            ("mqtt://[::1]:99", "::1", 99),
        ] {
            let options = Options::from_url(url, "id").unwrap();
            assert_eq!((options.host.as_str(), options.port, options.tls.is_some()), (host, port, false), "{url}");
        }
        for url in ["", "localhost", "http://x", "mqtt://", "mqtt://x:", "mqtt://x:70000", "mqtt://u:p@x", "mqtt://x/y"]
        {
            assert!(matches!(Options::from_url(url, "id"), Err(Error::Options(_))), "{url}");
        }
    }

    #[test]
    fn options_that_no_broker_could_take_are_refused_in_words() {
        let good = Options::new("h", 1, "id");
        assert!(good.connect_packet().is_ok());
        let cases = [
            (Options::new("", 1, "id"), "mqtt.endpoint"),
            (Options::new("h", 1, ""), "mqtt.clientId"),
            (good.clone().login("", "secret"), "mqtt.username"),
            (good.clone().login("u", "x".repeat(70_000)), "65535"),
            (good.clone().keep_alive(Duration::from_secs(65_536)), "mqtt.keepAlive"),
        ];
        for (options, word) in cases {
            let text = options.connect_packet().unwrap_err().to_string();
            assert!(text.contains(word), "{text}");
            assert!(!text.contains("secret"));
        }
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let mut section = config::Mqtt { certificate: Some("/c.pem".into()), ..Default::default() };
        section.url = config::MqttUrl { tls: true, host: "h".into(), port: 8883, path: None };
        let error = Options::from_config(&section, "id").unwrap_err();
        assert!(error.to_string().contains("mqtt.key"), "{error}");
    }

    #[test]
    fn the_password_does_not_show_in_debug_output() {
        assert!(!format!("{:?}", Options::new("h", 1, "id").login("u", "hunter2")).contains("hunter2"));
    }
}
