//! The access log: a line for each request, also for those that were refused.
//!
//! `entry` is what connections call, `line` makes the bytes of a line, `mask` takes the secrets out. `writer` is the one thread
//! that writes: it takes what the threads of the server have gathered, so a request costs no system call. Files are
//! rotated by [`RotatedFile`]; other sinks come from outside by [`AccessSink`].

mod entry;
mod line;
mod mask;
mod writer;

use std::io::Write;
use std::time::Duration;

pub(super) use self::entry::{Entry, begin, refused};
pub(super) use self::writer::{Pot, Writer};
use super::Error;
use crate::config::{AccessLog, AccessTarget};
use crate::device::RotatedFile;

/// Where lines go that are written neither to a file nor to standard output.
pub trait AccessSink: Send {
    /// Takes whole lines, each with its LF. Waits for as long as it must: then lines are dropped and counted before it.
    ///
    /// # Errors
    /// The lines are lost; they are counted.
    fn write(&mut self, lines: &[u8]) -> std::io::Result<()>;

    /// How long lines gather before they come.
    fn gather(&self) -> Duration {
        Duration::from_millis(200)
    }

    /// Opens again what it writes to, on SIGHUP.
    fn reopen(&mut self) {}
}

/// Opens the log, if it is wanted.
pub(super) fn open(settings: &AccessLog, sink: Option<Box<dyn AccessSink>>) -> Result<Option<Writer>, Error> {
    let sink: Box<dyn AccessSink> = match (&settings.target, sink) {
        (AccessTarget::Off, _) => return Ok(None),
        (AccessTarget::File(path), _) => {
            let file = RotatedFile::open(path, settings.size, settings.count).map_err(|error| {
                Error::Setting(format!("web.accessLog.path: {}: cannot be written: {error}", path.display()))
            })?;
            Box::new(file)
        }
        (AccessTarget::Stdout, _) => Box::new(Stdout),
        (AccessTarget::Syslog | AccessTarget::Database, Some(sink)) => sink,
        (AccessTarget::Syslog | AccessTarget::Database, None) => {
            return Err(Error::Setting("web.accessLog.path: this needs a sink, see Server::access_sink".to_owned()));
        }
    };
    Writer::start(sink).map(Some).map_err(Error::Io)
}

impl AccessSink for RotatedFile {
    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        RotatedFile::write(self, lines)
    }

    fn reopen(&mut self) {
        RotatedFile::reopen(self);
    }
}

struct Stdout;

impl AccessSink for Stdout {
    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(lines)?;
        out.flush()
    }
}
