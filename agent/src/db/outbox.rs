//! The change log's tables: written with the row, in its transaction.

use rusqlite::{Connection, OptionalExtension, params};

use super::basis;
use super::changelog::{Outcome, Settlement};
use super::date;
use super::error::Error;
use super::generate::Generator;
use super::query::Item;

/// The tables beside those of the models.
///
/// - `_sync_state`: `site`, the counter `n`, and what the schema was when the file was last opened.
/// - `_sync_row`: what the cloud was last known to have of a row; also of a removed one (`deleted` 1), until that is settled or,
///   where rows come from the cloud as well, until the cloud was twice read as a whole without it: versions must not come twice. `deleted` 2: it was made anew since; 3: the
///   cloud was read once.
/// - `_sync_out`: the pending change of a row.
/// - `_sync_conflict`: both sides of conflicts.
/// - `_sync_basis`: what is needed to [merge](super::merge) a row whose change is pending, or to tell which change is later.
pub(super) const TABLES: &[&str] = &[
    "_sync_state (k TEXT PRIMARY KEY, v) WITHOUT ROWID",
    "_sync_row (model TEXT NOT NULL, key TEXT NOT NULL, base INTEGER NOT NULL DEFAULT 0, op BLOB, \
     deleted INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (model, key)) WITHOUT ROWID",
    "_sync_out (model TEXT NOT NULL, key TEXT NOT NULL, n INTEGER NOT NULL UNIQUE, op BLOB NOT NULL, \
     recorded INTEGER NOT NULL, PRIMARY KEY (model, key)) WITHOUT ROWID",
    "_sync_conflict (id INTEGER PRIMARY KEY, model TEXT NOT NULL, key TEXT NOT NULL, n INTEGER NOT NULL, \
     base INTEGER NOT NULL, mine TEXT, theirs TEXT, resolution TEXT NOT NULL, at INTEGER NOT NULL)",
    basis::TABLE,
];

/// Conflicts that are kept; the oldest go first.
const CONFLICTS: i64 = 1000;

