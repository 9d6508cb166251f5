//! The log of the operating system as a sink, through `/dev/log`.
//!
//! The crate `syslog` formats and sends; it never opens its socket again after the log daemon was restarted, so that is
//! done here. A line that could not be sent is kept and tried again.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use log::Level;
use syslog::{Facility, Formatter3164, LoggerBackend};

use super::Line;

/// The first pause before the socket is opened again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Log daemons are back within seconds; more often than this is not worth the wake-ups while there is none.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

type Socket = syslog::Logger<LoggerBackend, Formatter3164>;

/// Writes lines to the OS log, for as long as it takes.
pub struct OsLog {
    formatter: Formatter3164,
    /// Where the log daemon listens; nothing: the usual places.
    path: Option<PathBuf>,
    socket: Option<Socket>,
}

impl OsLog {
    /// Lines will go to the daemon that listens at `path`, or at the usual places.
    pub fn new(path: Option<PathBuf>) -> Self {
        let formatter = Formatter3164 {
            facility: Facility::LOG_DAEMON,
            hostname: None,
            process: "ioto".into(),
            pid: std::process::id(),
        };
        Self { formatter, path, socket: None }
    }

    /// Sends a line; returns when the log daemon has it.
    pub fn write(&mut self, line: &Line) {
        let mut pause = FIRST_PAUSE;
        while let Err(error) = self.try_write(line) {
            if pause == FIRST_PAUSE {
                eprintln!("ioto: the OS log does not take lines, trying on: {error}");
            }
            self.socket = None;
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn try_write(&mut self, line: &Line) -> Result<(), syslog::Error> {
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.connect()?,
        };
        match line.level {
            Level::Error => socket.err(line)?,
            Level::Warn => socket.warning(line)?,
            Level::Info => socket.info(line)?,
            Level::Debug | Level::Trace => socket.debug(line)?,
        }
        self.socket = Some(socket);
        Ok(())
    }

    fn connect(&self) -> Result<Socket, syslog::Error> {
        match &self.path {
            Some(path) => syslog::unix_custom(self.formatter.clone(), path),
            None => syslog::unix(self.formatter.clone()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn line(number: usize) -> Line {
        Line { level: Level::Warn, room: "web".into(), text: format!("line {number}"), at: 0 }
    }

    fn read(daemon: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        daemon.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let length = daemon.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn no_line_is_lost_when_the_log_daemon_is_restarted() {
        let path = std::env::temp_dir().join(format!("ioto-os-log-{}", std::process::id()));
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut sink = OsLog::new(Some(path.clone()));
        sink.write(&line(1));
        let first = read(&daemon);
        // Facility daemon (3), severity warning (4): 3 * 8 + 4.
        assert!(first.starts_with("<28>"), "{first}");
        assert!(first.ends_with("web: line 1"), "{first}");

        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        let writer = thread::spawn(move || {
            sink.write(&line(2));
            sink.write(&line(3));
        });
        thread::sleep(FIRST_PAUSE * 2);
        let daemon = UnixDatagram::bind(&path).unwrap();
        assert!(read(&daemon).ends_with("web: line 2"));
        assert!(read(&daemon).ends_with("web: line 3"));
        writer.join().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
