//! The helper's lines in the log of the operating system.

use std::time::Duration;
use syslog::{Facility, Formatter3164, LoggerBackend};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Error,
    Warning,
    Notice,
}

/// Writes a line: to the journal when it reads our standard error, else to /dev/log, and else to standard error.
///
/// The log daemon is connected for each line, which are few: so its restart loses none.
pub fn write(level: Level, text: &str) {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        let priority = match level {
            Level::Error => 3,
            Level::Warning => 4,
            Level::Notice => 5,
        };
        return say(&format!("<{priority}>{text}"));
    }
    if to_daemon(level, &text).is_err() {
        say(&format!("ioto-helper: {text}"));
    }
}

/// `eprintln` would end the program when standard error is closed.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn to_daemon(level: Level, text: &str) -> Result<(), syslog::Error> {
    let formatter = Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: "ioto-helper".into(),
        pid: std::process::id(),
    };
    let mut logger = syslog::unix(formatter)?;
    // A log daemon that hangs must not stop us.
    let limit = Some(Duration::from_secs(1));
    match &logger.backend {
        LoggerBackend::Unix(socket) => socket.set_write_timeout(limit)?,
        LoggerBackend::UnixStream(writer) => writer.get_ref().set_write_timeout(limit)?,
        _ => {}
    }
    match level {
        Level::Error => logger.err(text),
        Level::Warning => logger.warning(text),
        Level::Notice => logger.notice(text),
    }
}
