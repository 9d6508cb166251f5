//! The one thread that writes log lines: a slow reader of the log stops this thread and nobody else.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;

use super::Line;
use super::queue::Queue;
use super::stdout::Style;
use crate::config::{Log, LogTarget};

/// Where the lines end.
enum Sink {
    Stdout(Style),
    #[cfg(feature = "logs")]
    OsLog(super::os_log::OsLog),
}

impl Sink {
    fn new(settings: &Log) -> Self {
        match settings.target {
            #[cfg(feature = "logs")]
            LogTarget::Syslog => Self::OsLog(super::os_log::OsLog::new(None)),
            #[cfg(not(feature = "logs"))]
            LogTarget::Syslog => Self::Stdout(Style::of(settings.format)),
            LogTarget::Stdout => Self::Stdout(Style::of(settings.format)),
        }
    }

    fn write(&mut self, line: &Line) {
        match self {
            Self::Stdout(style) => {
                let mut text = Vec::with_capacity(128);
                // A closed standard output leaves nobody to tell; the agent goes on without a log.
                let _ = style.write(line, &mut text).and_then(|()| io::stdout().write_all(&text));
            }
            #[cfg(feature = "logs")]
            Self::OsLog(os_log) => os_log.write(line),
        }
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
