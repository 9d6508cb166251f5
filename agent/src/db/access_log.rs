//! The access log of the web server as a table of its own: no model, not replicated, and never more than it may be.

use rusqlite::{OptionalExtension, params};

use super::date;
use super::editor::Editor;
use super::error::Error;
use super::rows::Rows;

/// Made when the first line comes. Numbers go up with time.
const MAKE: &str =
    "CREATE TABLE IF NOT EXISTS _access_log (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, line TEXT NOT NULL) STRICT";

/// What the table may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessBounds {
    /// Lines.
    pub rows: u64,
    /// Milliseconds that a line is kept.
    pub age: i64,
}

impl Editor {
    /// Adds lines, and removes those that are too old or too many.
    pub(super) fn add_access(&mut self, lines: &[String], bounds: AccessBounds) -> Result<(), Error> {
        let connection = self.connection();
        connection.execute_batch(MAKE)?;
        let now = date::now();
        let mut insert = connection.prepare_cached("INSERT INTO _access_log (at, line) VALUES (?1, ?2)")?;
        // Those that would be removed at once are not written.
        let rows = i64::try_from(bounds.rows).unwrap_or(i64::MAX);
        let skipped = lines.len().saturating_sub(usize::try_from(rows).unwrap_or(usize::MAX));
        for line in lines.iter().skip(skipped) {
            insert.execute(params![now, line])?;
        }
        let sql = "DELETE FROM _access_log WHERE n <= (SELECT max(n) FROM _access_log) - ?1";
        connection.prepare_cached(sql)?.execute([rows])?;
        // Lines stand in the order of time: the newest that is too old ends those that are.
        let old = "SELECT n FROM _access_log WHERE at < ?1 ORDER BY n DESC LIMIT 1";
        let since = now.saturating_sub(bounds.age);
        let last: Option<i64> = match oldest(connection)? {
            Some(oldest) if oldest < since => {
                connection.prepare_cached(old)?.query_row([since], |row| row.get(0)).optional()?
            }
            _ => None,
        };
        if let Some(last) = last {
            connection.prepare_cached("DELETE FROM _access_log WHERE n <= ?1")?.execute([last])?;
        }
        Ok(())
    }
}

fn oldest(connection: &rusqlite::Connection) -> Result<Option<i64>, Error> {
    let sql = "SELECT at FROM _access_log ORDER BY n LIMIT 1";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?)
}

impl Rows {
    /// The newest lines, newest first.
    pub(super) fn access_log(&self, limit: usize) -> Result<Vec<String>, Error> {
        let known = "SELECT 1 FROM sqlite_schema WHERE name = '_access_log'";
        if self.connection.prepare_cached(known)?.query_row([], |_| Ok(())).optional()?.is_none() {
            return Ok(Vec::new());
        }
        let mut statement = self.connection.prepare_cached("SELECT line FROM _access_log ORDER BY n DESC LIMIT ?1")?;
        let lines = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| row.get(0))?;
        Ok(lines.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use smol::block_on;

    use super::super::{Db, Schema};
    use super::*;
    use crate::config;

    #[test]
    fn only_the_newest_lines_are_kept_and_not_for_ever() {
        let directory = std::env::temp_dir().join(format!("ioto-access-db-{}", std::process::id()));
        let options = config::Database { path: directory.join("device.db"), ..Default::default() };
        let db = Db::open(&options, Schema::default()).unwrap();
        assert!(block_on(db.access_log(10)).unwrap().is_empty());
        let add = |from: usize, to: usize, bounds| {
            block_on(db.add_access((from..to).map(|n| n.to_string()).collect(), bounds)).unwrap();
        };
        let bounds = AccessBounds { rows: 5, age: 60_000 };
        add(0, 3, bounds);
        assert_eq!(block_on(db.access_log(2)).unwrap(), ["2", "1"]);
        add(3, 7, bounds);
        assert_eq!(block_on(db.access_log(100)).unwrap(), ["6", "5", "4", "3", "2"]);
        add(7, 1000, bounds);
        assert_eq!(block_on(db.access_log(100)).unwrap(), ["999", "998", "997", "996", "995"]);
        std::thread::sleep(std::time::Duration::from_millis(20));
        add(1000, 1001, AccessBounds { rows: 100, age: 10 });
        assert_eq!(block_on(db.access_log(100)).unwrap(), ["1000"]);
        drop(db);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
