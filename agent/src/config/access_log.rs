//! `web.accessLog`: who asked for what, and what came of it.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;

use super::node::quote;
use super::section::{Section, text};
use super::units::FOREVER;

/// Where the lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessTarget {
    /// `off`: nowhere.
    #[default]
    Off,
    /// `stdout`: to standard output.
    Stdout,
    /// `syslog`: to the log of the operating system.
    Syslog,
    /// `database`: into a table of the database.
    Database,
    /// Into this file.
    File(PathBuf),
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessFormat {
    /// The Common Log Format.
    Common,
    /// The same with `Referer` and `User-Agent`.
    #[default]
    Combined,
    /// A JSON object a line.
    Json,
}

/// `web.accessLog`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// `path`: a file, or one of `off`, `stdout`, `syslog`, `database`.
    pub target: AccessTarget,
    /// `format`
    pub format: AccessFormat,
    /// `rotate.size`: bytes of a file; a fuller one is set aside as `FILE.1`.
    pub size: u64,
    /// `rotate.count`: files that are kept beside the one that is written.
    pub count: usize,
    /// `rows`: lines that the database keeps.
    pub rows: u64,
    /// `age`: how long the database keeps a line.
    pub age: Duration,
    /// `query`: the query strings of requests and referrers are in it, without the values of secrets.
    pub query: bool,
    /// `exclude`: paths that are left out; with a `/` or `*` at the end all that begin so.
    pub exclude: Vec<String>,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            target: AccessTarget::Off,
            format: AccessFormat::Combined,
            size: 1 << 20,
            count: 5,
            rows: 10_000,
            age: Duration::from_secs(30 * 24 * 60 * 60),
            query: true,
            exclude: Vec::new(),
        }
    }
}

const FORMATS: [(&str, AccessFormat); 3] =
    [("common", AccessFormat::Common), ("combined", AccessFormat::Combined), ("json", AccessFormat::Json)];

impl AccessLog {
    pub(super) fn read(s: &Section) -> Self {
        let (d, rotate) = (Self::default(), s.section("rotate"));
        let show = |target: &AccessTarget| match target {
            AccessTarget::Off => Json::from("off"),
            AccessTarget::Stdout => Json::from("stdout"),
            AccessTarget::Syslog => Json::from("syslog"),
            AccessTarget::Database => Json::from("database"),
            AccessTarget::File(path) => Json::from(path.to_string_lossy()),
        };
        let target = s.value("path", d.target, show, |node| {
            Ok(match text(node)?.as_str() {
                "off" => AccessTarget::Off,
                "stdout" => AccessTarget::Stdout,
                "syslog" => AccessTarget::Syslog,
                "database" => AccessTarget::Database,
                path if path.contains('/') => AccessTarget::File(s.resolve(path, node)?),
                other => {
                    let expected = "expected 'off', 'stdout', 'syslog', 'database' or a path as '@state/access.log'";
                    return Err(format!("{expected}, found {}", quote(other)));
                }
            })
        });
        for (wanted, feature, built) in [
            (AccessTarget::Syslog, "logs", cfg!(feature = "logs")),
            (AccessTarget::Database, "db", cfg!(feature = "db")),
        ] {
            if target == wanted && !built {
                s.problem("path", format!("this build is without the Cargo feature `{feature}`"));
            }
        }
        Self {
            target,
            format: s.choice("format", &FORMATS, d.format),
            size: rotate.size("size", 4096..=1 << 40, d.size),
            count: rotate.count("count", 0..=1000, d.count),
            rows: s.count("rows", 1..=10_000_000, d.rows),
            age: s.duration("age", Duration::from_secs(60)..=FOREVER, d.age),
            query: s.flag("query", d.query),
            exclude: s.list(
                "exclude",
                d.exclude,
                |path| Json::from(path.as_str()),
                |node, _| {
                    let path = text(node)?;
                    match path.starts_with('/') {
                        true => Ok(path),
                        false => Err(format!("expected a path as '/health', found {}", quote(&path))),
                    }
                },
            ),
        }
    }
}
