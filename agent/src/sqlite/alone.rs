//! A file that one connection alone has, and of which little is lost with it: a damaged one is set aside at once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row};

use super::{Found, Kind, beside, check, log_size, make_directory, make_file, was_left_open};

/// Bytes of the disk that what is new leaves free. SQLite has to write so that it can forget, first into its log and from
/// there into the file: a disk that the file itself had filled to the last byte would stay so for ever.
const RESERVE: u64 = 2 << 20;

/// Why a file was not opened.
pub enum Refused {
    /// There is something in the file that was never written.
    Damaged(String),
    /// A newer version of the program wrote the file: its format.
    Newer(i64),
    /// SQLite refused.
    Store(rusqlite::Error),
    /// File or directory cannot be used.
    File(io::Error),
}

impl From<rusqlite::Error> for Refused {
    fn from(source: rusqlite::Error) -> Self {
        Self::Store(source)
    }
}

/// Opens or makes a file, for this user alone, with its tables. One that was not closed is checked.
pub fn open(kind: &Kind, path: &Path, tables: &str) -> Result<Connection, Refused> {
    make_directory(path).and_then(|()| make_file(path)).map_err(Refused::File)?;
    let is_doubtful = was_left_open(path);
    let connection = kind.connect(path)?;
    match kind.find(&connection)? {
        Found::Ours => {}
        Found::Newer(format) => return Err(Refused::Newer(format)),
        Found::Foreign(what) => return Err(Refused::Damaged(what)),
    }
    if is_doubtful {
        check(&connection)?.map_err(Refused::Damaged)?;
    }
    let transaction = connection.unchecked_transaction()?;
    kind.mark(&transaction)?;
    transaction.execute_batch(tables)?;
    transaction.commit()?;
    Ok(connection)
}

/// Whether an error says that there is something in the file that was never written.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
        || matches!(
            error,
            FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..)
        )
}

/// Renames a closed file to `PATH.corrupt`; one such file is kept. What of it was only in SQLite's log is lost.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = beside(path, ".corrupt");
    fs::rename(path, &aside)?;
    let _ = fs::remove_file(beside(path, "-wal"));
    Ok(aside)
}

/// Whether so many bytes can be written and leave something free: what the disk has free counts, and what the file and its
/// log have, which never get shorter.
pub fn has_room(connection: &Connection, path: &Path, bytes: u64) -> rusqlite::Result<bool> {
    let Ok(disk) = rustix::fs::statvfs(path) else { return Ok(true) };
    let (free, needed) = (disk.f_bavail * disk.f_frsize, RESERVE + bytes);
    if free >= needed {
        return Ok(true);
    }
    let pages: i64 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    Ok(free + pages.max(0) as u64 * 4096 + log_size(path) >= needed)
}

/// A number that is never negative.
pub fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column)
        .and_then(|n| u64::try_from(n).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, n)))
}
