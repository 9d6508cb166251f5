//! Items that are sealed, opened or sealed anew, because the schema or the key is another one.

use rusqlite::{Connection, params};
use serde_json::Value;

use super::editor::Editor;
use super::error::Error;
use super::outbox::{self, document};
use super::rows::{item, table};
use super::schema::{Model, Schema};
use super::seal::{Vault, is_sealed};

/// Rows that are sealed anew in a transaction.
const BATCH: usize = 200;

/// Brings what is stored into the form that the schema wants. `true`: something was plain until now, and the file has to be written
/// anew so that nothing of that is left in what is free of it.
pub(super) fn prepare(connection: &Connection, schema: &Schema, vault: &Vault) -> Result<bool, Error> {
    let mut was_plain = false;
    let before = |model: &Model| -> Result<Vec<String>, Error> {
        let text: Option<String> = outbox::state(connection, &format!("sealed:{}", model.name()))?;
        Ok(text.map(|text| text.split(' ').map(str::to_owned).collect()).unwrap_or_default())
    };
    let now = |model: &Model| -> Vec<String> {
        let sealed = model.fields().iter().filter(|field| field.encrypted());
        sealed.map(|field| field.name().to_owned()).collect()
    };
    let is_wanted = schema.models().any(|model| !now(model).is_empty());
    let used: Option<String> = outbox::state(connection, "key")?;
    if is_wanted {
        let first = vault.prepare(used.is_none())?;
        vault.expect(used.as_deref().or(first.as_deref()));
        // With a key that is not the right one, the name of that one has to stay known.
        if let Some(name) = first.filter(|_| vault.trouble().is_none()) {
            outbox::set_state(connection, "key", name)?;
        }
    }
    for model in schema.models().filter(|model| !model.process().memory) {
        let (before, now) = (before(model)?, now(model));
        if before == now {
            continue;
        }
        let (sealed, opened): (Vec<_>, Vec<_>) = (
            now.iter().filter(|name| !before.contains(name)).collect(),
            before.iter().filter(|name| !now.contains(name) && model.field(name).is_some()).collect(),
        );
        let changed = change(connection, model, |key, item| {
            for name in &sealed {
                if let Some(value) = item.get_mut(name.as_str()) {
                    *value = vault.seal_value(model, key, name, value)?;
                }
            }
            for name in &opened {
                if let Some(value) = item.get_mut(name.as_str()).filter(|value| is_sealed(value)) {
                    *value = vault.open_value(model, key, name, value)?;
                }
            }
            Ok(())
        })?;
        conceal_conflicts(connection, model)?;
        was_plain |= changed && !sealed.is_empty();
        outbox::set_state(connection, &format!("sealed:{}", model.name()), now.join(" "))?;
    }
    Ok(was_plain)
}

fn change(
    connection: &Connection,
    model: &Model,
    edit: impl Fn(&str, &mut super::Item) -> Result<(), Error>,
) -> Result<bool, Error> {
    let mut last = String::new();
    let mut changed = false;
    loop {
        let rows = after(connection, model, &last)?;
        for (key, text) in &rows {
            let before = item(text)?;
            let mut after = before.clone();
            edit(key, &mut after)?;
            if after != before {
                changed = true;
                let sql = format!("UPDATE {} SET doc = ?2 WHERE key = ?1", table(model));
                connection.prepare_cached(&sql)?.execute(params![key, document(&after)])?;
            }
        }
        match rows.into_iter().last() {
            Some((key, _)) => last = key,
            None => return Ok(changed),
        }
    }
}

fn after(connection: &Connection, model: &Model, key: &str) -> Result<Vec<(String, String)>, Error> {
    let sql = format!("SELECT key, doc FROM {} WHERE key > ?1 ORDER BY key LIMIT {BATCH}", table(model));
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([key], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The conflict log has items as they were then, and so has the basis of a merge: they are not kept plain for that.
fn conceal_conflicts(connection: &Connection, model: &Model) -> Result<(), Error> {
    connection.execute("DELETE FROM _sync_conflict WHERE model = ?1", [model.name()])?;
    connection.execute("UPDATE _sync_basis SET doc = NULL WHERE model = ?1", [model.name()])?;
    Ok(())
}

impl Editor {
    /// Seals some of a model's rows with the first key that were sealed with another, those after a key; returns where to go on.
    pub(super) fn reseal(&mut self, model: &Model, after_key: &str) -> Result<Option<String>, Error> {
        let vault = self.rows().vault();
        let rows = after(self.connection(), model, after_key)?;
        for (key, text) in &rows {
            let mut item = item(text)?;
            let mut is_changed = false;
            for field in model.fields().iter().filter(|field| field.encrypted()) {
                let Some(value) = item.get_mut(field.name()) else { continue };
                if is_sealed(value) && !vault.is_current(value) {
                    let open = vault.open_value(model, key, field.name(), value)?;
                    *value = vault.seal_value(model, key, field.name(), &open)?;
                    is_changed = true;
                }
            }
            if is_changed {
                self.put(model, key, &item, document(&item))?;
            }
        }
        Ok(rows.into_iter().last().map(|(key, _)| key))
    }

    /// The same for the conflict log, as a whole; what cannot be opened is left out of it.
    pub(super) fn reseal_conflicts(&mut self) -> Result<(), Error> {
        let schema = self.schema();
        let sql = "SELECT id, model, key, mine, theirs FROM _sync_conflict";
        let mut statement = self.connection().prepare(sql)?;
        type Row = (i64, String, String, Option<String>, Option<String>);
        let rows =
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
        let rows: Vec<Row> = rows.collect::<Result<_, _>>()?;
        for (id, model, key, mine, theirs) in rows {
            let Some(model) = schema.model(&model).filter(|model| model.has_encrypted()) else { continue };
            let side = |text: Option<String>| -> Result<Option<String>, Error> {
                let Some(text) = text else { return Ok(None) };
                let item = self.rows().item_leniently(model, &key, &text)?;
                self.rows().sealed_document(model, &key, &item).map(Some)
            };
            let (mine, theirs) = (side(mine)?, side(theirs)?);
            let sql = "UPDATE _sync_conflict SET mine = ?2, theirs = ?3 WHERE id = ?1";
            self.connection().execute(sql, params![id, mine, theirs])?;
        }
        Ok(())
    }

    /// The name of the key that is used now is kept: without its file no other one is made.
    pub(super) fn note_key(&mut self) -> Result<(), Error> {
        match self.rows().vault().prepare(false)? {
            Some(name) => {
                self.rows().vault().expect(Some(&name));
                outbox::set_state(self.connection(), "key", Value::from(name).as_str())
            }
            None => Ok(()),
        }
    }
}
