//! What ends the replication.

use std::fmt;

use crate::db;

/// Why the replication cannot go on. What goes wrong on the way to the cloud is no such error: it is tried again, and
/// seen in [`Status`](super::Status).
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The database cannot be read or written.
    Database(db::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(source) => write!(f, "replication stopped: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Database(source) => Some(source),
        }
    }
}

impl From<db::Error> for Error {
    fn from(source: db::Error) -> Self {
        Self::Database(source)
    }
}
