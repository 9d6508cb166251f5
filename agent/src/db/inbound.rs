//! What comes from the cloud: items that somebody wrote there become rows, and how far the cloud was read is kept with them.
//!
//! A row with a pending change is left alone: its push finds that the cloud has another version, and that conflict is decided
//! there. What is applied is no change of the device, so nothing of it goes back.

use std::collections::{BTreeMap, HashSet};

use rusqlite::{OptionalExtension, params};
use serde_json::Value;

use super::date;
use super::editor::Editor;
use super::error::Error;
use super::outbox;
use super::query::{Item, MAX_ITEM};
use super::rows::{Rows, table};
use super::schema::{Model, Sync};

/// The version of an item that is there and cannot be read: the row stays as it is.
pub const UNREADABLE: u64 = 0;

/// An item of the cloud as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// The model of the row.
    pub model: String,
    /// The key of the row.
    pub key: String,
    /// The version of the item; nothing where somebody wrote without counting, and [`UNREADABLE`] where it is no item of ours.
    pub version: Option<u64>,
    /// The document; `None`: it was removed.
    pub item: Option<Item>,
}

/// What is applied in one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// What was read.
    pub items: Vec<Incoming>,
    /// The items are all that the cloud has of this range, as it was when it was asked: rows in it that it does not have are
    /// removed, and a lower version than the known one is one that was made anew.
    pub range: Option<Range>,
    /// Up to where the changes of all models were read; nothing when that is as before.
    pub watermark: Option<String>,
    /// The range ends a model: it was read as a whole.
    pub is_whole: bool,
    /// The whole is read as planned, long after the last time, and not because of a hint: of rows that are gone on both sides for so
    /// long nothing needs to be known any more.
    pub is_planned: bool,
}

/// A part of the rows of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The model.
    pub model: String,
    /// Keys behind this one; all from the first on when there is none.
    pub after: Option<String>,
    /// Up to this key, and with it; all to the last when there is none.
    pub to: Option<String>,
}

/// How far the cloud was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Up to where the changes of all models were read.
    pub watermark: Option<String>,
    /// When a model was last read as a whole, milliseconds of UTC.
    pub whole: BTreeMap<String, i64>,
    /// What was used of the byte budget.
    pub usage: Option<Usage>,
}

/// What replication sent and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Since when, in milliseconds of UTC.
    pub begun: i64,
    /// Bytes.
    pub bytes: u64,
}

/// Rows whose change was settled since a range was asked for: the range may not have them yet.
#[derive(Default)]
pub(super) struct Fresh(Option<HashSet<(String, String)>>);

impl Fresh {
    pub(super) fn watch(&mut self) {
        self.0 = Some(HashSet::new());
    }

    pub(super) fn settled(&mut self, model: &str, key: &str) {
        if let Some(rows) = &mut self.0 {
            rows.insert((model.to_owned(), key.to_owned()));
        }
    }

    /// Those of a model. Watching ends.
    fn take(&mut self, model: &str) -> Vec<String> {
        let rows = self.0.take().unwrap_or_default();
        rows.into_iter().filter(|(of, _)| of == model).map(|(_, key)| key).collect()
    }
}

impl Batch {
    /// Only what was removed in the cloud: that needs no room, and may be applied again.
    pub(super) fn removals(&self) -> Self {
        let items = self.items.iter().filter(|incoming| incoming.item.is_none()).cloned().collect();
        Self { items, ..Self::default() }
    }

    pub(super) fn is_removal(&self) -> bool {
        self.items.iter().all(|incoming| incoming.item.is_none())
    }
}

impl Editor {
    /// Applies a batch; returns how many rows it changed.
    pub(super) fn apply(&mut self, batch: &Batch) -> Result<u64, Error> {
        let schema = self.schema();
        let fresh = batch.range.as_ref().map(|range| self.fresh().take(&range.model));
        let mut changed = 0;
        for incoming in &batch.items {
            // A newer firmware may know models that this one does not.
            if let Some(model) = schema.model(&incoming.model).filter(|model| model.sync().down()) {
                changed += u64::from(self.take(model, incoming, fresh.as_deref())?);
            }
        }
        if let Some(range) = &batch.range {
            let model = schema.demand(&range.model)?;
            changed += self.remove_absent(model, range, batch, fresh.unwrap_or_default())?;
            if batch.is_whole {
                outbox::set_state(self.connection(), &format!("whole:{}", model.name()), date::now())?;
            }
        }
        if let Some(watermark) = &batch.watermark {
            outbox::set_state(self.connection(), "watermark", watermark)?;
        }
        Ok(changed)
    }

