//! How much of a model the device keeps: `process.MODEL.caps`.
//!
//! Rows and bytes are counted by temporary triggers in a temporary table, which costs no write to the disk and is undone with
//! the transaction. Items that replicate down are counted, but never refused.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::editor::Editor;
use super::error::Error;
use super::room::Limit;
use super::rows::table;
use super::schema::{Model, Schema};
use super::schema_process::{Full, Mode};

/// Begins to count, on the connection that writes.
pub(super) fn prepare(connection: &Connection, schema: &Schema, limit: Option<Limit>) -> Result<(), Error> {
    let may_drop = |model: &Model| limit.is_some_and(|limit| limit.may_drop(model));
    let is_counted = |model: &&Arc<Model>| !model.process().caps.is_unlimited() || may_drop(model);
    let capped: Vec<_> = schema.models().filter(is_counted).collect();
    if capped.is_empty() {
        return Ok(());
    }
    connection.execute_batch("CREATE TEMP TABLE _size (model TEXT PRIMARY KEY, rows INTEGER, bytes INTEGER)")?;
    for model in capped {
        let (name, space) = (model.name(), if model.process().memory { "mem" } else { "main" });
        let count = format!(
            "INSERT INTO temp._size SELECT '{name}', count(*), coalesce(sum(octet_length(doc)), 0) FROM {}",
            table(model)
        );
        connection.execute(&count, [])?;
        for (when, rows, bytes) in [
            ("INSERT", "+ 1", "+ octet_length(new.doc)"),
            ("DELETE", "- 1", "- octet_length(old.doc)"),
            ("UPDATE", "+ 0", "+ octet_length(new.doc) - octet_length(old.doc)"),
        ] {
            connection.execute_batch(&format!(
                "CREATE TEMP TRIGGER \"t_{name}.{when}\" AFTER {when} ON {space}.\"m_{name}\" BEGIN \
                 UPDATE _size SET rows = rows {rows}, bytes = bytes {bytes} WHERE model = '{name}'; END"
            ))?;
        }
    }
    Ok(())
}

impl Editor {
    /// Refuses what was just written when there is no room for it, or makes room.
    pub(super) fn keep_bounds(&mut self, model: &Model, key: &str) -> Result<(), Error> {
        self.wrote(model, key);
        let process = model.process();
        if process.caps.is_unlimited() {
            return Ok(());
        }
        loop {
            let sql = "SELECT rows, bytes FROM temp._size WHERE model = ?1";
            let mut statement = self.connection().prepare_cached(sql)?;
            let (rows, bytes): (u64, u64) =
                statement.query_row([model.name()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            drop(statement);
            let bound = match (process.caps.rows, process.caps.bytes) {
                (Some(most), _) if rows > most => format!("{most} rows"),
                (_, Some(most)) if bytes > most => format!("{most} bytes"),
                _ => return Ok(()),
            };
            let oldest = match process.caps.full {
                Full::Block => None,
                Full::DropOldest => self.lowest_but(model, key)?,
            };
            let Some(oldest) = oldest else { return Err(Error::Capped { model: model.name().into(), bound }) };
            self.drop_row(model, &oldest, process.mode == Mode::Journal)?;
        }
    }

    fn lowest_but(&self, model: &Model, key: &str) -> Result<Option<String>, Error> {
        let sql = format!("SELECT key FROM {} WHERE key <> ?1 ORDER BY key LIMIT 1", table(model));
        let mut statement = self.connection().prepare_cached(&sql)?;
        Ok(statement.query_row(params![key], |row| row.get(0)).optional()?)
    }
}
