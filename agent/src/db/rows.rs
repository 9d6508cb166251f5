//! Rows: how items lie in SQLite, and all that only reads them.
//!
//! A model is one table `m_MODEL` with a JSON document in each row. So an item keeps fields that this schema does not know,
//! which an older firmware must not lose, and a new field needs no migration. Secondary indexes are indexes on an expression.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::changelog::{Backlog, Conflict, LoggedConflict, Pending};
use super::claim::Claim;
use super::date;
use super::error::Error;
use super::health::Monitor;
use super::kept;
use super::outbox::document;
use super::query::{Item, MAX_PAGE};
use super::schema::{Model, Schema};
use super::schema_process::{PRIORITIES, Priority};
use super::seal::{Unopened, Vault};
use super::store;
use super::worker::Owner;

/// The pending changes of some models, oldest first, along the index of their numbers. The `+` keeps SQLite from looking for
/// models first and sorting all their changes afterwards, which takes long and much memory when a million are pending, …
const PENDING: &str =
    "SELECT model, key, n FROM _sync_out WHERE +model IN (SELECT value FROM json_each(?1)) ORDER BY n";
/// … and without it, for a few changes among very many others.
const FEW_PENDING: &str =
    "SELECT model, key, n FROM _sync_out WHERE model IN (SELECT value FROM json_each(?1)) ORDER BY n";
/// So many are a few.
const FEW: u64 = 1000;
/// What there is to know about a pending change.
const CHANGE: &str = "SELECT o.op, coalesce(r.base, 0), o.recorded, coalesce(r.deleted, 0) = 2, coalesce(b.changed, 0) \
                      FROM _sync_out AS o LEFT JOIN _sync_row AS r USING (model, key) \
                      LEFT JOIN _sync_basis AS b USING (model, key) WHERE o.model = ?1 AND o.key = ?2";

/// A connection that reads.
pub(super) struct Rows {
    pub(super) connection: Connection,
    schema: Arc<Schema>,
    /// The models whose changes go to the cloud, as a JSON array.
    upward: String,
    /// The same by priority, the highest first.
    levels: Vec<String>,
    claim: Arc<Claim>,
}

impl Owner for Rows {
    fn attempt<T>(&mut self, operation: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let result = operation(self);
        self.watch(result)
    }
}

/// The table of a model. Model names are letters, digits and underscores, so quoting them is enough.
pub(super) fn table(model: &Model) -> String {
    match model.process().memory {
        true => format!("mem.\"m_{}\"", model.name()),
        false => format!("\"m_{}\"", model.name()),
    }
}

/// A field of a document as an SQL expression; the same text in an index and a query makes SQLite use the index.
pub(super) fn column(field: &str) -> String {
    format!("json_extract(doc, '$.{field}')")
}

/// A stored document. One that is not a JSON object was not written by us.
pub(super) fn item(text: &str) -> Result<Item, Error> {
    serde_json::from_str(text).map_err(|error| Error::damage(&format!("a row is no JSON object: {error}")))
}

impl Rows {
    pub(super) fn new(connection: Connection, schema: Arc<Schema>, claim: Arc<Claim>) -> Self {
        let upward: Vec<_> = schema.models().filter(|model| model.sync().up()).collect();
        let names = |level: &[Priority]| {
            let of_level = upward.iter().filter(|model| level.contains(&model.process().priority));
            Value::from_iter(of_level.map(|model| model.name())).to_string()
        };
        let mut levels = Vec::from(PRIORITIES.map(|priority| names(&[priority])));
        levels.retain(|models| models != "[]");
        Self { upward: names(&PRIORITIES), levels, connection, schema, claim }
    }

