//! Where the access log of the web server goes beside files: to the log of the operating system, into the database.

#[cfg(any(feature = "db", feature = "logs"))]
use std::io;

use super::Handles;
use crate::config::Web;
use crate::web::AccessSink;

/// The sink that the settings want, if it is one of these.
#[allow(unused_variables, reason = "a build with few features has few sinks")]
pub fn sink(settings: &Web, handles: &Handles) -> Option<Box<dyn AccessSink>> {
    match settings.access_log.target {
        #[cfg(feature = "logs")]
        crate::config::AccessTarget::Syslog => Some(Box::new(Syslog(crate::logs::OsLog::new(None)))),
        #[cfg(feature = "db")]
        crate::config::AccessTarget::Database => Some(Box::new(Database::new(settings, handles))),
        _ => None,
    }
}

#[cfg(any(feature = "db", feature = "logs"))]
fn split(lines: &[u8]) -> impl Iterator<Item = String> {
    lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| String::from_utf8_lossy(line).into_owned())
}

/// Waits for the log daemon as long as it takes; meanwhile the web server drops and counts what is too much.
#[cfg(feature = "logs")]
struct Syslog(crate::logs::OsLog);

#[cfg(feature = "logs")]
impl AccessSink for Syslog {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        for text in split(lines) {
            let (level, room, at) = (log::Level::Info, "access".to_owned(), crate::net::utc_ms());
            self.0.write(&crate::logs::Line { level, room, text, at });
        }
        Ok(())
    }
}

#[cfg(feature = "db")]
struct Database {
    db: crate::agent::slot::Slot<crate::db::Db>,
    bounds: crate::db::AccessBounds,
}

#[cfg(feature = "db")]
impl Database {
    fn new(settings: &Web, handles: &Handles) -> Self {
        let (rows, age) = (settings.access_log.rows, settings.access_log.age.as_millis());
        let age = i64::try_from(age).unwrap_or(i64::MAX);
        Self { db: handles.db.clone(), bounds: crate::db::AccessBounds { rows, age } }
    }
}

#[cfg(feature = "db")]
impl AccessSink for Database {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let db = self.db.get().ok_or_else(|| io::Error::other("the database is not up"))?;
        smol::block_on(db.add_access(split(lines).collect(), self.bounds)).map_err(io::Error::other)
    }

    /// Each time is a commit, and those wear the flash.
    fn gather(&self) -> std::time::Duration {
        std::time::Duration::from_secs(2)
    }
}

#[cfg(all(test, feature = "logs"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_line_is_a_message_of_the_os_log() {
        let path = std::env::temp_dir().join(format!("ioto-access-log-{}", std::process::id()));
        let daemon = UnixDatagram::bind(&path).unwrap();
        daemon.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut sink = Syslog(crate::logs::OsLog::new(Some(path.clone())));
        sink.write(b"one\ntwo\n").unwrap();
        for expected in ["one", "two"] {
            let mut buffer = [0; 256];
            let length = daemon.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            // Facility daemon (3), severity info (6): 3 * 8 + 6.
            assert!(text.starts_with("<30>") && text.ends_with(&format!("access: {expected}")), "{text}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
