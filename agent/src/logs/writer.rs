//! The one thread that writes log lines: a slow reader of the log stops this thread and nobody else.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use super::Line;
use super::queue::Queue;
use super::stdout::Style;
use crate::config::{Log, LogTarget};
use crate::device::RotatedFile;

/// Where the lines end.
enum Sink {
    Stdout(Style),
    File(FileLog),
    #[cfg(feature = "logs")]
    OsLog(super::os_log::OsLog),
    #[cfg(feature = "logs")]
    Journal(super::journal::Journal),
}

impl Sink {
    fn new(settings: &Log) -> Self {
        match &settings.target {
            #[cfg(feature = "logs")]
            LogTarget::Auto if super::stdout::is_journal(settings.format) && super::journal::is_there() => {
                Self::Journal(super::journal::Journal::new(None))
            }
            #[cfg(feature = "logs")]
            LogTarget::Journal => Self::Journal(super::journal::Journal::new(None)),
            #[cfg(feature = "logs")]
            LogTarget::Syslog => Self::OsLog(super::os_log::OsLog::new(None)),
            LogTarget::File(path) => Self::File(FileLog::new(path, settings)),
            _ => Self::Stdout(Style::of(settings.format)),
        }
    }

    fn write(&mut self, line: &Line) {
        match self {
            Self::Stdout(style) => {
                let mut text = Vec::with_capacity(128);
                // A closed standard output leaves nobody to tell; the agent goes on without a log.
                let _ = style.write(line, &mut text).and_then(|()| io::stdout().write_all(&text));
            }
            Self::File(file) => file.write(line),
            #[cfg(feature = "logs")]
            Self::OsLog(os_log) => os_log.write(line),
            #[cfg(feature = "logs")]
            Self::Journal(journal) => journal.write(line),
        }
    }
}

/// A file that is rotated. While it can not be written the lines go to standard error.
struct FileLog {
    path: PathBuf,
    size: u64,
    count: usize,
    file: Option<RotatedFile>,
    told: bool,
}

impl FileLog {
    fn new(path: &Path, settings: &Log) -> Self {
        Self { path: path.into(), size: settings.size, count: settings.count, file: None, told: false }
    }

    fn write(&mut self, line: &Line) {
        let mut text = Vec::with_capacity(128);
        // Writing to a vector does not fail.
        let _ = Style::Plain.write(line, &mut text);
        match self.try_write(&text) {
            Ok(()) => self.told = false,
            Err(error) => {
                self.file = None;
                if !self.told {
                    self.told = true;
                    eprintln!("ioto: the log can not be written, it goes here meanwhile: {error}");
                }
                let _ = io::stderr().write_all(&text);
            }
        }
    }

    fn try_write(&mut self, text: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(RotatedFile::open(&self.path, self.size, self.count)?),
        };
        file.write(text)
    }
}

/// Starts the thread.
pub fn start(settings: &Log, queue: Arc<Queue>) -> io::Result<()> {
    let mut sink = Sink::new(settings);
    let write = move || {
        loop {
            sink.write(&queue.next());
        }
    };
    thread::Builder::new().name("ioto-log".into()).stack_size(128 * 1024).spawn(write)?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use log::Level;

    use super::*;

    #[test]
    fn a_log_file_is_rotated_by_its_size() {
        let directory = std::env::temp_dir().join(format!("ioto-log-{:x}", fastrand::u64(..)));
        let path = directory.join("new/ioto.log");
        let settings = Log { target: LogTarget::File(path.clone()), size: 100, count: 1, ..Log::default() };
        let mut sink = Sink::new(&settings);
        for number in 0..5 {
            let line = Line { level: Level::Info, room: "web".into(), text: format!("line {number}"), at: 0 };
            sink.write(&line);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "1970-01-01T00:00:00.000Z info  web: line 4\n");
        assert!(fs::read_to_string(directory.join("new/ioto.log.1")).unwrap().ends_with("web: line 3\n"));
        fs::remove_dir_all(&directory).unwrap();
    }
}
