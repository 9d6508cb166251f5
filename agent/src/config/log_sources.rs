//! `logs.sources`: the logs of the operating system that are read, and what of them.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::node::{Node, Value, quote};
use super::section::{Section, text};
use super::units;

/// Entries of `logs.sources` at most.
const MOST_SOURCES: usize = 16;
/// Items of a list in an entry at most.
const MOST_ITEMS: usize = 64;

/// One of `logs.sources`. Without any, the agent reads what the system has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSource {
    /// `name`: what its position is kept under; `journal`, `kernel`, or `files:` with the paths. A source that is named anew
    /// begins anew.
    pub name: String,
    /// `journal`, `files` or `kernel`: what is read.
    pub kind: LogSourceKind,
    /// `maxSize`: bytes of a record's text at most; what is longer is cut, with a mark.
    pub max_size: usize,
    /// `filter`: which records are passed on.
    pub filter: LogFilter,
}

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogSourceKind {
    /// systemd's journal.
    Journal(JournalSource),
    /// Files that programs append lines to.
    Files(FilesSource),
    /// The kernel's own buffer, `/dev/kmsg`.
    Kernel(KernelSource),
}

/// Where a source begins that was never read before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogStart {
    /// With what is written from now on.
    #[default]
    End,
    /// With the start of the system.
    Boot,
    /// With all that is there.
    Start,
}

/// `journal`: systemd's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSource {
    /// `journal.position`: `end`, `boot` or `start`.
    pub start: LogStart,
    /// `journal.kernel`: with the kernel's lines.
    pub kernel: bool,
    /// `journal.program`: the program that reads it.
    pub program: PathBuf,
}

/// `files`: paths, with `*` and `?` in their last part, and how their lines are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesSource {
    /// `files` (or `path`): absolute.
    pub paths: Vec<PathBuf>,
    /// `exclude`: names of files that are left out, with `*` and `?`.
    pub exclude: Vec<String>,
    /// `position`: `end` or `start`, for files that are there when the source is first opened; later ones are read whole.
    pub start: LogStart,
    /// `maxFiles`: files that are read at most.
    pub max_files: usize,
    /// `continuation`: a line that begins with one of these characters belongs to the one before it. Empty: none does.
    pub continuation: String,
    /// `begins`: when it is said, a line that does not begin so belongs to the one before it.
    pub begins: Option<LineBegin>,
    /// `maxLines`: lines that are joined at most.
    pub max_lines: usize,
    /// `linger`: how long the last line waits for one that belongs to it.
    pub linger: Duration,
}

/// How the first line of a record begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineBegin {
    /// `time`: with a time as RFC 3164, RFC 3339 or ISO 8601 write it, also in brackets.
    Time,
    /// With this text.
    Prefix(String),
}

/// `kernel`: `/dev/kmsg`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSource {
    /// `kernel.position`: `boot` or `end`. By default `boot`: the buffer holds little.
    pub start: LogStart,
    /// `kernel.device`: the device.
    pub device: PathBuf,
}

/// `filter`: which records are passed on. Each list is of names with `*` and `?`, or of texts; an empty one allows all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    /// `filter.severity`: the least severe that is passed on, of RFC 5424: 0 to 7.
    pub severity: u8,
    /// `filter.units`: units of the service manager, as `ssh.service`.
    pub units: Vec<String>,
    /// `filter.identifiers`: names that programs give themselves.
    pub identifiers: Vec<String>,
    /// `filter.contains`: the text contains one of these.
    pub contains: Vec<String>,
    /// `filter.exclude.units`
    pub exclude_units: Vec<String>,
    /// `filter.exclude.identifiers`
    pub exclude_identifiers: Vec<String>,
    /// `filter.exclude.contains`
    pub exclude_contains: Vec<String>,
    /// `filter.own`: with the agent's own lines, but for those about the forwarding itself, which are never passed on.
    pub own: bool,
}

const STARTS: [(&str, LogStart); 3] = [("end", LogStart::End), ("boot", LogStart::Boot), ("start", LogStart::Start)];

/// Names of severities, RFC 5424's first; the rest is how others write them.
const SEVERITIES: [(&str, u8); 12] = [
    ("emerg", 0),
    ("alert", 1),
    ("crit", 2),
    ("err", 3),
    ("warning", 4),
    ("notice", 5),
    ("info", 6),
    ("debug", 7),
    ("emergency", 0),
    ("critical", 2),
    ("error", 3),
    ("warn", 4),
];

