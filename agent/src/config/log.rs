//! `log`: where the agent's own lines go.

use ::log::LevelFilter;
use serde_json::Value as Json;

use super::node::Value;
use super::section::{Section, choose};

/// Where log lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output, with `<N>` priorities when systemd reads it.
    #[default]
    Stdout,
    /// The log of the operating system.
    Syslog,
}

/// How a line on standard output looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Priorities for systemd when `JOURNAL_STREAM` is set, time stamps otherwise.
    #[default]
    Auto,
    /// With a time stamp (RFC 3339, UTC).
    Plain,
}

/// The agent's log.
#[derive(Clone, Debug)]
pub struct Log {
    /// `log.path`: `stdout` or `syslog`.
    pub target: LogTarget,
    /// `log.format`: `auto` or `plain`.
    pub format: LogFormat,
    /// `log.level`: `error`, `warn`, `info`, `debug` (`trace` in debug builds only).
    pub level: LevelFilter,
    /// `log.rooms`: levels of single rooms, as `{mqtt: 'debug'}`.
    pub rooms: Vec<(String, LevelFilter)>,
    /// `log.queue`: lines that wait for the OS log at most; the oldest are dropped and counted beyond it.
    pub queue: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            target: LogTarget::Stdout,
            format: LogFormat::Auto,
            level: LevelFilter::Info,
            rooms: Vec::new(),
            queue: 1000,
        }
    }
}

/// The rooms of the agent, each of which can have its own level.
const ROOMS: [&str; 15] = [
    "agent", "api", "aws", "config", "db", "device", "fetch", "http1", "logs", "mqtt", "net", "sync", "system",
    "update", "web",
];

const TARGETS: [(&str, LogTarget); 2] = [("stdout", LogTarget::Stdout), ("syslog", LogTarget::Syslog)];

const FORMATS: [(&str, LogFormat); 2] = [("auto", LogFormat::Auto), ("plain", LogFormat::Plain)];

const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];

impl Log {
    pub(super) fn read(s: &Section) -> Self {
        let d = Self::default();
        // A release build leaves `trace` out: it would be accepted and show nothing.
        let levels = if cfg!(debug_assertions) { &LEVELS[..] } else { &LEVELS[..4] };
        let log = Self {
            target: read_or_pass(s, "path", &TARGETS, |path| {
                path == "default" || path == "cloud" || path.contains(['.', '/'])
            }),
            format: read_or_pass(s, "format", &FORMATS, |format| format.contains('%')),
            level: s.choice("level", levels, d.level),
            rooms: s.map(
                "rooms",
                |level: &LevelFilter| Json::from(level.as_str().to_ascii_lowercase()),
                |room, node| match room {
                    room if ROOMS.contains(&room) => choose(node, levels),
                    _ => Err(format!("is no room of the agent, expected one of {}", ROOMS.join(" "))),
                },
            ),
            queue: s.count("queue", 1..=100_000, d.queue),
        };
        if log.target == LogTarget::Syslog && !cfg!(feature = "logs") {
            s.problem("path", "this build is without the Cargo feature `logs`, expected 'stdout'");
        }
        log
    }
}

/// Reads a choice; a text that is `foreign`, of the files of another agent, is passed over as without effect.
fn read_or_pass<T>(s: &Section, key: &str, names: &[(&str, T)], foreign: fn(&str) -> bool) -> T
where
    T: Copy + Default + PartialEq,
{
    let show =
        |value: &T| names.iter().find(|(_, named)| named == value).map_or(Json::Null, |(name, _)| (*name).into());
    s.value(key, T::default(), show, |node| match &node.value {
        Value::Text(text) if foreign(text) => {
            s.no_effect(key);
            Ok(T::default())
        }
        _ => choose(node, names),
    })
}
