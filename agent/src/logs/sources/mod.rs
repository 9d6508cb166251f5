//! Where logs of the operating system are read: systemd's journal, files, the kernel's buffer.
//!
//! A source is opened behind a position and passes on batches, each with the position behind it. What it has to say itself
//! (lines that were lost, a place that is gone) comes as records among the others, of the identifier `ioto`.

mod child;
mod cursor;
mod export;
mod files;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod files_tests;
mod filter;
mod fingerprint;
mod journal;
mod kmsg;
mod multiline;
mod position;
mod prefix;
mod rotated;
mod tail;
mod text;
mod watch;
mod zone;

use std::path::Path;
use std::time::Duration;

use self::files::Files;
use self::journal::Journal;
use self::kmsg::Kernel;
pub use self::kmsg::Reserved;
use super::Source;
use crate::config::{FilesSource, JournalSource, KernelSource, LogSource, LogSourceKind};

/// What programs are called in records of our own.
const OWN: &str = "ioto";
/// How long more is waited for when something came.
const GATHER: Duration = Duration::from_millis(20);
/// A position alone is passed on so often at most.
const QUIET: Duration = Duration::from_secs(30);
/// Records in a batch, but for what was read together with the last of them.
const MOST_RECORDS: usize = 1000;
/// Bytes of texts in a batch, likewise.
const MOST_BYTES: usize = 256 * 1024;

/// systemd's journal is here.
const JOURNAL: &str = "/run/systemd/journal";
/// Where other log daemons write; those that are there are read.
const FILES: [&str; 2] = ["/var/log/messages", "/var/log/syslog"];

/// The sources that `settings` names; when it names none, what this system has: the journal, or the files of a log daemon, or
/// the kernel's buffer, which is all there is without one.
pub fn resolve(settings: &[LogSource]) -> Vec<LogSource> {
    if !settings.is_empty() {
        return settings.to_vec();
    }
    let journal = JournalSource::default();
    let kind = match (Path::new(JOURNAL).exists() && journal.program.exists(), has_files()) {
        (true, _) => LogSourceKind::Journal(journal),
        (_, true) => {
            LogSourceKind::Files(FilesSource { paths: FILES.map(Into::into).into(), ..FilesSource::default() })
        }
        _ => LogSourceKind::Kernel(KernelSource::default()),
    };
    vec![LogSource::new(kind)]
}

/// Opens a source behind `position`, the last one that was kept of it; nothing for one that was never read. What is wrong with
/// it shows when it is read. It is read where `smol::Async` works, which is under every executor of the agent. `reserved` is what
/// was opened before.
pub fn open(settings: &LogSource, position: Option<&str>, reserved: &Reserved) -> Box<dyn Source> {
    let LogSource { name, kind, max_size, filter } = settings;
    match kind {
        LogSourceKind::Journal(journal) => Box::new(Journal::new(name, journal, *max_size, filter, position)),
        LogSourceKind::Files(files) => Box::new(Files::new(name, files, *max_size, filter, position)),
        LogSourceKind::Kernel(kernel) => {
            Box::new(Kernel::new(name, kernel, *max_size, filter, position, reserved.take(name)))
        }
    }
}

fn has_files() -> bool {
    FILES.iter().any(|file| Path::new(file).exists())
}
