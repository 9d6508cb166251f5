//! The spool: records on disk between their source and their sink.
//!
//! One row is one batch; in the same transaction stands where its source goes on behind it. SQLite forces its log to the disk
//! only now and then (`synchronous = NORMAL`): after a power cut the last transactions may be gone, but all of each. What is
//! lost so is read again from the source, because the position is lost with it; and what the sink had of it already gets the
//! same ids again, since they follow from the source's own count and the text.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::pack::digest;
use crate::sqlite::Kind;
use crate::sqlite::alone::{self, Refused, unsigned};

const KIND: Kind = Kind {
    name: "spool",
    // `iolg`
    application: 0x696f_6c67,
    format: 1,
    unit: 1,
    cache: 256,
    checkpoint: 256,
    log: 1 << 20,
    is_durable: false,
    is_exclusive: true,
};
/// What a row takes beside its records.
const ROW: u64 = 100;

const TABLES: &str = "\
    CREATE TABLE IF NOT EXISTS state (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS source (name TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, position TEXT NOT NULL, \
        seq INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS batch (n INTEGER PRIMARY KEY AUTOINCREMENT, source INTEGER NOT NULL, first INTEGER NOT NULL, \
        count INTEGER NOT NULL, sum INTEGER NOT NULL, records BLOB NOT NULL);";

/// Why the spool did not do it.
#[derive(Debug)]
pub enum Error {
    /// No room on the disk, or less than has to be left. Nothing was changed.
    Full,
    /// There is something in the file that was never written.
    Damaged(String),
    /// A newer version of the program wrote the file.
    Version(i64),
    /// SQLite refused. Nothing was changed.
    Store(rusqlite::Error),
    /// File or directory cannot be used.
    File(PathBuf, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no room on the disk for the spool of the logs, free some space"),
            Self::Damaged(what) => write!(f, "the spool of the logs is damaged: {what}"),
            Self::Version(found) => write!(
                f,
                "the spool of the logs has format {found}, this program knows {}; start the version that wrote it, or \
                 remove the file to begin anew",
                KIND.format
            ),
            Self::Store(source) => write!(f, "the spool of the logs failed: {source}"),
            Self::File(path, source) => write!(f, "{}: {source}", path.display()),
        }
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            _ if alone::is_damage(&source) => Self::Damaged(source.to_string()),
            _ => Self::Store(source),
        }
    }
}

/// A place in the spool: before the record `index` of the batch `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The number of the batch.
    pub n: i64,
    /// The number of the record in it.
    pub index: u32,
}

/// How far the sink is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Batches up to this one are not needed any more.
    pub done: i64,
    /// The sink has what is before this place.
    pub accepted: Place,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all rows.
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
}

/// A batch in the spool.
#[derive(Debug)]
pub struct Row {
    /// Its number: the order in which batches came.
    pub n: i64,
    /// The source's name.
    pub source: String,
    /// The source's number, which stands in ids.
    pub number: i64,
    /// The sequence number of the first record among those of the source.
    pub first: u64,
    /// How many records.
    pub count: u32,
    /// The records, packed.
    pub records: Vec<u8>,
}

/// The opened file. Its calls wait for the disk.
pub struct Spool {
    connection: Connection,
    path: PathBuf,
    id: String,
    usage: Usage,
}

impl Spool {
    /// Opens or makes the file. A damaged one is set aside and an empty one begun; the sources then begin anew.
    pub fn open(path: &Path) -> Result<Self, Error> {
        match Self::open_as_is(path) {
            Err(error @ Error::Damaged(_)) => {
                set_aside(path, &error)?;
                Self::open_as_is(path)
            }
            result => result,
        }
    }

