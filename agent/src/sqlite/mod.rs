//! SQLite files of our own: how they are made, opened, told from those of others, and checked.
//!
//! The database is one, and so are the outbox of MQTT and the spool of the logs. They differ in what is in them, and in who
//! opens them: the database has several connections and looks after its file itself, the others are in [`alone`].

#[cfg(any(feature = "mqtt", feature = "logs"))]
pub mod alone;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

/// What all files of one kind have in common.
pub struct Kind {
    /// What it is called, as in `it is no NAME of this program`.
    pub name: &'static str,
    /// SQLite's `application_id`: what `file(1)` and others recognise it by.
    pub application: i64,
    /// The format that this program writes, and the newest it reads.
    pub format: i64,
    /// What a format is multiplied by in SQLite's `user_version`.
    pub unit: i64,
    /// Page cache of a connection, KiB.
    pub cache: i64,
    /// Pages (4 KiB) in SQLite's log after which it is copied into the file.
    pub checkpoint: i64,
    /// Bytes to which the log is cut after that.
    pub log: i64,
    /// Whether a transaction is on the disk when it is committed; without, SQLite forces its log there only now and then.
    pub is_durable: bool,
    /// Whether one connection alone has the file. There is no shared memory then: a second agent is refused, and a full disk
    /// can not take the memory away under us.
    pub is_exclusive: bool,
}

/// What a file was found to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A file without anything in it, or one of this kind.
    Ours,
    /// One of this kind, but of a format that only a newer program knows.
    Newer(i64),
    /// Something else. The words say so.
    Foreign(String),
}

impl Kind {
    /// Opens a file that is there.
    pub fn connect(&self, path: &Path) -> rusqlite::Result<Connection> {
        // No mutex in SQLite: one thread at a time has a connection.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
        // Otherwise a LIMIT that is a parameter has a kept statement compiled again each time.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        if self.is_exclusive {
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        }
        connection.pragma_update(None, "cache_size", -self.cache)?;
        connection.pragma_update(None, "mmap_size", 0)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", if self.is_durable { "FULL" } else { "NORMAL" })?;
        connection.pragma_update(None, "wal_autocheckpoint", self.checkpoint)?;
        connection.pragma_update(None, "journal_size_limit", self.log)?;
        Ok(connection)
    }

    /// What the file is, before anything in it is touched.
    pub fn find(&self, connection: &Connection) -> rusqlite::Result<Found> {
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (version, application) = (pragma("user_version")?, pragma("application_id")?);
        let format = version / self.unit;
        Ok(match (version, application) {
            (0, 0) => Found::Ours,
            _ if application != self.application || version % self.unit != 0 || format < 1 => {
                Found::Foreign(format!("it is no {} of this program", self.name))
            }
            _ if format > self.format => Found::Newer(format),
            _ => Found::Ours,
        })
    }

    /// Writes down what the file is, unless that is there: a file can be opened on a disk that has no room to write.
    pub fn mark(&self, connection: &Connection) -> rusqlite::Result<()> {
        for (pragma, value) in [("user_version", self.format * self.unit), ("application_id", self.application)] {
            if connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))? != value {
                connection.pragma_update(None, pragma, value)?;
            }
        }
        Ok(())
    }
}

/// SQLite's own check of a whole file, which tells the first fault.
pub fn check(connection: &Connection) -> rusqlite::Result<Result<(), String>> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok(if verdict == "ok" { Ok(()) } else { Err(verdict) })
}

/// Makes the directory of a file where it is missing, for this user alone.
pub fn make_directory(path: &Path) -> io::Result<()> {
    let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) else { return Ok(()) };
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // SQLite makes its files last in their directory; that the directory lasts in its own is left to us.
    let above = directory.parent().unwrap_or(directory);
    let _ = File::open(above).and_then(|above| above.sync_all());
    Ok(())
}

/// Makes a file where it is missing, for this user alone; SQLite would take the rights of `umask`.
pub fn make_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Whether nobody closed the file. SQLite removes the log when the last connection is closed, so a log that is there says
/// that this did not happen, and costs no write to say so.
pub fn was_left_open(path: &Path) -> bool {
    log_size(path) > 0
}

fn log_size(path: &Path) -> u64 {
    fs::metadata(beside(path, "-wal")).map_or(0, |data| data.len())
}

/// The path with something appended to its last name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests;
