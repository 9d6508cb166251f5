//! `database`: the embedded database.

use std::path::PathBuf;
use std::time::Duration;

/// The database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// `database.path`: the SQLite file.
    pub path: PathBuf,
    /// `database.schema`: the models; a missing file is an error when it was named, and no models when not.
    pub schema: PathBuf,
    /// `database.service`: how often rows whose time is over are removed.
    pub service: Duration,
    /// `database.commit`: how long a write waits for others to share its commit, at most.
    pub commit: Duration,
    /// `database.queue`: operations that wait for the writer at most; callers beyond it wait.
    pub queue: usize,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            path: "/var/lib/ioto/db/device.db".into(),
            schema: "/etc/ioto/schema.json5".into(),
            service: Duration::from_secs(60 * 60),
            commit: Duration::from_millis(2),
            queue: 1024,
        }
    }
}
