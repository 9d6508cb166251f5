//! How large the file may become: `database.size`, which is the file with its log, and `database.policy`.
//!
//! Pages that are in use are counted after each operation that may add some. One that would leave more than there may be is
//! undone, or the oldest rows of models that allow it go first. Removals, what comes of changes that were sent, and sessions
//! are not refused: a part of the bound is reserved for them, for a database that could not forget anything would stay full
//! for ever. SQLite itself refuses pages beyond that reserve.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::editor::Editor;
use super::error::Error;
use super::handle::Db;
use super::rows::table;
use super::schema::{Model, Sync};
use super::schema_process::{Full, Mode};
use super::store::{LOG, WAIT};
use crate::config::{self, SizePolicy};
use crate::sqlite;

/// Bytes of a page, as SQLite makes them.
const PAGE: u64 = 4096;
/// Bytes in use up to which the file is compacted by itself: SQLite has the copy in memory.
const COMPACTS: u64 = 16 << 20;
/// Rows that are dropped at a time, …
const DROP: usize = 32;
/// … and for one operation, at most.
const DROPS: usize = 1000;
/// The oldest rows of a model, among which those that the cloud has are looked for.
const OLDEST: usize = 1000;

/// The bound of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// Bytes of the file and its log.
    pub(super) bytes: u64,
    /// Whether rows make room.
    drops: bool,
}

impl Limit {
    /// The bound that is configured, if there is one.
    pub(super) fn new(options: &config::Database) -> Option<Self> {
        let drops = options.policy == SizePolicy::DropOldest;
        (options.size < config::UNLIMITED).then_some(Self { bytes: options.size, drops })
    }

    /// Pages of the file, at most.
    fn most(self) -> u64 {
        self.bytes.saturating_sub(LOG as u64) / PAGE
    }

    /// Pages up to which there is room for everything.
    fn room(self) -> u64 {
        let most = self.most();
        most - (most / 16).max(128).min(most / 2)
    }

    /// Pages from which on a warning is due.
    fn warning(self) -> u64 {
        self.room() / 10 * 9
    }

    /// Whether rows of the model may make room. What the cloud alone decides about would only come back.
    pub(super) fn may_drop(self, model: &Model) -> bool {
        let process = model.process();
        self.drops && process.caps.full == Full::DropOldest && !process.memory && process.sync != Sync::Down
    }

    /// Has SQLite keep the bound on the connection that writes, and writes a file anew that is larger than it needs to be.
    pub(super) fn apply(self, connection: &Connection) -> Result<(), Error> {
        let (pages, used) = (pages(connection)?, used(connection)?);
        let fits = pages > self.most() && used + used / 16 <= self.most();
        if fits && used * PAGE <= COMPACTS {
            log::info!("the database is larger than database.size, but mostly free: it is compacted");
            connection.execute_batch("VACUUM main; PRAGMA main.wal_checkpoint(TRUNCATE)")?;
        } else if fits {
            log::warn!("the database is larger than database.size, and would not be after `ioto db compact`");
        } else if pages > self.most() {
            log::warn!("the database has more in it than database.size allows: so it stays until items are removed");
        }
        // Not below what there is: SQLite sees to that.
        let most = u32::try_from(self.most()).unwrap_or(u32::MAX - 1);
        Ok(connection.query_row(&format!("PRAGMA main.max_page_count = {most}"), [], |_| Ok(()))?)
    }
}

/// What the editor knows of its room.
#[derive(Default)]
pub(super) struct Room {
    limit: Option<Limit>,
    /// Rows of this transaction, which do not make room for one another.
    written: HashSet<(String, String)>,
    warned: bool,
    /// Pages that were in use when there was no room for something, the fewest of late.
    full_at: Option<u64>,
    dropped: u64,
}

impl Room {
    pub(super) fn new(limit: Option<Limit>) -> Self {
        Self { limit, ..Self::default() }
    }
}

