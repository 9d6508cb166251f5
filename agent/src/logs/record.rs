//! What the logs of the operating system are made of, wherever they are read.

use std::future::Future;
use std::io;
use std::pin::Pin;

/// One record of a log of the operating system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When it was written, in microseconds since 1970.
    pub at: i64,
    /// The severity of RFC 5424: 0 is an emergency, 7 is for debugging.
    pub severity: u8,
    /// The facility of RFC 5424: 0 is the kernel, 1 a program of a user, 3 a daemon.
    pub facility: u8,
    /// Who wrote it: the program's name for itself, `kernel`, or the name of the file.
    pub identifier: String,
    /// The service manager's unit, as `ssh.service`.
    pub unit: Option<String>,
    /// The process.
    pub pid: Option<u32>,
    /// The id of the boot in which it was written, 32 hexadecimal digits.
    pub boot: Option<String>,
    /// What it says. Joined lines have line feeds between them.
    pub text: String,
}

/// Records in their order, and where their source goes on behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// At least one, unless only the position moved.
    pub records: Vec<Record>,
    /// Opaque to all but the source: a source that is opened with it goes on behind these records.
    pub position: String,
}

/// A future of a [`Source`].
pub type Next<'a> = Pin<Box<dyn Future<Output = io::Result<Batch>> + 'a>>;

/// A log that is read.
pub trait Source {
    /// Its name in the configuration and in the spool; positions are kept under it.
    fn name(&self) -> &str;

    /// Waits for the next records. Dropping the future loses nothing. After an error the source is opened anew at the last
    /// position that was kept, with backoff.
    fn next(&mut self) -> Next<'_>;
}
