//! `log`: where the agent's own lines go.

use std::path::PathBuf;

use ::log::LevelFilter;
use serde_json::Value as Json;

use super::node::{Node, Value};
use super::section::{Section, choose};

/// Where log lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// The journal where standard output leads there, and standard output everywhere else.
    #[default]
    Auto,
    /// Standard output, with `<N>` priorities when systemd reads it.
    Stdout,
    /// The log of the operating system.
    Syslog,
    /// The journal of systemd, with fields of their own.
    Journal,
    /// This file.
    File(PathBuf),
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
    /// `log.path`: `auto`, `stdout`, `syslog`, `journal`, or a file.
    pub target: LogTarget,
    /// `log.format`: `auto` or `plain`.
    pub format: LogFormat,
    /// `log.level`: `error`, `warn`, `info`, `debug` (`trace` in debug builds only).
    pub level: LevelFilter,
    /// `log.rooms`: levels of single rooms, as `{mqtt: 'debug'}`.
    pub rooms: Vec<(String, LevelFilter)>,
    /// `log.queue`: lines that wait for the OS log at most; the oldest are dropped and counted beyond it.
    pub queue: usize,
    /// `log.rotate.size`: bytes of a file; a fuller one is set aside as `FILE.1`.
    pub size: u64,
    /// `log.rotate.count`: files that are kept beside the one that is written.
    pub count: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            target: LogTarget::Auto,
            format: LogFormat::Auto,
            level: LevelFilter::Info,
            rooms: Vec::new(),
            queue: 1000,
            size: 1 << 20,
            count: 5,
        }
    }
}

/// The rooms of the agent, each of which can have its own level.
const ROOMS: [&str; 15] = [
    "agent", "api", "aws", "config", "db", "device", "fetch", "http1", "logs", "mqtt", "net", "sync", "system",
    "update", "web",
];

const TARGETS: [(&str, LogTarget); 4] = [
    ("auto", LogTarget::Auto),
    ("stdout", LogTarget::Stdout),
    ("syslog", LogTarget::Syslog),
    ("journal", LogTarget::Journal),
];

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
        let (d, rotate) = (Self::default(), s.section("rotate"));
        // A release build leaves `trace` out: it would be accepted and show nothing.
        let levels = if cfg!(debug_assertions) { &LEVELS[..] } else { &LEVELS[..4] };
        let log = Self {
            target: target(s),
            format: format(s),
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
            size: rotate.size("size", 4096..=1 << 40, d.size),
            count: rotate.count("count", 0..=1000, d.count),
        };
        if matches!(log.target, LogTarget::Syslog | LogTarget::Journal) && !cfg!(feature = "logs") {
            s.problem("path", "this build is without the Cargo feature `logs`, expected 'stdout' or a file");
        }
        log
    }
}

/// A path has a `/` in it. A bare name, of the files of another agent, is passed over as without effect: it would lie in the
/// directory of the configuration.
fn target(s: &Section) -> LogTarget {
    let show = |target: &LogTarget| match target {
        LogTarget::File(path) => Json::from(path.to_string_lossy()),
        other => TARGETS.iter().find(|(_, named)| named == other).map_or(Json::Null, |(name, _)| (*name).into()),
    };
    s.value("path", LogTarget::default(), show, |node| {
        let Value::Text(text) = &node.value else { return Err(expected(node)) };
        match TARGETS.iter().find(|(name, _)| name == text) {
            Some((_, target)) => Ok(target.clone()),
            None if text.contains('/') => Ok(LogTarget::File(s.resolve(text, node)?)),
            None if text == "default" || text == "cloud" || text.contains('.') => {
                s.no_effect("path");
                Ok(LogTarget::default())
            }
            None => Err(expected(node)),
        }
    })
}

fn expected(node: &Node) -> String {
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| format!("'{name}'")).collect();
    format!("expected {} or a path as '@state/log/ioto.log', found {}", names.join(", "), node.describe())
}

/// A pattern, of the files of another agent, is passed over as without effect.
fn format(s: &Section) -> LogFormat {
    let show = |value: &LogFormat| {
        FORMATS.iter().find(|(_, named)| named == value).map_or(Json::Null, |(name, _)| (*name).into())
    };
    s.value("format", LogFormat::default(), show, |node| match &node.value {
        Value::Text(text) if text.contains('%') => {
            s.no_effect("format");
            Ok(LogFormat::default())
        }
        _ => choose(node, &FORMATS),
    })
}