    fn open_as_is(path: &Path) -> Result<Self, Error> {
        let connection = alone::open(&KIND, path, TABLES).map_err(|refused| match refused {
            Refused::Damaged(what) => Error::Damaged(what),
            Refused::Newer(format) => Error::Version(format),
            Refused::Store(source) => source.into(),
            Refused::File(source) => Error::File(path.into(), source),
        })?;
        let transaction = connection.unchecked_transaction()?;
        let id: Option<String> = state(&transaction, "id")?;
        let is_new = id.is_none();
        let id = match id {
            Some(id) => id,
            None => {
                let id = format!("{:012x}", fastrand::u64(..) & 0xffff_ffff_ffff);
                set_state(&transaction, "id", &id)?;
                id
            }
        };
        transaction.commit()?;
        if is_new {
            // The id has to outlast a power cut before anything is sent under it.
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        let sql = "SELECT coalesce(sum(length(records) + ?1), 0), coalesce(sum(count), 0) FROM batch";
        let (bytes, records) =
            connection.query_row(sql, [ROW as i64], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))?;
        Ok(Self { connection, path: path.into(), id, usage: Usage { bytes, records } })
    }

    /// The id of this spool, which makes the ids of its records unlike those of any other.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What waits.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Where the source goes on; nothing when it was never read.
    pub fn position(&self, source: &str) -> Result<Option<String>, Error> {
        let sql = "SELECT position FROM source WHERE name = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([source], |row| row.get(0)).optional()?)
    }

    /// How far the sink was when that was last written here.
    pub fn accepted(&self) -> Result<Place, Error> {
        let n = state(&self.connection, "n")?.unwrap_or(0);
        Ok(Place { n, index: state(&self.connection, "index")?.unwrap_or(0) })
    }

    /// The number of the last batch that ever came.
    pub fn last(&self) -> Result<i64, Error> {
        let sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'batch'";
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }

    /// Records from this place on.
    pub fn waiting(&self, place: Place) -> Result<u64, Error> {
        let sql = "SELECT coalesce(sum(max(count - iif(n = ?1, ?2, 0), 0)), 0) FROM batch WHERE n >= ?1";
        Ok(self.connection.query_row(sql, params![place.n, place.index], |row| unsigned(row, 0))?)
    }

