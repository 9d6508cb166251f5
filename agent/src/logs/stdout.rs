//! Standard output as a sink: for systemd with priorities, for people with time stamps.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;

use super::Line;
use crate::config::LogFormat;
use crate::net;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `<6>mqtt: connected`; systemd takes the priority off and adds the time (sd-daemon(3)).
    Systemd,
    /// `2026-11-22T15:53:37.120Z info  mqtt: connected`
    Plain,
}

impl Style {
    /// What suits the reader of our standard output.
    pub fn of(format: LogFormat) -> Self {
        match format {
            LogFormat::Auto if journal_reads_us() => Self::Systemd,
            _ => Self::Plain,
        }
    }

    /// Writes one line.
    pub fn write(self, line: &Line, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Systemd => writeln!(out, "<{}>{line}", line.severity()),
            Self::Plain => {
                let level = line.level.as_str().to_ascii_lowercase();
                writeln!(out, "{} {level:5} {line}", net::iso8601(line.at))
            }
        }
    }
}

/// Whether standard output leads to the journal, and nobody wants it written otherwise.
#[cfg(feature = "logs")]
pub fn is_journal(format: LogFormat) -> bool {
    format == LogFormat::Auto && journal_reads_us()
}

/// Whether standard output leads to the journal: systemd names its device and inode in `JOURNAL_STREAM` (systemd.exec(5)).
fn journal_reads_us() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(ours) = std::fs::metadata("/proc/self/fd/1") else { return false };
    named == format!("{}:{}", ours.dev(), ours.ino())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use log::Level;

    use super::*;

    #[test]
    fn systemd_gets_priorities_and_people_get_the_time() {
        let line = Line { level: Level::Warn, room: "mqtt".into(), text: "gone".into(), at: 1_000 };
        let write = |style: Style| {
            let mut out = Vec::new();
            style.write(&line, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(write(Style::Systemd), "<4>mqtt: gone\n");
        assert_eq!(write(Style::Plain), "1970-01-01T00:00:01.000Z warn  mqtt: gone\n");
    }
}
