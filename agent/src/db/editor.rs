//! The editor: all that changes rows, each change together with its record in the change log.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::condition::parameter;
use super::date;
use super::error::Error;
use super::filter::Filter;
use super::generate::Generator;
use super::inbound::Fresh;
use super::kept;
use super::outbox::{Outbox, document};
use super::query::{Item, MAX_ITEM};
use super::room::Room;
use super::rows::{Rows, column, table};
use super::schema::{Model, Schema, Sync};
use super::update::Update;
use super::validate::{self, Maker};
use super::watch::{Change, Watchers};
use super::worker::Owner;

/// Rows removed by one step of a sweep, at most: other writes get their turn between two steps.
const SWEEP: usize = 200;

/// A row that is in memory only, on its way to another connection.
pub(super) struct Kept {
    model: Arc<Model>,
    key: String,
    text: String,
    expires: Option<i64>,
}

/// The connection that writes.
pub(super) struct Editor {
    rows: Rows,
    schema: Arc<Schema>,
    outbox: Outbox,
    generator: Generator,
    fresh: Fresh,
    room: Room,
    changed: smol::channel::Sender<()>,
    watchers: Watchers,
    /// The changes of the transaction, as far as somebody watches.
    noted: Vec<Change>,
    failure: Option<Error>,
}

impl Owner for Editor {
    fn attempt<T>(&mut self, operation: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.execute("SAVEPOINT operation")?;
        let noted = self.noted.len();
        let result = operation(self).and_then(|value| self.execute("RELEASE operation").map(|()| value));
        let result = self.rows.watch(result);
        if let Err(error) = &result {
            self.failure = Some(error.clone());
            self.noted.truncate(if self.in_transaction() { noted } else { 0 });
            if self.in_transaction() {
                self.execute("ROLLBACK TO operation")?;
                self.execute("RELEASE operation")?;
            }
        }
        result
    }
}

impl Editor {
    pub(super) fn new(
        rows: Rows,
        schema: Arc<Schema>,
        (outbox, room): (Outbox, Room),
        generator: Generator,
        changed: smol::channel::Sender<()>,
        watchers: Watchers,
    ) -> Self {
        let (fresh, noted) = (Fresh::default(), Vec::new());
        Self { rows, schema, outbox, generator, fresh, room, changed, watchers, noted, failure: None }
    }

    pub(super) fn rows(&self) -> &Rows {
        &self.rows
    }

    pub(super) fn schema(&self) -> Arc<Schema> {
        self.schema.clone()
    }

    pub(super) fn connection(&self) -> &rusqlite::Connection {
        &self.rows.connection
    }

    /// Writes down where the tables begin now.
    pub(super) fn note_roots(&self) -> Result<(), Error> {
        self.rows.note_roots()
    }

    pub(super) fn last_change(&self) -> u64 {
        self.outbox.last()
    }

    pub(super) fn fresh(&mut self) -> &mut Fresh {
        &mut self.fresh
    }

    pub(super) fn room(&mut self) -> &mut Room {
        &mut self.room
    }

    pub(super) fn begin(&mut self) -> Result<(), Error> {
        self.begin_room();
        self.execute("BEGIN IMMEDIATE")
    }

    pub(super) fn in_transaction(&self) -> bool {
        !self.rows.connection.is_autocommit()
    }