/// Reads a value of `_sync_state`.
pub(super) fn state<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> Result<Option<T>, Error> {
    let mut statement = connection.prepare_cached("SELECT v FROM _sync_state WHERE k = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

/// Writes a value of `_sync_state`.
pub(super) fn set_state(connection: &Connection, name: &str, value: impl rusqlite::ToSql) -> Result<(), Error> {
    let sql = "INSERT INTO _sync_state (k, v) VALUES (?1, ?2) ON CONFLICT (k) DO UPDATE SET v = excluded.v";
    connection.prepare_cached(sql)?.execute(params![name, value])?;
    Ok(())
}

/// Reads all there is, to find what is no longer readable.
pub(super) fn read_all(connection: &Connection) -> Result<(), Error> {
    let sql = "SELECT model, key, n, op, recorded FROM _sync_out \
               UNION ALL SELECT model, key, base, coalesce(op, zeroblob(16)), deleted FROM _sync_row \
               UNION ALL SELECT model || resolution, key || coalesce(mine, '') || coalesce(theirs, ''), n + base, \
               zeroblob(16), at FROM _sync_conflict \
               UNION ALL SELECT model, key || coalesce(doc, ''), 0, zeroblob(16), changed FROM _sync_basis";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let _: (String, String, u64, [u8; 16], i64) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
    }
    Ok(())
}

/// The device's item and the cloud's, in a conflict, as they are stored.
pub(super) type Sides = (Option<String>, Option<String>);

/// Counts the changes and writes them down.
pub(super) struct Outbox {
    n: u64,
    saved: u64,
}

impl Outbox {
    /// Goes on where the file stopped counting.
    pub(super) fn open(connection: &Connection) -> Result<Self, Error> {
        let counted: Option<u64> = state(connection, "n")?;
        let used: Option<u64> = connection.query_row("SELECT max(n) FROM _sync_out", [], |row| row.get(0))?;
        let n = counted.unwrap_or(0).max(used.unwrap_or(0));
        Ok(Self { n, saved: n })
    }

    /// Records that a row changed or, `deleted`, is gone.
    pub(super) fn record(
        &mut self,
        connection: &Connection,
        generator: &mut Generator,
        (model, key): (&str, &str),
        deleted: bool,
    ) -> Result<(), Error> {
        let op: [u8; 16] = generator.bytes()?;
        self.n += 1;
        let sql = "INSERT INTO _sync_row (model, key, op, deleted) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT (model, key) DO UPDATE SET op = excluded.op, \
                   deleted = CASE WHEN excluded.deleted THEN 1 WHEN deleted THEN 2 ELSE 0 END";
        connection.prepare_cached(sql)?.execute(params![model, key, op, deleted])?;
        let sql = "INSERT INTO _sync_out (model, key, n, op, recorded) VALUES (?1, ?2, ?3, ?4, ?5) \
                   ON CONFLICT (model, key) DO UPDATE SET n = excluded.n, op = excluded.op";
        connection.prepare_cached(sql)?.execute(params![model, key, self.n, op, date::now()])?;
        Ok(())
    }

    /// The number of the last change.
    pub(super) fn last(&self) -> u64 {
        self.n
    }

    /// Forgets a row and its change.
    pub(super) fn forget(&self, connection: &Connection, (model, key): (&str, &str)) -> Result<(), Error> {
        for table in ["_sync_out", "_sync_row", "_sync_basis"] {
            let sql = format!("DELETE FROM {table} WHERE model = ?1 AND key = ?2");
            connection.prepare_cached(&sql)?.execute(params![model, key])?;
        }
        Ok(())
    }

    /// Writes the counter down, once for all changes of a transaction. The count goes on after a transaction that failed, so
    /// that no number is used twice. Returns whether there were changes.
    pub(super) fn save(&mut self, connection: &Connection) -> Result<bool, Error> {
        if self.n == self.saved {
            return Ok(false);
        }
        set_state(connection, "n", self.n)?;
        Ok(true)
    }

    /// The transaction is safe.
    pub(super) fn saved(&mut self) {
        self.saved = self.n;
    }
}

/// Carries out the part of a settlement that concerns these tables, where one side has the row; `comes_down` says whether rows
/// of this model come from the cloud as well, which may show what is past. Returns whether a change of the row waits.
pub(super) fn settle(connection: &Connection, settled: &Settlement, comes_down: bool) -> Result<bool, Error> {
    let Settlement { model, key, n, outcome, .. } = settled;
    // Only the change that was sent: a newer one of the same row has not been seen by the cloud.
    let is_queued = match outcome {
        Outcome::Applied | Outcome::Theirs(_) => {
            let sql = "DELETE FROM _sync_out WHERE model = ?1 AND key = ?2 AND n = ?3";
            let is_newest = connection.prepare_cached(sql)?.execute(params![model, key, n])? > 0;
            let sql = "SELECT 1 FROM _sync_out WHERE model = ?1 AND key = ?2";
            !is_newest && connection.prepare_cached(sql)?.exists(params![model, key])?
        }
        _ => true,
    };
    // A newer change was made without knowing theirs: its push must still find that it differs, to be logged as a conflict.
    if !(is_queued && matches!(outcome, Outcome::Theirs(_))) {
        move_base(connection, settled)?;
    }
    if matches!(outcome, Outcome::Applied) && !is_queued && !comes_down {
        let sql = "DELETE FROM _sync_row WHERE model = ?1 AND key = ?2 AND deleted = 1";
        connection.prepare_cached(sql)?.execute(params![model, key])?;
    }
    Ok(is_queued)
}

/// The row is known to have the version that is settled in the cloud.
pub(super) fn move_base(connection: &Connection, settled: &Settlement) -> Result<(), Error> {
    let Settlement { model, key, base, outcome, .. } = settled;
    // The cloud has the row now, so that it is not new to it any more; the base of one that the cloud removed stays, so that
    // a new row with this key can be told from it.
    let deleted = match outcome {
        Outcome::Applied => "iif(deleted = 2, 0, deleted)",
        Outcome::Rebase => "deleted",
        Outcome::Theirs(None) => "1",
        Outcome::Theirs(Some(_)) | Outcome::Merge { .. } | Outcome::Both(_) => "0",
    };
    let sql = format!(
        "INSERT INTO _sync_row (model, key, base, deleted) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (model, key) DO UPDATE SET base = excluded.base, deleted = {deleted}"
    );
    let is_removed = matches!(outcome, Outcome::Theirs(None));
    connection.prepare_cached(&sql)?.execute(params![model, key, base, is_removed])?;
    Ok(())
}

/// No change of the row waits any more.
pub(super) fn drop_change(connection: &Connection, model: &str, key: &str) -> Result<(), Error> {
    connection.prepare_cached("DELETE FROM _sync_out WHERE model = ?1 AND key = ?2")?.execute([model, key])?;
    Ok(())
}

/// Keeps both sides of a conflict.
pub(super) fn log_conflict(
    connection: &Connection,
    settled: &Settlement,
    (mine, theirs): Sides,
    resolution: &str,
) -> Result<(), Error> {
    let Settlement { model, key, n, base, .. } = settled;
    let sql = "INSERT INTO _sync_conflict (model, key, n, base, mine, theirs, resolution, at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let values = params![model, key, n, base, mine, theirs, resolution, date::now()];
    connection.prepare_cached(sql)?.execute(values)?;
    let sql = "DELETE FROM _sync_conflict WHERE id <= (SELECT max(id) FROM _sync_conflict) - ?1";
    connection.prepare_cached(sql)?.execute([CONFLICTS])?;
    Ok(())
}

/// An item as it is stored.
pub(super) fn document(item: &Item) -> String {
    serde_json::to_string(item).expect("a JSON map with string keys can always be written")
}