    /// Passes a result on; one that says that the file is damaged has it recovered.
    pub(super) fn watch<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| match error.is_corrupt() {
            true => {
                self.claim.suspect(&error);
                Error::Damaged(error.to_string())
            }
            false => error,
        })
    }

    pub(super) fn monitor(&self) -> &Monitor {
        self.claim.monitor()
    }

    pub(super) fn path(&self) -> &Path {
        self.claim.path()
    }

    pub(super) fn note_roots(&self) -> Result<(), Error> {
        self.claim.note_roots(store::roots(&self.connection)?);
        Ok(())
    }

    /// Refuses what belongs to an earlier file.
    pub(super) fn demand_generation(&self, pinned: Option<u64>) -> Result<(), Error> {
        match pinned {
            Some(generation) if generation != self.claim.monitor().generation() => Err(Error::Replaced),
            _ => Ok(()),
        }
    }

    /// The item, unless its time is over.
    pub(super) fn get(&self, model: &Model, key: &str) -> Result<Option<Item>, Error> {
        let sql = format!("SELECT doc FROM {} WHERE key = ?1 AND (expires IS NULL OR expires > ?2)", table(model));
        let mut statement = self.connection.prepare_cached(&sql)?;
        let found =
            statement.query_row(params![key, date::now()], |row| Ok(self.item(model, key, row.get_ref(0)?.as_str()?)));
        found.optional()?.transpose()
    }

    /// The item, also when its time is over, for those who watch: without what cannot be opened.
    pub(super) fn stored(&self, model: &Model, key: &str) -> Result<Option<Item>, Error> {
        let sql = format!("SELECT doc FROM {} WHERE key = ?1", table(model));
        let mut statement = self.connection.prepare_cached(&sql)?;
        let found = statement.query_row([key], |row| Ok(self.item_leniently(model, key, row.get_ref(0)?.as_str()?)));
        found.optional()?.transpose()
    }

    /// Texts that are kept beside the models.
    pub(super) fn kept(&self, space: &str) -> Result<Vec<(Vec<u8>, String)>, Error> {
        kept::all(&self.connection, space)
    }

    pub(super) fn count(&self, model: &Model) -> Result<u64, Error> {
        let sql = format!("SELECT count(*) FROM {} WHERE expires IS NULL OR expires > ?1", table(model));
        Ok(self.connection.prepare_cached(&sql)?.query_row([date::now()], |row| row.get(0))?)
    }

    /// An item as it was before it was stored.
    pub(super) fn item(&self, model: &Model, key: &str, text: &str) -> Result<Item, Error> {
        self.item_with(model, key, text, &[])
    }

    /// The same, of which only these fields are wanted; all when there are none.
    pub(super) fn item_with(&self, model: &Model, key: &str, text: &str, fields: &[String]) -> Result<Item, Error> {
        let mut item = item(text)?;
        self.vault().open(model, key, &mut item, (fields, Unopened::Refused))?;
        Ok(item)
    }

    /// The same without the fields that are encrypted and cannot be opened.
    pub(super) fn item_leniently(&self, model: &Model, key: &str, text: &str) -> Result<Item, Error> {
        let mut item = item(text)?;
        self.vault().open(model, key, &mut item, (&[], Unopened::LeftOut))?;
        Ok(item)
    }

    /// An item as it is stored.
    pub(super) fn sealed_document(&self, model: &Model, key: &str, item: &Item) -> Result<String, Error> {
        if !model.has_encrypted() {
            return Ok(document(item));
        }
        let mut item = item.clone();
        self.vault().seal(model, key, &mut item)?;
        Ok(document(&item))
    }

    pub(super) fn vault(&self) -> &Vault {
        self.claim.vault()
    }

    pub(super) fn pending(&self, limit: usize, exclude: &HashSet<(String, String)>) -> Result<Vec<Pending>, Error> {
        // Row and change must be of the same moment: without a transaction a write could come between the queries.
        let moment = self.connection.unchecked_transaction()?;
        let (mut pending, mut size) = (Vec::new(), 0);
        for models in &self.levels {
            // The usual case needs no count.
            let are_few = self.levels.len() > 1 && self.are_few(models)?;
            let mut statement = self.connection.prepare_cached(if are_few { FEW_PENDING } else { PENDING })?;
            let mut rows = statement.query([models])?;
            while let Some(row) = rows.next()? {
                if pending.len() >= limit || size >= MAX_PAGE {
                    break;
                }
                let name = (row.get(0)?, row.get(1)?);
                if exclude.contains(&name) {
                    continue;
                }
                if let Some((change, bytes)) = self.change(name, row.get(2)?)? {
                    size += bytes;
                    pending.push(change);
                }
            }
        }
        moment.commit()?;
        Ok(pending)
    }

    fn are_few(&self, models: &str) -> Result<bool, Error> {
        let sql = "SELECT count(*) FROM \
                   (SELECT 1 FROM _sync_out WHERE model IN (SELECT value FROM json_each(?1)) LIMIT ?2)";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row(params![models, FEW + 1], |row| row.get::<_, u64>(0))? <= FEW)
    }

    /// A pending change with its row, and the bytes of its document; nothing when the row cannot be opened.
    fn change(&self, (model, key): (String, String), n: u64) -> Result<Option<(Pending, usize)>, Error> {
        let unknown = || Error::damage("the change log names a model that it cannot have");
        let of_schema = self.schema.model(&model).ok_or_else(unknown)?;
        let mut size = 0;
        let sql = format!("SELECT doc FROM {} WHERE key = ?1", table(of_schema));
        let document = self.connection.prepare_cached(&sql)?.query_row([&key], |row| {
            let text = row.get_ref(0)?.as_str()?;
            size = text.len();
            Ok(self.item(of_schema, &key, text))
        });
        let item = match document.optional()?.transpose() {
            // Without the field, the cloud would lose it: the row waits for its key.
            Err(error @ Error::Sealed { .. }) => {
                log::warn!("not sent to the cloud: {error}");
                return Ok(None);
            }
            item => item?,
        };
        let mut statement = self.connection.prepare_cached(CHANGE)?;
        let (op, base, recorded, is_anew, changed) = statement
            .query_row([&model, &key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
        Ok(Some((Pending { model, key, n, op, base, is_anew, item, changed, recorded }, size)))
    }

    pub(super) fn backlog(&self) -> Result<Backlog, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT count(*), min(recorded), (SELECT count(*) FROM _sync_conflict) FROM _sync_out \
             WHERE model IN (SELECT value FROM json_each(?1))",
        )?;
        let backlog = |row: &Row<'_>| Ok(Backlog { rows: row.get(0)?, oldest: row.get(1)?, conflicts: row.get(2)? });
        Ok(statement.query_row([&self.upward], backlog)?)
    }

    pub(super) fn conflicts(&self, limit: usize) -> Result<Vec<LoggedConflict>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT model, key, n, base, mine, theirs, resolution, at FROM _sync_conflict ORDER BY id DESC LIMIT ?1",
        )?;
        let mut rows = statement.query([i64::try_from(limit).unwrap_or(i64::MAX)])?;
        let mut conflicts = Vec::new();
        while let Some(row) = rows.next()? {
            let (name, key): (String, String) = (row.get(0)?, row.get(1)?);
            let side = |text: Option<String>| match (text, self.schema.model(&name)) {
                (Some(text), Some(model)) => self.item_leniently(model, &key, &text).map(Some),
                (text, _) => text.as_deref().map(item).transpose(),
            };
            conflicts.push(LoggedConflict {
                model: name.clone(),
                key: key.clone(),
                n: row.get(2)?,
                base: row.get(3)?,
                conflict: Conflict { mine: side(row.get(4)?)?, theirs: side(row.get(5)?)? },
                resolution: row.get(6)?,
                at: row.get(7)?,
            });
        }
        Ok(conflicts)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::db::outbox::TABLES;

    #[test]
    fn pending_changes_are_not_sorted_but_read_in_their_order() {
        let connection = Connection::open_in_memory().unwrap();
        TABLES.iter().for_each(|table| connection.execute_batch(&format!("CREATE TABLE {table}")).unwrap());
        let plan = |sql| {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let plan = statement.query_map(["[]"], |row| row.get(3)).unwrap();
            plan.collect::<Result<Vec<String>, _>>().unwrap()
        };
        let all = plan(PENDING);
        assert!(all[0].starts_with("SCAN _sync_out USING INDEX"), "{all:?}");
        assert!(!all.iter().any(|step| step.contains("TEMP B-TREE")), "{all:?}");
        let few = plan(FEW_PENDING);
        assert!(few[0].starts_with("SEARCH _sync_out USING PRIMARY KEY"), "{few:?}");
    }
}