impl Default for JournalSource {
    fn default() -> Self {
        Self { start: LogStart::End, kernel: true, program: "/usr/bin/journalctl".into() }
    }
}

impl Default for FilesSource {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            exclude: ["*.gz", "*.xz", "*.bz2", "*.zst", "wtmp*", "btmp*", "lastlog*"].map(str::to_owned).into(),
            start: LogStart::End,
            max_files: 32,
            continuation: " \t".to_owned(),
            begins: None,
            max_lines: 200,
            linger: Duration::from_secs(1),
        }
    }
}

impl Default for KernelSource {
    fn default() -> Self {
        Self { start: LogStart::Boot, device: "/dev/kmsg".into() }
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self {
            severity: 7,
            units: Vec::new(),
            identifiers: Vec::new(),
            contains: Vec::new(),
            exclude_units: Vec::new(),
            exclude_identifiers: Vec::new(),
            exclude_contains: Vec::new(),
            own: true,
        }
    }
}

impl LogSource {
    /// A source of this kind with all defaults.
    pub fn new(kind: LogSourceKind) -> Self {
        Self { name: kind.name(), kind, max_size: 16 * 1024, filter: LogFilter::default() }
    }

    /// The key `sources` of the section `logs`.
    pub(super) fn read_all(logs: &Section) -> Vec<Self> {
        let all = logs.list("sources", Vec::new(), Self::show, |node, item| match node.value {
            Value::Object(_) => Ok(Self::read(node, &item)),
            _ => Err(format!("expected an object as {{journal: {{}}}}, found {}", node.describe())),
        });
        let all: Vec<_> = all.into_iter().flatten().collect();
        if all.len() > MOST_SOURCES {
            logs.problem("sources", format!("has {} entries, expected {MOST_SOURCES} at most", all.len()));
        }
        for (index, source) in all.iter().enumerate() {
            if all.iter().take(index).any(|other| other.name == source.name) {
                let name = quote(&source.name);
                logs.problem(
                    "sources",
                    format!("has two entries of the name {name}, expected a `name` for one of them"),
                );
            }
        }
        let has_kernel = all.iter().any(|source| matches!(source.kind, LogSourceKind::Kernel(_)));
        let journal_has_it = all.iter().any(|source| matches!(&source.kind, LogSourceKind::Journal(j) if j.kernel));
        if has_kernel && journal_has_it {
            logs.problem(
                "sources",
                "would pass the kernel's lines on twice, expected journal: {kernel: false} beside the kernel's own source",
            );
        }
        all
    }

    /// Nothing for one that is switched off or wrong.
    fn read(node: &Node, s: &Section) -> Option<Self> {
        let enabled = s.flag("enable", true);
        let kinds = ["journal", "files", "path", "kernel"];
        let said: Vec<_> = kinds.into_iter().filter(|kind| s.has(kind)).collect();
        let kind = match said[..] {
            ["journal"] => LogSourceKind::Journal(JournalSource::read(&s.section("journal"))),
            ["kernel"] => LogSourceKind::Kernel(KernelSource::read(&s.section("kernel"))),
            [key @ ("files" | "path")] => LogSourceKind::Files(FilesSource::read(s, key)),
            _ => {
                let found = if said.is_empty() { "none".to_owned() } else { said.join(" and ") };
                s.problem(
                    said.first().unwrap_or(&"journal"),
                    format!("expected one of journal, files or kernel, found {found}"),
                );
                return None;
            }
        };
        let d = Self::new(kind);
        let source = Self {
            name: s.value(
                "name",
                d.name,
                |name| Json::from(name.as_str()),
                |node| match text(node)? {
                    name if name.is_empty() || name.len() > 200 => Err("expected a name of 1 to 200 bytes".to_owned()),
                    name => Ok(name),
                },
            ),
            max_size: s.size("maxSize", 256..=256 * 1024, d.max_size),
            filter: LogFilter::read(&s.section("filter")),
            kind: d.kind,
        };
        if !enabled {
            s.left_out(node, "is switched off by enable: false");
        }
        enabled.then_some(source)
    }