    /// Makes the item the row, unless it is known already. An index may be behind, so what comes from there is taken when it is
    /// newer; what comes from a range is as it was at that moment, so that it is the row unless that is `fresh`: also under
    /// the same version, which may have come twice where somebody does not count.
    fn take(&mut self, model: &Model, incoming: &Incoming, fresh: Option<&[String]>) -> Result<bool, Error> {
        let Incoming { key, version, item, .. } = incoming;
        if model.sync().up() && self.is_pending(model, key)? {
            return Ok(false);
        }
        let base = self.base(model, key)?;
        let is_fresh = fresh.is_some_and(|fresh| fresh.contains(key));
        let is_known = |version: u64| match fresh {
            None => version <= base,
            Some(_) => version == UNREADABLE || version <= base && is_fresh,
        };
        // What nobody counted may be older than what the device wrote meanwhile.
        if version.map_or(is_fresh, is_known) {
            return Ok(false);
        }
        let item = item.clone().map(|item| with_key(model, key, item));
        if version.unwrap_or(base) == base && self.rows().get(model, key)? == item {
            return Ok(false);
        }
        let before = self.before(model, key)?;
        match &item {
            Some(item) => {
                let text = self.rows().sealed_document(model, key, item)?;
                if text.len() > MAX_ITEM {
                    log::error!("{} {key} of the cloud has {} bytes; it is left out", model.name(), text.len());
                    return Ok(false);
                }
                self.put(model, key, item, text)?;
                self.wrote(model, key);
            }
            None => drop(self.delete(model, key)?),
        }
        self.note(model, key, before, item.as_ref());
        let sql = "INSERT INTO _sync_row (model, key, base, deleted) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT (model, key) DO UPDATE SET base = excluded.base, deleted = excluded.deleted";
        let values = params![model.name(), key, version.unwrap_or(base), item.is_none()];
        self.connection().prepare_cached(sql)?.execute(values)?;
        Ok(true)
    }

    /// Removes the rows of a range that the cloud does not have: somebody deleted them for good, or their tombstones ended.
    /// A row that the cloud never had, or never counted, stays, unless the model belongs to the cloud.
    fn remove_absent(&mut self, model: &Model, range: &Range, batch: &Batch, fresh: Vec<String>) -> Result<u64, Error> {
        let mut present = fresh;
        present.extend(batch.items.iter().filter(|item| item.model == model.name()).map(|item| item.key.clone()));
        let present = Value::from(present).to_string();
        let within = "key > ?2 AND (?3 IS NULL OR key <= ?3) AND key NOT IN (SELECT value FROM json_each(?4))";
        let idle = "NOT EXISTS (SELECT 1 FROM _sync_out o WHERE o.model = ?1 AND o.key = t.key)";
        let known = "EXISTS (SELECT 1 FROM _sync_row r WHERE r.model = ?1 AND r.key = t.key AND r.base > 0)";
        let owned = if model.sync() == Sync::Down { "true".to_owned() } else { format!("{idle} AND {known}") };
        let values = params![model.name(), range.after.as_deref().unwrap_or(""), range.to, present];
        let sql = format!("DELETE FROM {} AS t WHERE {within} AND {owned} RETURNING key, doc", table(model));
        let mut statement = self.connection().prepare_cached(&sql)?;
        let removed = statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let removed = removed.collect::<Result<Vec<(String, String)>, _>>()?;
        drop(statement);
        let gone = format!("model = ?1 AND {within} AND {idle}");
        // Where the device writes as well, the version stays for a while: an index that is behind may still have it.
        let forgetting: &[String] = &match (model.sync(), batch.is_planned) {
            (Sync::Down, _) => vec![format!("DELETE FROM _sync_row AS t WHERE model = ?1 AND {within}")],
            (_, false) => {
                vec![format!("UPDATE _sync_row AS t SET deleted = max(deleted, 1) WHERE {gone} AND base > 0")]
            }
            (_, true) => vec![
                format!("DELETE FROM _sync_row AS t WHERE {gone} AND deleted = 3"),
                format!("UPDATE _sync_row AS t SET deleted = iif(deleted, 3, 1) WHERE {gone} AND base > 0"),
            ],
        };
        for sql in forgetting {
            let mut statement = self.connection().prepare_cached(sql)?;
            statement.execute(values)?;
        }
        let count = removed.len() as u64;
        for (key, text) in removed {
            let before = self.rows().item_leniently(model, &key, &text)?;
            self.note(model, &key, Some(before), None);
        }
        Ok(count)
    }

    pub(super) fn is_pending(&self, model: &Model, key: &str) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM _sync_out WHERE model = ?1 AND key = ?2";
        Ok(self.connection().prepare_cached(sql)?.exists(params![model.name(), key])?)
    }

    /// The version that the row was last known to have in the cloud; 0: none.
    fn base(&self, model: &Model, key: &str) -> Result<u64, Error> {
        let sql = "SELECT base FROM _sync_row WHERE model = ?1 AND key = ?2";
        let mut statement = self.connection().prepare_cached(sql)?;
        Ok(statement.query_row(params![model.name(), key], |row| row.get(0)).optional()?.unwrap_or(0))
    }
}

impl Rows {
    /// How far the cloud was read.
    pub(super) fn progress(&self) -> Result<Progress, Error> {
        let mut progress = Progress { watermark: outbox::state(&self.connection, "watermark")?, ..Progress::default() };
        let sql = "SELECT substr(k, 7), v FROM _sync_state WHERE k GLOB 'whole:*'";
        let mut statement = self.connection.prepare_cached(sql)?;
        let whole = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        progress.whole = whole.collect::<Result<_, _>>()?;
        let usage: Option<String> = outbox::state(&self.connection, "usage")?;
        progress.usage = usage.and_then(|text| {
            let (begun, bytes) = text.split_once(' ')?;
            Some(Usage { begun: begun.parse().ok()?, bytes: bytes.parse().ok()? })
        });
        Ok(progress)
    }
}

/// The key stands in the item as well; who writes in the cloud may have left it out.
pub(super) fn with_key(model: &Model, key: &str, mut item: Item) -> Item {
    item.insert(model.key().name().to_owned(), key.into());
    item
}