fn number(connection: &Connection, sql: &str) -> Result<u64, Error> {
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

fn pages(connection: &Connection) -> Result<u64, Error> {
    number(connection, "PRAGMA main.page_count")
}

fn used(connection: &Connection) -> Result<u64, Error> {
    Ok(pages(connection)?.saturating_sub(number(connection, "PRAGMA main.freelist_count")?))
}

impl Editor {
    /// Carries out what may need room. Without room it is to be undone.
    pub(super) fn within<T>(&mut self, operation: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let Some(limit) = self.room().limit else { return operation(self) };
        if self.log_size() > LOG as u64 && pages(self.connection())? * PAGE + self.log_size() > limit.bytes {
            // It has room as soon as the log is short again.
            return Err(self.no_room(limit, (u64::MAX, true)));
        }
        let before = used(self.connection())?;
        let value = operation(self)?;
        self.make_room(limit, before)?;
        Ok(value)
    }

    fn make_room(&mut self, limit: Limit, before: u64) -> Result<(), Error> {
        let mut dropped = 0;
        loop {
            let used = used(self.connection())?;
            if used <= limit.room() {
                return Ok(());
            }
            let some = if limit.drops && dropped < DROPS { self.drop_some(limit)? } else { 0 };
            dropped += some;
            match some {
                // Where there is too much already, it must not become more.
                0 if used <= before => return Ok(()),
                0 => return Err(self.no_room(limit, (before, false))),
                _ => {}
            }
        }
    }

    /// Drops some of the oldest rows of the model that has most; returns how many.
    fn drop_some(&mut self, limit: Limit) -> Result<usize, Error> {
        let schema = self.schema();
        let mut statement = self.connection().prepare_cached("SELECT model FROM temp._size ORDER BY bytes DESC")?;
        let models = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        drop(statement);
        for model in models.iter().filter_map(|name| schema.model(name)).filter(|model| limit.may_drop(model)) {
            let keys = self.oldest(model)?;
            for key in &keys {
                self.drop_row(model, key, model.process().mode == Mode::Journal)?;
            }
            if !keys.is_empty() {
                self.note_dropped(model, keys.len());
                return Ok(keys.len());
            }
        }
        Ok(0)
    }

    /// The oldest rows of which the cloud has all that it is to have.
    fn oldest(&mut self, model: &Model) -> Result<Vec<String>, Error> {
        let sql = format!(
            "SELECT key FROM (SELECT key FROM {} ORDER BY key LIMIT {OLDEST}) AS t \
             WHERE NOT EXISTS (SELECT 1 FROM _sync_out AS o WHERE o.model = ?1 AND o.key = t.key)",
            table(model)
        );
        let written = std::mem::take(&mut self.room().written);
        let keys = self.first(&sql, model, &written);
        self.room().written = written;
        keys
    }

    fn first(&self, sql: &str, model: &Model, but: &HashSet<(String, String)>) -> Result<Vec<String>, Error> {
        let mut statement = self.connection().prepare_cached(sql)?;
        let mut rows = statement.query(params![model.name()])?;
        let (mut keys, mut name) = (Vec::new(), (model.name().to_owned(), String::new()));
        while let Some(row) = rows.next()? {
            name.1 = row.get(0)?;
            if !but.contains(&name) {
                keys.push(name.1.clone());
            }
            if keys.len() == DROP {
                break;
            }
        }
        Ok(keys)
    }

    fn note_dropped(&mut self, model: &Model, count: usize) {
        let before = self.room().dropped;
        self.room().dropped += count as u64;
        let after = self.room().dropped;
        if before.checked_ilog10() != after.checked_ilog10() {
            log::warn!(
                "the database is as large as database.size allows: {after} rows were dropped so far, the last of {}",
                model.name()
            );
        }
    }

    /// This row is not to make room for others of its transaction.
    pub(super) fn wrote(&mut self, model: &Model, key: &str) {
        if self.room().limit.is_some_and(|limit| limit.may_drop(model)) {
            let name = (model.name().to_owned(), key.to_owned());
            self.room().written.insert(name);
        }
    }

    fn no_room(&mut self, limit: Limit, (used, is_held): (u64, bool)) -> Error {
        let error = Error::NoRoom { bytes: limit.bytes, is_held };
        let full_at = self.room().full_at;
        self.room().full_at = Some(full_at.map_or(used, |at| at.min(used)));
        if full_at.is_none() {
            log::error!("{error}");
            self.rows().monitor().filled(true);
        }
        error
    }

    /// A transaction begins: what was written before is like any other row.
    pub(super) fn begin_room(&mut self) {
        self.room().written.clear();
    }

    /// Looks at what a transaction leaves, before it ends.
    pub(super) fn look_at_room(&mut self) -> Result<(), Error> {
        let Some(limit) = self.room().limit else { return Ok(()) };
        let used = used(self.connection())?;
        let (warning, room) = (limit.warning(), limit.room());
        if used >= warning && !self.room().warned {
            self.room().warned = true;
            let percent = used * 100 / room;
            log::warn!(
                "{percent} % of what database.size ({}) allows is in use; beyond it, writes that need room are refused",
                config::write_size(limit.bytes)
            );
        } else if used < room / 10 * 8 {
            self.room().warned = false;
        }
        // For a large item there is no room long before there is none for a small one.
        let has_room = |at: u64| used + room / 64 < at.min(room);
        if self.room().full_at.is_some_and(has_room) && !self.has_long_log() {
            self.room().full_at = None;
            log::warn!("the database has room again");
            self.rows().monitor().filled(false);
        }
        Ok(())
    }

    /// Whether the log has grown beyond its part, so that the transaction should end.
    pub(super) fn has_long_log(&mut self) -> bool {
        self.room().limit.is_some() && self.log_size() > LOG as u64
    }

    /// Puts a log that has grown beyond its part into the file, unless somebody still reads of it.
    pub(super) fn shorten_log(&mut self) {
        if !self.has_long_log() {
            return;
        }
        let connection = self.connection();
        let shortened = connection.busy_timeout(Duration::ZERO).and_then(|()| {
            let shortened =
                connection.query_row("PRAGMA main.wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
            connection.busy_timeout(WAIT)?;
            shortened
        });
        match shortened {
            Ok(0) => {}
            Ok(_) => log::debug!("the database's log is long, and still read"),
            Err(error) => log::debug!("the database's log is long, and cannot be emptied: {error}"),
        }
    }

    fn log_size(&self) -> u64 {
        fs::metadata(sqlite::beside(self.rows().path(), "-wal")).map_or(0, |file| file.len())
    }

    fn shrink(&mut self) -> Result<(), Error> {
        let Some(limit) = self.room().limit else { return Ok(()) };
        limit.apply(self.connection())?;
        self.note_roots()
    }
}

impl Db {
    /// The bound of the file with its log, in bytes: `database.size`.
    pub fn limit(&self) -> Option<u64> {
        self.claim().limit().map(|limit| limit.bytes)
    }

    /// Writes the file anew when it is larger than its bound, and has less in it, 16 MB at most. Writes wait meanwhile.
    pub async fn shrink(&self) -> Result<(), Error> {
        match self.claim().limit() {
            Some(_) => self.alone(Editor::shrink).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use smol::block_on;

    use super::*;

    #[test]
    fn a_log_that_a_long_read_holds_is_bounded_and_goes_on_after_it() {
        let directory = std::env::temp_dir().join(format!("ioto-room-{}", std::process::id()));
        let options = config::Database { path: directory.join("device.db"), size: 4 << 20, ..Default::default() };
        let schema = "{models: {M: {id: {type: 'string'}, text: {type: 'string'}}}}";
        let db = Db::open(&options, crate::db::Schema::parse(schema, "schema").unwrap()).unwrap();
        let item = |text: &str| json!({"id": "a", "text": text.repeat(100_000)}).as_object().unwrap().clone();
        block_on(db.create("M", item("-"))).unwrap();
        let long = Connection::open(&options.path).unwrap();
        long.execute_batch("BEGIN; SELECT count(*) FROM m_M").unwrap();
        let texts = ["a", "b"].into_iter().cycle();
        let error = texts.take(1000).find_map(|text| block_on(db.update("M", "a", item(text))).err()).unwrap();
        assert!(matches!(error, Error::NoRoom { is_held: true, .. }), "{error}");
        assert!(db.file_size() <= options.size + (512 << 10), "{} bytes", db.file_size());
        // Removals are not refused.
        assert!(block_on(db.remove("M", "a")).unwrap());
        long.execute_batch("COMMIT").unwrap();
        assert!(db.health().is_full);
        block_on(db.create("M", item("c"))).unwrap();
        assert!(db.file_size() < 3 << 20 && !db.health().is_full);
        drop(db);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