    fn show(this: &Option<Self>) -> Json {
        let Some(this) = this else { return json!({"enable": false}) };
        let mut shown = match &this.kind {
            LogSourceKind::Journal(journal) => json!({"journal": {
                "position": journal.start.name(),
                "kernel": journal.kernel,
                "program": journal.program.to_string_lossy(),
            }}),
            LogSourceKind::Files(files) => files.show(),
            LogSourceKind::Kernel(kernel) => json!({"kernel": {
                "position": kernel.start.name(),
                "device": kernel.device.to_string_lossy(),
            }}),
        };
        shown["name"] = Json::from(this.name.as_str());
        shown["maxSize"] = Json::from(units::show_size(this.max_size as u64));
        shown["filter"] = this.filter.show();
        shown
    }
}

impl LogSourceKind {
    fn name(&self) -> String {
        match self {
            Self::Journal(_) => "journal".to_owned(),
            Self::Kernel(_) => "kernel".to_owned(),
            Self::Files(files) => {
                let paths: Vec<_> = files.paths.iter().map(|path| path.to_string_lossy()).collect();
                format!("files:{}", paths.join(","))
            }
        }
    }
}

impl LogStart {
    fn name(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Boot => "boot",
            Self::Start => "start",
        }
    }
}

impl JournalSource {
    fn read(s: &Section) -> Self {
        let d = Self::default();
        Self {
            start: s.choice("position", &STARTS, d.start),
            kernel: s.flag("kernel", d.kernel),
            program: s.path("program", &d.program),
        }
    }
}

impl KernelSource {
    fn read(s: &Section) -> Self {
        let d = Self::default();
        Self { start: s.choice("position", &STARTS[..2], d.start), device: s.path("device", &d.device) }
    }
}

impl FilesSource {
    /// The paths are in `key`, the rest is beside it.
    fn read(s: &Section, key: &str) -> Self {
        let d = Self::default();
        let show = |path: &PathBuf| Json::from(path.to_string_lossy());
        let paths = match key {
            "path" => s.value(
                key,
                Vec::new(),
                |paths: &Vec<PathBuf>| paths.iter().map(show).collect(),
                |node| Ok(vec![pattern(s, node)?]),
            ),
            _ => s.list(key, Vec::new(), show, |node, _| pattern(s, node)),
        };
        if paths.is_empty() || paths.len() > MOST_ITEMS {
            s.problem(key, format!("expected 1 to {MOST_ITEMS} paths as '/var/log/*.log', found {}", paths.len()));
        }
        let exclude = match s.has("exclude") {
            true => texts(s, "exclude"),
            false => d.exclude,
        };
        let begins = s.value("begins", None, show_begins, |node| match text(node)?.as_str() {
            "" => Ok(None),
            "time" => Ok(Some(LineBegin::Time)),
            prefix if prefix.len() <= 100 => Ok(Some(LineBegin::Prefix(prefix.to_owned()))),
            _ => Err("expected 'time' or a text of 100 bytes at most".to_owned()),
        });
        Self {
            paths,
            exclude,
            start: s.choice("position", &[("end", LogStart::End), ("start", LogStart::Start)], d.start),
            max_files: s.count("maxFiles", 1..=256, d.max_files),
            continuation: s.text("continuation", &d.continuation),
            begins,
            max_lines: s.count("maxLines", 1..=10_000, d.max_lines),
            linger: s.duration("linger", Duration::ZERO..=Duration::from_secs(3600), d.linger),
        }
    }

    fn show(&self) -> Json {
        json!({
            "files": self.paths.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
            "exclude": self.exclude,
            "position": self.start.name(),
            "maxFiles": self.max_files,
            "continuation": self.continuation,
            "begins": show_begins(&self.begins),
            "maxLines": self.max_lines,
            "linger": units::show_duration(self.linger),
        })
    }
}

impl LogFilter {
    fn read(s: &Section) -> Self {
        let exclude = s.section("exclude");
        Self {
            severity: s.choice("severity", &SEVERITIES, 7),
            units: texts(s, "units"),
            identifiers: texts(s, "identifiers"),
            contains: texts(s, "contains"),
            own: s.flag("own", true),
            exclude_units: texts(&exclude, "units"),
            exclude_identifiers: texts(&exclude, "identifiers"),
            exclude_contains: texts(&exclude, "contains"),
        }
    }