    /// Adds a batch and notes where its source goes on and how far the sink is; all of it or nothing.
    pub fn append(
        &mut self,
        source: &str,
        (records, count): (&[u8], u32),
        position: &str,
        progress: Progress,
    ) -> Result<(), Error> {
        if count > 0 && !alone::has_room(&self.connection, &self.path, records.len() as u64)? {
            self.note(progress)?;
            return Err(Error::Full);
        }
        let transaction = self.connection.unchecked_transaction()?;
        let freed = forget(&transaction, progress)?;
        let sql = "INSERT INTO source (name, number, position, seq) \
                   SELECT ?1, coalesce(max(number), 0) + 1, ?2, ?3 FROM source WHERE true \
                   ON CONFLICT (name) DO UPDATE SET position = ?2, seq = seq + ?3 RETURNING number, seq";
        let (number, seq) = transaction
            .prepare_cached(sql)?
            .query_row(params![source, position, count], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        let mut added = Usage::default();
        if count > 0 {
            let sql = "INSERT INTO batch (source, first, count, sum, records) VALUES (?1, ?2, ?3, ?4, ?5)";
            let first = seq - i64::from(count) + 1;
            transaction.prepare_cached(sql)?.execute(params![number, first, count, digest([records]), records])?;
            added = Usage { bytes: records.len() as u64 + ROW, records: u64::from(count) };
        }
        transaction.commit()?;
        self.free(freed);
        self.usage = Usage { bytes: self.usage.bytes + added.bytes, records: self.usage.records + added.records };
        Ok(())
    }

    /// Notes how far the sink is, and forgets what is not needed any more.
    pub fn note(&mut self, progress: Progress) -> Result<(), Error> {
        let transaction = self.connection.unchecked_transaction()?;
        let freed = forget(&transaction, progress)?;
        transaction.commit()?;
        self.free(freed);
        Ok(())
    }

    /// Drops the oldest batches until there is room for so many bytes. How many records that cost which the sink had not.
    pub fn make_room(&mut self, bytes: u64, limit: u64, progress: Progress) -> Result<u64, Error> {
        let mut lost = 0;
        while self.usage.records > 0 && self.usage.bytes + bytes > limit {
            let sql = "DELETE FROM batch WHERE n = (SELECT min(n) FROM batch) RETURNING n, count, length(records)";
            let dropped = self
                .connection
                .prepare_cached(sql)?
                .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?, unsigned(row, 2)?)))?;
            let (n, count, length) = dropped;
            self.free(Usage { bytes: length + ROW, records: u64::from(count) });
            lost += match n.cmp(&progress.accepted.n) {
                std::cmp::Ordering::Less => 0,
                std::cmp::Ordering::Equal => u64::from(count.saturating_sub(progress.accepted.index)),
                std::cmp::Ordering::Greater => u64::from(count),
            };
        }
        Ok(lost)
    }

    /// The batches from `n` on, oldest first: one at least if there is any, and then up to so many bytes.
    pub fn read(&self, n: i64, bytes: usize) -> Result<Vec<Row>, Error> {
        let sql = "SELECT n, name, number, first, count, sum, records FROM batch \
                   JOIN source ON source.number = batch.source WHERE n >= ?1 ORDER BY n";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query([n])?;
        let (mut rows, mut size) = (Vec::new(), 0);
        while let Some(row) = found.next()? {
            let records: Vec<u8> = row.get(6)?;
            if row.get::<_, u32>(5)? != digest([records.as_slice()]) {
                return Err(Error::Damaged("a batch is not what was written".into()));
            }
            size += records.len();
            if size > bytes && !rows.is_empty() {
                break;
            }
            rows.push(Row {
                n: row.get(0)?,
                source: row.get(1)?,
                number: row.get(2)?,
                first: unsigned(row, 3)?,
                count: row.get(4)?,
                records,
            });
        }
        Ok(rows)
    }

    fn free(&mut self, freed: Usage) {
        self.usage.bytes = self.usage.bytes.saturating_sub(freed.bytes);
        self.usage.records = self.usage.records.saturating_sub(freed.records);
    }
}

/// Forgets what is done, and writes down what the sink accepted.
fn forget(connection: &Connection, progress: Progress) -> Result<Usage, Error> {
    let mut freed = Usage::default();
    let mut statement =
        connection.prepare_cached("DELETE FROM batch WHERE n <= ?1 RETURNING count, length(records)")?;
    let mut rows = statement.query([progress.done])?;
    while let Some(row) = rows.next()? {
        freed.records += unsigned(row, 0)?;
        freed.bytes += unsigned(row, 1)? + ROW;
    }
    if progress.accepted != Place::default() {
        set_state(connection, "n", progress.accepted.n)?;
        set_state(connection, "index", progress.accepted.index)?;
    }
    Ok(freed)
}

/// Renames the file to `PATH.corrupt`; one such file is kept.
pub fn set_aside(path: &Path, why: &Error) -> Result<(), Error> {
    let aside = alone::set_aside(path).map_err(|error| Error::File(path.into(), error))?;
    log::error!(
        "{why}; {} was set aside as {} and an empty one is begun: records that waited in it are lost, and the sources begin \
         as on their first start",
        path.display(),
        aside.display()
    );
    Ok(())
}

fn state<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> Result<Option<T>, Error> {
    let mut statement = connection.prepare_cached("SELECT v FROM state WHERE k = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

fn set_state(connection: &Connection, name: &str, value: impl rusqlite::ToSql) -> Result<(), Error> {
    let sql = "INSERT INTO state (k, v) VALUES (?1, ?2) ON CONFLICT (k) DO UPDATE SET v = excluded.v";
    connection.prepare_cached(sql)?.execute(params![name, value])?;
    Ok(())
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
