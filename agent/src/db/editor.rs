//! The editor: all that changes rows, each change together with its record in the change log.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::changelog::Settlement;
use super::date;
use super::error::Error;
use super::generate::Generator;
use super::inbound::Fresh;
use super::kept;
use super::outbox::{Outbox, document};
use super::query::{Item, MAX_ITEM};
use super::rows::{Rows, table};
use super::schema::{Model, Schema, Sync};
use super::validate::{self, Maker};
use super::worker::Owner;

/// Rows removed by one step of a sweep, at most: other writes get their turn between two steps.
const SWEEP: usize = 200;

/// The connection that writes.
pub(super) struct Editor {
    rows: Rows,
    schema: Arc<Schema>,
    outbox: Outbox,
    generator: Generator,
    fresh: Fresh,
    changed: smol::channel::Sender<()>,
    failure: Option<Error>,
}

impl Owner for Editor {
    fn attempt<T>(&mut self, operation: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.execute("SAVEPOINT operation")?;
        let result = operation(self).and_then(|value| self.execute("RELEASE operation").map(|()| value));
        let result = self.rows.watch(result);
        if let Err(error) = &result {
            self.failure = Some(error.clone());
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
        outbox: Outbox,
        generator: Generator,
        changed: smol::channel::Sender<()>,
    ) -> Self {
        Self { rows, schema, outbox, generator, fresh: Fresh::default(), changed, failure: None }
    }

    pub(super) fn connection(&self) -> &rusqlite::Connection {
        &self.rows.connection
    }

    pub(super) fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    pub(super) fn fresh(&mut self) -> &mut Fresh {
        &mut self.fresh
    }

    pub(super) fn stored(&self, model: &Model, key: &str) -> Result<Option<Item>, Error> {
        self.rows.get(model, key)
    }

    pub(super) fn begin(&mut self) -> Result<(), Error> {
        self.execute("BEGIN IMMEDIATE")
    }

    pub(super) fn in_transaction(&self) -> bool {
        !self.rows.connection.is_autocommit()
    }

    /// Makes the transaction last. After an error it is undone.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        let recorded = self.outbox.save(&self.rows.connection);
        let result = recorded.and_then(|recorded| self.execute("COMMIT").map(|()| recorded));
        match self.rows.watch(result) {
            Ok(recorded) => {
                self.outbox.saved();
                if recorded {
                    let _ = self.changed.try_send(());
                }
                Ok(())
            }
            Err(error) => {
                log::error!("a commit failed and its operations were undone: {error}");
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
        if let Err((_, error)) = self.rows.connection.close() {
            log::warn!("not closed properly, it will be checked at the next start: {error}");
        }
    }

    pub(super) fn create(&mut self, model: &Model, input: Item) -> Result<Item, Error> {
        refuse_down(model)?;
        let now = date::now();
        let mut maker = Maker { model, context: &self.schema.context, generator: &mut self.generator, now };
        let (key, item) = validate::create(&mut maker, input)?;
        let text = fitting(model, &item)?;
        // A row whose time is over is not there any more, although it was not swept yet.
        let sql = format!(
            "INSERT INTO {0} (key, doc, expires) VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET doc = excluded.doc, \
             expires = excluded.expires WHERE {0}.expires <= ?4",
            table(model)
        );
        let mut statement = self.rows.connection.prepare_cached(&sql)?;
        if statement.execute(params![key, text, validate::expires(model, &item), now])? == 0 {
            return Err(Error::Exists { model: model.name().into(), key });
        }
        drop(statement);
        self.record(model, &key, false)?;
        Ok(item)
    }

    pub(super) fn update(&mut self, model: &Model, key: &str, changes: Item) -> Result<Item, Error> {
        refuse_down(model)?;
        let missing = || Error::Missing { model: model.name().into(), key: key.into() };
        let stored = self.rows.get(model, key)?.ok_or_else(missing)?;
        let now = date::now();
        let mut maker = Maker { model, context: &self.schema.context, generator: &mut self.generator, now };
        let Some(item) = validate::update(&mut maker, &stored, changes)? else {
            return Ok(stored);
        };
        self.put(model, key, &item, fitting(model, &item)?)?;
        self.record(model, key, false)?;
        Ok(item)
    }

    pub(super) fn remove(&mut self, model: &Model, key: &str) -> Result<bool, Error> {
        refuse_down(model)?;
        let Some(expires) = self.delete(model, key)? else {
            return Ok(false);
        };
        self.record(model, key, true)?;
        Ok(expires.is_none_or(|expires| expires > date::now()))
    }

    /// Removes some of the rows whose time is over; returns how many, and whether there may be more.
    pub(super) fn sweep(&mut self, model: &Model, now: i64) -> Result<(u64, bool), Error> {
        let sql = format!("SELECT key FROM {} WHERE expires <= ?1 LIMIT {SWEEP}", table(model));
        let mut statement = self.rows.connection.prepare_cached(&sql)?;
        let keys = statement.query_map([now], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        drop(statement);
        for key in &keys {
            self.delete(model, key)?;
            self.record(model, key, true)?;
        }
        Ok((keys.len() as u64, keys.len() == SWEEP))
    }

    /// Changes texts that are kept beside the models.
    pub(super) fn keep(&mut self, space: &str, set: &[(Vec<u8>, String)], removed: &[Vec<u8>]) -> Result<(), Error> {
        kept::change(&self.rows.connection, space, set, removed)
    }

    pub(super) fn settle(&mut self, settlements: &[Settlement]) -> Result<(), Error> {
        let schema = self.schema.clone();
        for settled in settlements {
            let model = schema.demand(&settled.model)?;
            self.fresh.settled(&settled.model, &settled.key);
            match self.outbox.settle(&self.rows.connection, settled)? {
                Some(Some(item)) => self.put(model, &settled.key, item, document(item))?,
                Some(None) => self.delete(model, &settled.key).map(drop)?,
                None => {}
            }
        }
        Ok(())
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

    fn record(&mut self, model: &Model, key: &str, deleted: bool) -> Result<(), Error> {
        if !model.sync().up() {
            return Ok(());
        }
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

fn fitting(model: &Model, item: &Item) -> Result<String, Error> {
    let text = document(item);
    match text.len() <= MAX_ITEM {
        true => Ok(text),
        false => Err(Error::TooLarge { model: model.name().into(), size: text.len() }),
    }
}
