//! What the policies `merge` and `lww` need to know of a row whose change waits: what it was before, and when it changed.

use rusqlite::{OptionalExtension, params};

use super::date;
use super::editor::Editor;
use super::error::Error;
use super::outbox;
use super::query::Item;
use super::rows::table;
use super::schema::{Model, Sync};
use super::schema_process::Policy;

/// For `lww`: `changed` is when the device changed the row last, in milliseconds of UTC. For `merge`: `doc` is the document as the
/// cloud was last known to have it, as it is stored, none where it had none; `changed` is the number of the last change of the
/// device that may be in it.
pub(super) const TABLE: &str = "_sync_basis (model TEXT NOT NULL, key TEXT NOT NULL, changed INTEGER NOT NULL, doc TEXT, \
                                PRIMARY KEY (model, key)) WITHOUT ROWID";

/// Whether conflicts of the model are decided so.
fn decides(model: &Model, policy: Policy) -> bool {
    model.sync() == Sync::Both && model.conflict() == policy
}

impl Editor {
    /// Keeps the row as it is, if it is about to get its first change that the cloud does not know.
    pub(super) fn keep_basis(&self, model: &Model, key: &str) -> Result<(), Error> {
        if !decides(model, Policy::Merge) {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO _sync_basis (model, key, changed, doc) SELECT ?1, key, ?3, doc FROM {} WHERE key = ?2 \
             AND NOT EXISTS (SELECT 1 FROM _sync_out AS o WHERE o.model = ?1 AND o.key = ?2) \
             ON CONFLICT (model, key) DO UPDATE SET changed = excluded.changed, doc = excluded.doc",
            table(model)
        );
        self.connection().prepare_cached(&sql)?.execute(params![model.name(), key, self.last_change()])?;
        Ok(())
    }

    /// Notes when the row changed, behind all that was read from the cloud: the device changed it after that, whatever its clock
    /// says.
    pub(super) fn note_time(&self, model: &Model, key: &str) -> Result<(), Error> {
        if !decides(model, Policy::Lww) {
            return Ok(());
        }
        let read: Option<String> = outbox::state(self.connection(), "watermark")?;
        let read = read.and_then(|time| crate::net::parse_iso8601(&time)).unwrap_or(0);
        let sql = "INSERT INTO _sync_basis (model, key, changed) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (model, key) DO UPDATE SET changed = excluded.changed";
        let values = params![model.name(), key, date::now().max(read.saturating_add(1))];
        self.connection().prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// What the row was when device and cloud were last the same, and the number of the last change that may be in that.
    pub(super) fn basis(&self, model: &Model, key: &str) -> Result<(Option<Item>, u64), Error> {
        let sql = "SELECT doc, changed FROM _sync_basis WHERE model = ?1 AND key = ?2";
        let mut statement = self.connection().prepare_cached(sql)?;
        let found = statement.query_row(params![model.name(), key], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let (text, n): (Option<String>, u64) = found.unwrap_or_default();
        let item = text.map(|text| self.rows().item_leniently(model, key, &text)).transpose()?;
        Ok((item, n))
    }

    /// The cloud is known to have this, in which the change `n` of the device may be the last; and the row has another that waits.
    pub(super) fn set_basis(&self, model: &Model, key: &str, item: Option<&Item>, n: u64) -> Result<(), Error> {
        if !decides(model, Policy::Merge) {
            return Ok(());
        }
        let text = item.map(|item| self.rows().sealed_document(model, key, item)).transpose()?;
        let sql = "INSERT INTO _sync_basis (model, key, changed, doc) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT (model, key) DO UPDATE SET changed = excluded.changed, doc = excluded.doc";
        self.connection().prepare_cached(sql)?.execute(params![model.name(), key, n, text])?;
        Ok(())
    }

    /// No change of the row waits any more.
    pub(super) fn drop_basis(&self, model: &Model, key: &str) -> Result<(), Error> {
        if decides(model, Policy::Merge) || decides(model, Policy::Lww) {
            let sql = "DELETE FROM _sync_basis WHERE model = ?1 AND key = ?2";
            self.connection().prepare_cached(sql)?.execute(params![model.name(), key])?;
        }
        Ok(())
    }

    /// Seals all again, with the first key; without what cannot be opened.
    pub(super) fn reseal_basis(&mut self) -> Result<(), Error> {
        let schema = self.schema();
        let mut statement =
            self.connection().prepare("SELECT model, key, doc, changed FROM _sync_basis WHERE doc IS NOT NULL")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let rows: Vec<(String, String, String, u64)> = rows.collect::<Result<_, _>>()?;
        for (model, key, text, n) in rows {
            if let Some(model) = schema.model(&model).filter(|model| model.has_encrypted()) {
                let item = self.rows().item_leniently(model, &key, &text)?;
                self.set_basis(model, &key, Some(&item), n)?;
            }
        }
        Ok(())
    }
}
