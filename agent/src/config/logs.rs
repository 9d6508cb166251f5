//! `logs`: the logs of the operating system and where they are sent.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;

use super::LogSource;
use super::listen::{is_host, split_port};
use super::node::quote;
use super::section::{Section, text};
use super::tls::pair;

/// How a sink is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// `syslog+tls`: RFC 5424 over TLS (RFC 5425), port 6514.
    SyslogTls,
    /// `syslog+tcp`: RFC 5424 over TCP with octet counting (RFC 6587), port 601.
    SyslogTcp,
    /// `syslog+udp`: RFC 3164 over UDP, port 514. Nobody acknowledges anything.
    SyslogUdp,
}

/// `logs.sink`, as `syslog+tls://logs.example.com:6514`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkUrl {
    /// How it is reached.
    pub kind: SinkKind,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// `logs.spool`: where records wait for the sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsSpool {
    /// `size`: bytes of the records that wait.
    pub size: u64,
    /// `full`: `'drop'` makes room by dropping the oldest, `'wait'` (the default) leaves the rest with the sources.
    pub drop: bool,
}

/// `logs`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    /// `sink`: where to; nothing: nowhere.
    pub sink: Option<SinkUrl>,
    /// `authority`: PEM file of the roots that sign the sink's certificate; nothing: the system's roots.
    pub authority: Option<PathBuf>,
    /// `certificate`: PEM file of the certificate that is shown to the sink.
    pub certificate: Option<PathBuf>,
    /// `key`: PEM file of its key.
    pub key: Option<PathBuf>,
    /// `host`: the name of the device in the messages; nothing: its id.
    pub host: Option<String>,
    /// `enterprise`: the private enterprise number under which ids and units stand in the messages (RFC 5424 §7.2.2).
    pub enterprise: u32,
    /// `timeout`: how long connecting may take, and how long the sink may acknowledge nothing.
    pub timeout: Duration,
    /// `linger`: how long a record waits for others, so that the flash is not written for each.
    pub linger: Duration,
    /// `message`: bytes of a message's text; what is longer is cut.
    pub message: usize,
    /// `resend`: bytes that are sent again after a connection broke, because the sink's kernel may have had them unread.
    pub resend: usize,
    /// `spool`
    pub spool: LogsSpool,
    /// `sources`: what is read; without any, what the system has.
    pub sources: Vec<LogSource>,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            sink: None,
            authority: None,
            certificate: None,
            key: None,
            host: None,
            // Reserved for examples (RFC 5612): makers who have a number say it.
            enterprise: 32_473,
            timeout: Duration::from_secs(30),
            linger: Duration::from_secs(1),
            message: 64 << 10,
            resend: 256 << 10,
            spool: LogsSpool { size: 16 << 20, drop: false },
            sources: Vec::new(),
        }
    }
}

const FULL: [(&str, bool); 2] = [("wait", false), ("drop", true)];

const KINDS: [(&str, SinkKind, u16); 3] = [
    ("syslog+tls", SinkKind::SyslogTls, 6514),
    ("syslog+tcp", SinkKind::SyslogTcp, 601),
    ("syslog+udp", SinkKind::SyslogUdp, 514),
];