    /// Makes the transaction last. After an error it is undone.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        let recorded = self.outbox.save(&self.rows.connection);
        let looked = recorded.and_then(|recorded| self.look_at_room().map(|()| recorded));
        let result = looked.and_then(|recorded| self.execute("COMMIT").map(|()| recorded));
        match self.rows.watch(result) {
            Ok(recorded) => {
                self.outbox.saved();
                if recorded {
                    let _ = self.changed.try_send(());
                }
                self.watchers.tell(std::mem::take(&mut self.noted));
                Ok(())
            }
            Err(error) => {
                log::error!("a commit failed and its operations were undone: {error}");
                self.noted.clear();
                if self.in_transaction() {
                    self.execute("ROLLBACK")?;
                }
                Err(error)
            }
        }
    }

    /// Why SQLite took the transaction back.
    pub(super) fn lost(&mut self) -> Error {
        self.failure.take().unwrap_or(Error::Closed)
    }

    /// Empties the log into the file and closes it.
    pub(super) fn close(self) {
        self.watchers.end();
        if let Err((_, error)) = self.rows.connection.close() {
            log::warn!("not closed properly, it will be checked at the next start: {error}");
        }
    }

    /// Closes a file that is damaged, and takes along what is in memory only.
    pub(super) fn leave(self) -> Vec<Kept> {
        let mut kept = Vec::new();
        for model in self.schema.models().filter(|model| model.process().memory) {
            let sql = format!("SELECT key, doc, expires FROM {}", table(model));
            let Ok(mut statement) = self.rows.connection.prepare(&sql) else { continue };
            if let Ok(rows) = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))) {
                kept.extend(rows.flatten().map(|(key, text, expires)| Kept {
                    model: model.clone(),
                    key,
                    text,
                    expires,
                }));
            }
        }
        if let Err((_, error)) = self.rows.connection.close() {
            log::warn!("the damaged file was not closed properly: {error}");
        }
        kept
    }

    /// Brings what was in memory back.
    pub(super) fn bring(&mut self, kept: Vec<Kept>) {
        for Kept { model, key, text, expires } in kept {
            let sql = format!("INSERT OR REPLACE INTO {} (key, doc, expires) VALUES (?1, ?2, ?3)", table(&model));
            if let Err(error) = self.rows.connection.execute(&sql, params![key, text, expires]) {
                log::warn!("{} {key}, which is in memory only, is lost: {error}", model.name());
            }
        }
    }

    pub(super) fn create(&mut self, model: &Model, input: Item) -> Result<Item, Error> {
        refuse_down(model)?;
        let now = date::now();
        let mut maker = Maker { model, context: &self.schema.context, generator: &mut self.generator, now };
        let (key, item) = validate::create(&mut maker, input)?;
        self.refuse_doubles(model, &key, &item, None)?;
        let text = self.fitting(model, &key, &item)?;
        self.keep_basis(model, &key)?;
        // A row whose time is over is not there any more, although it was not swept yet.
        let sql = format!(
            "INSERT INTO {0} AS r (key, doc, expires) VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET \
             doc = excluded.doc, expires = excluded.expires WHERE r.expires <= ?4",
            table(model)
        );
        let mut statement = self.rows.connection.prepare_cached(&sql)?;
        if statement.execute(params![key, text, validate::expires(model, &item), now])? == 0 {
            return Err(Error::Exists { model: model.name().into(), key });
        }
        drop(statement);
        self.keep_bounds(model, &key)?;
        self.record(model, &key, false)?;
        self.note(model, &key, None, Some(&item));
        Ok(item)
    }

    pub(super) fn update(&mut self, model: &Model, key: &str, update: impl Into<Update>) -> Result<Item, Error> {
        refuse_down(model)?;
        let update = update.into();
        let stored = self.demand(model, key, update.condition.as_ref())?;
        let changes = update.changes(model, &stored)?;
        let now = date::now();
        let mut maker = Maker { model, context: &self.schema.context, generator: &mut self.generator, now };
        let Some(item) = validate::update(&mut maker, &stored, changes)? else {
            return Ok(stored);
        };
        self.refuse_doubles(model, key, &item, Some(&stored))?;
        self.keep_basis(model, key)?;
        self.put(model, key, &item, self.fitting(model, key, &item)?)?;
        self.keep_bounds(model, key)?;
        self.record(model, key, false)?;
        self.note(model, key, Some(stored), Some(&item));
        Ok(item)
    }

    /// Adds the item, or sets its fields on the one that is there with its key. `true`: it is new.
    pub(super) fn upsert(&mut self, model: &Model, input: Item) -> Result<(Item, bool), Error> {
        refuse_down(model)?;
        let now = date::now();
        let maker = Maker { model, context: &self.schema.context, generator: &mut self.generator, now };
        let key = maker.key_of(&input).filter(|key| !key.is_empty());
        match key {
            Some(key) if self.rows.get(model, &key)?.is_some() => {
                self.update(model, &key, input).map(|item| (item, false))
            }
            _ => self.create(model, input).map(|item| (item, true)),
        }
    }

    pub(super) fn remove(&mut self, model: &Model, key: &str, condition: Option<&Filter>) -> Result<bool, Error> {
        refuse_down(model)?;
        if condition.is_some() {
            self.demand(model, key, condition)?;
        }
        let before = self.before(model, key)?;
        self.keep_basis(model, key)?;
        let Some(expires) = self.delete(model, key)? else {
            return Ok(false);
        };
        self.record(model, key, true)?;
        self.note(model, key, before, None);
        Ok(expires.is_none_or(|expires| expires > date::now()))
    }

    /// Whether the item is there, and as the condition demands.
    pub(super) fn check(&self, model: &Model, key: &str, condition: &Filter) -> Result<(), Error> {
        self.demand(model, key, Some(condition)).map(drop)
    }

    fn demand(&self, model: &Model, key: &str, condition: Option<&Filter>) -> Result<Item, Error> {
        let missing = || Error::Missing { model: model.name().into(), key: key.into() };
        let stored = self.rows.get(model, key)?.ok_or_else(missing)?;
        match condition {
            Some(condition) if !condition.checked(model)?.matches(&stored) => {
                Err(Error::Condition { model: model.name().into(), key: key.into() })
            }
            _ => Ok(stored),
        }
    }

    /// Refuses a value of a unique field that another item has.
    fn refuse_doubles(&self, model: &Model, key: &str, item: &Item, stored: Option<&Item>) -> Result<(), Error> {
        for field in model.fields().iter().filter(|field| field.unique() && field.name() != model.key().name()) {
            let value = item.get(field.name());
            let Some(value) =
                value.filter(|value| stored.is_none_or(|stored| stored.get(field.name()) != Some(*value)))
            else {
                continue;
            };
            let sql = format!(
                "SELECT key FROM {} WHERE {} = ?1 AND key <> ?2 AND (expires IS NULL OR expires > ?3) LIMIT 1",
                table(model),
                column(field.name())
            );
            let mut statement = self.rows.connection.prepare_cached(&sql)?;
            let values = params![parameter(value), key, date::now()];
            if let Some(other) = statement.query_row(values, |row| row.get::<_, String>(0)).optional()? {
                let rule = format!("must be unique, and the item '{other}' has this value");
                return Err(Error::invalid(model.name(), field.name(), value, rule));
            }
        }
        Ok(())
    }

    /// Removes some of the rows whose time is over; returns how many, and whether there may be more.
    pub(super) fn sweep(&mut self, model: &Model, now: i64) -> Result<(u64, bool), Error> {
        let sql = format!("SELECT key FROM {} WHERE expires <= ?1 LIMIT {SWEEP}", table(model));
        let mut statement = self.rows.connection.prepare_cached(&sql)?;
        let keys = statement.query_map([now], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        drop(statement);
        for key in &keys {
            let before = self.before(model, key)?;
            self.keep_basis(model, key)?;
            self.delete(model, key)?;
            self.record(model, key, true)?;
            self.note(model, key, before, None);
        }
        Ok((keys.len() as u64, keys.len() == SWEEP))
    }

    /// Makes room. What goes from a journal goes on the device only, and is not sent any more; other rows are removed like any.
    pub(super) fn drop_row(&mut self, model: &Model, key: &str, is_journal: bool) -> Result<(), Error> {
        let before = self.before(model, key)?;
        self.keep_basis(model, key)?;
        self.delete(model, key)?;
        match is_journal {
            true => self.outbox.forget(&self.rows.connection, (model.name(), key))?,
            false => self.record(model, key, true)?,
        }
        self.note(model, key, before, None);
        Ok(())
    }

    /// Takes rows over as they are, unless there are such already, in a transaction of its own. Returns how many.
    pub(super) fn adopt(&mut self, rows: Vec<(Arc<Model>, String, Item)>) -> Result<u64, Error> {
        self.begin()?;
        let adopted = self.adopt_each(rows);
        if adopted.is_err() && self.in_transaction() {
            self.execute("ROLLBACK")?;
        }
        let adopted = adopted?;
        self.commit().map(|()| adopted)
    }

    fn adopt_each(&mut self, rows: Vec<(Arc<Model>, String, Item)>) -> Result<u64, Error> {
        let mut adopted = 0;
        for (model, key, item) in rows {
            let sql = format!("SELECT 1 FROM {} WHERE key = ?1", table(&model));
            if !self.rows.connection.prepare_cached(&sql)?.exists([&key])? {
                self.put(&model, &key, &item, document(&item))?;
                self.record(&model, &key, false)?;
                adopted += 1;
            }
        }
        Ok(adopted)
    }

    /// Changes texts that are kept beside the models.
    pub(super) fn keep(&mut self, space: &str, set: &[(Vec<u8>, String)], removed: &[Vec<u8>]) -> Result<(), Error> {
        kept::change(&self.rows.connection, space, set, removed)
    }

    /// The item before a change, when somebody watches; also one whose time is over.
    pub(super) fn before(&self, model: &Model, key: &str) -> Result<Option<Item>, Error> {
        if !self.watchers.watch(model.name()) {
            return Ok(None);
        }
        self.rows.stored(model, key)
    }

    pub(super) fn note(&mut self, model: &Model, key: &str, before: Option<Item>, after: Option<&Item>) {
        if (before.is_some() || after.is_some()) && self.watchers.watch(model.name()) {
            let (model, key) = (model.name().to_owned(), key.to_owned());
            self.noted.push(Change { model, key, before, after: after.cloned() });
        }
    }

    /// The item as text that can be stored.
    fn fitting(&self, model: &Model, key: &str, item: &Item) -> Result<String, Error> {
        let text = self.rows.sealed_document(model, key, item)?;
        match text.len() <= MAX_ITEM {
            true => Ok(text),
            false => Err(Error::TooLarge { model: model.name().into(), size: text.len() }),
        }
    }

    /// The document as it is stored.
    pub(super) fn document(&self, model: &Model, key: &str) -> Result<Option<String>, Error> {
        let mut statement =
            self.rows.connection.prepare_cached(&format!("SELECT doc FROM {} WHERE key = ?1", table(model)))?;
        Ok(statement.query_row([key], |row| row.get(0)).optional()?)
    }

    pub(super) fn put(&self, model: &Model, key: &str, item: &Item, text: String) -> Result<(), Error> {
        let sql = format!(
            "INSERT INTO {} (key, doc, expires) VALUES (?1, ?2, ?3) \
             ON CONFLICT (key) DO UPDATE SET doc = excluded.doc, expires = excluded.expires",
            table(model)
        );
        let mut statement = self.rows.connection.prepare_cached(&sql)?;
        statement.execute(params![key, text, validate::expires(model, item)])?;
        Ok(())
    }

    /// Deletes the row and returns when its time was to be over; `None`: there was no row.
    pub(super) fn delete(&self, model: &Model, key: &str) -> Result<Option<Option<i64>>, Error> {
        let sql = format!("DELETE FROM {} WHERE key = ?1 RETURNING expires", table(model));
        let mut statement = self.rows.connection.prepare_cached(&sql)?;
        Ok(statement.query_row([key], |row| row.get(0)).optional()?)
    }

    pub(super) fn record(&mut self, model: &Model, key: &str, deleted: bool) -> Result<(), Error> {
        if !model.sync().up() {
            return Ok(());
        }
        self.note_time(model, key)?;
        self.outbox.record(&self.rows.connection, &mut self.generator, (model.name(), key), deleted)
    }

    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) -> Result<(), Error> {
        Ok(self.rows.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)
    }

    fn execute(&mut self, sql: &str) -> Result<(), Error> {
        self.rows.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}

fn refuse_down(model: &Model) -> Result<(), Error> {
    match model.sync() {
        Sync::Down => {
            let rule = "the model comes from the cloud (sync: 'down') and is changed only there";
            Err(Error::invalid(model.name(), "sync", &"down".into(), rule))
        }
        _ => Ok(()),
    }
}