    fn show(&self) -> Json {
        json!({
            "severity": SEVERITIES.iter().find(|(_, value)| *value == self.severity).map(|(name, _)| *name),
            "units": self.units,
            "identifiers": self.identifiers,
            "contains": self.contains,
            "own": self.own,
            "exclude": {
                "units": self.exclude_units,
                "identifiers": self.exclude_identifiers,
                "contains": self.exclude_contains,
            },
        })
    }
}

fn show_begins(begins: &Option<LineBegin>) -> Json {
    match begins {
        None => Json::from(""),
        Some(LineBegin::Time) => Json::from("time"),
        Some(LineBegin::Prefix(prefix)) => Json::from(prefix.as_str()),
    }
}

/// A path whose last part may have `*` and `?`.
fn pattern(s: &Section, node: &Node) -> Result<PathBuf, String> {
    let path = s.resolve(&text(node)?, node)?;
    let directory = path.parent().map(|parent| parent.to_string_lossy().into_owned()).unwrap_or_default();
    match directory.contains(['*', '?']) {
        true => Err(format!(
            "{} has `*` or `?` in a directory, expected them in the file's name",
            quote(&path.to_string_lossy())
        )),
        false if path.file_name().is_none() => Err(format!("{} names no file", quote(&path.to_string_lossy()))),
        false => Ok(path),
    }
}

/// A list of texts, none of them empty.
fn texts(s: &Section, key: &str) -> Vec<String> {
    let all = s.texts(key, |text| match text.is_empty() || text.len() > 200 {
        true => Err("expected a text of 1 to 200 bytes".to_owned()),
        false => Ok(text.to_owned()),
    });
    if all.len() > MOST_ITEMS {
        s.problem(key, format!("has {} items, expected {MOST_ITEMS} at most", all.len()));
    }
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::section::Reader;
    use super::super::{Source, json5};
    use super::*;

    fn read(text: &str) -> (Vec<LogSource>, String) {
        let tree = json5::parse(text, &Source::Default).unwrap();
        let reader = Reader::new("/".as_ref());
        let sources = LogSource::read_all(&reader.root(&tree));
        let (_, problems, _) = reader.finish();
        (sources, problems.to_string())
    }

    #[test]
    fn sources_are_read_with_their_defaults() {
        let (sources, problems) = read(
            "{sources: [{journal: {position: 'boot', kernel: false}, filter: {severity: 'warning', exclude: {units: 'a*,b'}}},
              {files: ['/var/log/*.log', '/var/log/messages'], begins: 'time', name: 'files'},
              {path: '/tmp/x', position: 'start', linger: '5 secs', continuation: ''},
              {kernel: {}}, {path: '/tmp/y', enable: false}]}",
        );
        assert_eq!(problems, "");
        let names: Vec<_> = sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["journal", "files", "files:/tmp/x", "kernel"]);
        assert_eq!(sources[0].filter.severity, 4);
        assert_eq!(sources[0].filter.exclude_units, ["a*", "b"]);
        let LogSourceKind::Files(files) = &sources[1].kind else { panic!() };
        assert_eq!((files.paths.len(), &files.begins), (2, &Some(LineBegin::Time)));
        let LogSourceKind::Files(files) = &sources[2].kind else { panic!() };
        assert_eq!((files.start, files.linger.as_secs(), files.continuation.as_str()), (LogStart::Start, 5, ""));
    }

    #[test]
    fn what_cannot_work_is_said_with_what_was_expected() {
        for (text, expected) in [
            ("{sources: [{}]}", "expected one of journal, files or kernel, found none"),
            ("{sources: [{journal: {}, kernel: {}}]}", "found journal and kernel"),
            ("{sources: [{journal: {}}, {kernel: {}}]}", "kernel's lines on twice"),
            ("{sources: [{journal: {}}, {journal: {}}]}", "two entries of the name `journal`"),
            ("{sources: [{files: []}]}", "expected 1 to 64 paths"),
            ("{sources: [{files: ['/var/*/x']}]}", "in a directory"),
            ("{sources: [{kernel: {position: 'start'}}]}", "expected 'end' or 'boot'"),
            ("{sources: ['journal']}", "expected an object"),
        ] {
            let (_, problems) = read(text);
            assert!(problems.contains(expected), "{text}: {problems}");
        }
    }
}