impl Logs {
    pub(super) fn read(s: &Section) -> Self {
        let d = Self::default();
        let (certificate, key) = pair(s);
        let spool = s.section("spool");
        let show = |url: &Option<SinkUrl>| url.as_ref().map_or(Json::Null, |url| Json::from(url.to_string()));
        let logs = Self {
            sink: s.value("sink", None, show, |node| sink(&text(node)?)),
            authority: s.file("authority"),
            certificate,
            key,
            host: s.value(
                "host",
                None,
                |host: &Option<String>| Json::from(host.clone()),
                |node| match text(node)? {
                    host if host.is_empty() => Ok(None),
                    host if host.len() <= 255 && host.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Some(host)),
                    host => Err(format!("expected a name of at most 255 printable characters, found {}", quote(&host))),
                },
            ),
            enterprise: s.count("enterprise", 1..=u64::from(u32::MAX), d.enterprise),
            timeout: s.duration("timeout", Duration::from_secs(1)..=Duration::from_secs(60 * 60), d.timeout),
            linger: s.duration("linger", Duration::ZERO..=Duration::from_secs(60), d.linger),
            // What every receiver takes (RFC 5424 §6.1) is the least.
            message: s.size("message", 480..=1 << 20, d.message),
            resend: s.size("resend", 0..=16 << 20, d.resend),
            spool: LogsSpool {
                size: spool.size("size", 1 << 20..=1 << 34, d.spool.size),
                drop: spool.choice("full", &FULL, d.spool.drop),
            },
            sources: LogSource::read_all(s),
        };
        if logs.resend as u64 > logs.spool.size / 2 {
            s.problem("resend", "is more than half of logs.spool.size, in which it is kept; expected less");
        }
        let uses_tls = logs.sink.as_ref().is_none_or(|sink| sink.kind == SinkKind::SyslogTls);
        if let (false, Some(file)) = (uses_tls, ["authority", "certificate"].into_iter().find(|file| s.has(file))) {
            s.problem(file, "goes with 'syslog+tls://…' only, expected that as logs.sink");
        }
        logs
    }
}

impl fmt::Display for SinkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = KINDS.iter().find(|(_, kind, _)| *kind == self.kind).map_or("", |(scheme, ..)| scheme);
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

fn sink(text: &str) -> Result<Option<SinkUrl>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || {
        let expected = "expected 'syslog+tls://HOST:6514', 'syslog+tcp://HOST:601' or 'syslog+udp://HOST:514'";
        format!("{expected}, found {}", quote(text))
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let (_, kind, default) = KINDS.iter().find(|(name, ..)| *name == scheme).ok_or_else(wrong)?;
    let (host, port) = split_port(rest.strip_suffix('/').unwrap_or(rest)).ok_or_else(wrong)?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if !inner.map_or(is_host(host), |address| address.parse::<Ipv6Addr>().is_ok()) {
        return Err(wrong());
    }
    Ok(Some(SinkUrl { kind: *kind, host: inner.unwrap_or(host).to_owned(), port: port.unwrap_or(*default) }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::section::Reader;
    use super::super::{Source, json5};
    use super::*;

    fn read(text: &str) -> (Logs, String) {
        let tree = json5::parse(text, &Source::Default).unwrap();
        let reader = Reader::new("/".as_ref());
        let logs = Logs::read(&reader.root(&tree));
        (logs, reader.finish().1.to_string())
    }

    #[test]
    fn a_sink_has_a_kind_a_host_and_perhaps_a_port() {
        for (text, shown) in [
            ("syslog+tls://logs.example.com", "syslog+tls://logs.example.com:6514"),
            ("syslog+tcp://10.0.0.1:1514/", "syslog+tcp://10.0.0.1:1514"),
            ("syslog+udp://[::1]", "syslog+udp://[::1]:514"),
        ] {
            assert_eq!(sink(text).unwrap().unwrap().to_string(), shown);
        }
        for text in ["logs.example.com", "http://h", "syslog+tls://", "syslog+tcp://a b", "syslog+udp://[::1"] {
            assert!(sink(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_said() {
        let (logs, problems) = read("{sink: 'syslog+tcp://h', spool: {size: '1MB', full: 'drop'}}");
        assert_eq!((problems.as_str(), logs.spool.drop), ("", true));
        assert!(read("{resend: '2MB', spool: {size: '3MB'}}").1.contains("resend: is more than half"));
        assert!(read("{sink: 'syslog+tcp://h', authority: '/dev/null'}").1.contains("syslog+tls"));
        assert!(read("{spool: {full: 'stop'}}").1.contains("'wait' or 'drop'"));
    }
}
