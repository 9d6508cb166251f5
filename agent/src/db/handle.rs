//! The handle to the database that the rest of the program holds.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::access_log::AccessBounds;
use super::claim::Claim;
use super::editor::Editor;
use super::error::Error;
use super::filter::Filter;
use super::health::Health;
use super::operation::{Done, MAX_OPERATIONS, Operation};
use super::query::{Item, Page, Query};
use super::reader::Reader;
use super::recovery::Keeper;
use super::room::Limit;
use super::rows::Rows;
use super::schema::{Model, Schema};
use super::seal::Vault;
use super::store::Store;
use super::update::Update;
use super::watch::{Watch, Watchers};
use super::worker::Worker;
use super::writer;
use crate::config;

/// The database. Clones are cheap, share the same file, and may be used from any thread and any executor.
///
/// Writes resolve after the commit that is safe on the disk, and are then seen by every read. Writes that are made at the
/// same time share a commit. At most `database.queue` operations wait; the futures of more wait for a place.
/// Dropping the future of a write that was begun neither stops the write nor disturbs others.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
    /// The file that this handle is for alone.
    pinned: Option<u64>,
}

struct Inner {
    schema: Arc<Schema>,
    claim: Arc<Claim>,
    watchers: Watchers,
    // The reader goes first, so that the writer has the last connection: closing that one puts the log into the file.
    reader: Reader,
    writer: Worker<Editor>,
}

impl Db {
    /// Opens the file of `database.path`, makes it when it is not there, and starts the threads `ioto-db` (writes) and
    /// `ioto-db-read`. Blocks while a file that was not closed properly is checked. A damaged file is set aside as
    /// `PATH.corrupt-N`, and a database begun with what can be read of it; so it is when damage is found later: what
    /// comes upon it fails with [`Error::Damaged`], what comes after it waits. See [`Db::health`].
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Version`], [`Error::Schema`], [`Error::File`], [`Error::Full`], [`Error::Store`].
    pub fn open(options: &config::Database, schema: Schema) -> Result<Self, Error> {
        let schema = Arc::new(schema);
        let (claim, watchers) = (
            Claim::stake(&options.path, Vault::new(&options.key, options.makes_key))?,
            Watchers::new(options.watchers),
        );
        let claim = Arc::new(claim.limited(Limit::new(options)));
        let Store { rows, editor } = Store::open(&claim, &schema, &watchers)?;
        let (wait, rows) = (options.commit, Arc::new(Mutex::new(Ok(rows))));
        let keeper = Keeper::new(editor, rows.clone(), claim.clone(), schema.clone(), watchers.clone());
        let writer = Worker::start("ioto-db", options.queue, move |queue| writer::serve(keeper, queue, wait))?;
        claim.monitor().wakes(writer.waker());
        let reader = Reader::start("ioto-db-read", rows, options.queue)?;
        Ok(Self { inner: Arc::new(Inner { schema, claim, watchers, reader, writer }), pinned: None })
    }

    /// The models.
    pub fn schema(&self) -> &Schema {
        &self.inner.schema
    }

    /// Adds an item and returns it with its defaults, generated fields and timestamps.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`], [`Error::Model`], [`Error::TooLarge`]; [`Error::Full`] and others when it could
    /// not be made safe, in which case nothing was added.
    pub async fn create(&self, model: &str, item: Item) -> Result<Item, Error> {
        let model = self.inner.schema.demand(model)?.clone();
        self.inner.writer.call(move |editor| editor.within(|editor| editor.create(&model, item))).await
    }

    /// Adds an item, or sets its fields on the one that is there with its key; `true`: it is new.
    ///
    /// # Errors
    /// Those of [`Db::create`] and [`Db::update`].
    pub async fn upsert(&self, model: &str, item: Item) -> Result<(Item, bool), Error> {
        let model = self.inner.schema.demand(model)?.clone();
        self.inner.writer.call(move |editor| editor.within(|editor| editor.upsert(&model, item))).await
    }

    /// The item with this key. It is read on the spot, which takes as long as a few pages of the file, unless the reader's
    /// thread is at work.
    pub async fn get(&self, model: &str, key: &str) -> Result<Option<Item>, Error> {
        let model = self.inner.schema.demand(model)?.clone();
        let key = key.to_owned();
        match model.process().memory {
            true => self.inner.writer.call(move |editor| editor.rows().get(&model, &key)).await,
            false => self.inner.reader.glance(move |rows| rows.get(&model, &key)).await,
        }
    }

    /// A page of the items that fit.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the model cannot be asked so, [`Error::Model`].
    pub async fn find(&self, model: &str, query: Query) -> Result<Page, Error> {
        self.read(model, move |rows, model| rows.find(model, &query)).await
    }

    /// How many items there are.
    pub async fn count(&self, model: &str) -> Result<u64, Error> {
        self.read(model, |rows, model| rows.count(model)).await
    }

    /// How many items fit the query's filter.
    pub async fn count_where(&self, model: &str, query: Query) -> Result<u64, Error> {
        self.read(model, move |rows, model| rows.count_where(model, &query)).await
    }

    /// How SQLite finds what a query asks for, a line a step: whether an index is used.
    pub async fn explain(&self, model: &str, query: Query) -> Result<Vec<String>, Error> {
        self.read(model, move |rows, model| rows.explain(model, &query)).await
    }

    /// Reads on the reader's thread; a model that is in memory only is known to the writer's connection alone.
    async fn read<T: Send + 'static>(
        &self,
        model: &str,
        operation: impl FnOnce(&Rows, &Model) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let model = self.inner.schema.demand(model)?.clone();
        match model.process().memory {
            true => self.inner.writer.call(move |editor| operation(editor.rows(), &model)).await,
            false => self.inner.reader.call(move |rows| operation(rows, &model)).await,
        }
    }

    /// Changes an item and returns the whole of it. With an [`Item`] the given fields are set and the others left, and
    /// `null` removes a field; an [`Update`] can also add to numbers, append to arrays, and demand a condition. When nothing
    /// would be different, nothing is written.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Condition`], [`Error::Invalid`], [`Error::Model`], [`Error::TooLarge`], and those of the
    /// disk.
    pub async fn update(&self, model: &str, key: &str, changes: impl Into<Update>) -> Result<Item, Error> {
        let model = self.inner.schema.demand(model)?.clone();
        let (key, update) = (key.to_owned(), changes.into());
        self.inner.writer.call(move |editor| editor.within(|editor| editor.update(&model, &key, update))).await
    }

    /// Removes the item; `false`: there was none.
    pub async fn remove(&self, model: &str, key: &str) -> Result<bool, Error> {
        let model = self.inner.schema.demand(model)?.clone();
        let key = key.to_owned();
        self.inner.writer.call(move |editor| editor.remove(&model, &key, None)).await
    }

    /// Removes the item if it is so.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Condition`], [`Error::Invalid`], [`Error::Model`], and those of the disk.
    pub async fn remove_if(&self, model: &str, key: &str, condition: Filter) -> Result<(), Error> {
        let model = self.inner.schema.demand(model)?.clone();
        let key = key.to_owned();
        self.inner.writer.call(move |editor| editor.remove(&model, &key, Some(&condition)).map(drop)).await
    }

    /// Carries out all of the operations or, when one fails, none; nobody sees a part of them. At most [`MAX_OPERATIONS`].
    ///
    /// # Errors
    /// [`Error::Step`] says which operation failed and why.
    pub async fn transact(&self, operations: Vec<Operation>) -> Result<Vec<Done>, Error> {
        bounded(&operations)?;
        self.inner.writer.call(move |editor| editor.transact(operations)).await
    }

    /// Carries out each of the operations on its own, in one commit: one that fails leaves the others. At most
    /// [`MAX_OPERATIONS`].
    ///
    /// # Errors
    /// Those of the disk, in which case none was done.
    pub async fn batch(&self, operations: Vec<Operation>) -> Result<Vec<Result<Done, Error>>, Error> {
        bounded(&operations)?;
        self.inner.writer.call(move |editor| editor.batch(operations)).await
    }

    /// A stream of the changes from now on, of one model or (`None`) of all; the filter looks at the item before and after
    /// the change.
    ///
    /// # Errors
    /// [`Error::Model`]; [`Error::Invalid`] when the filter does not fit the model, or there is one without a model;
    /// [`Error::Watched`].
    pub fn watch(&self, model: Option<&str>, filter: Option<Filter>) -> Result<Watch, Error> {
        self.watch_since(model, filter, None)
    }

    /// The same, from where an earlier watcher of the same model stopped: its [`Watch::position`]. What it missed comes first.
    /// Changes are kept for that for a minute after it went away, 256 or about 1 MB of them; where that was not enough, the first
    /// that is heard is [`Heard::Lost`](super::Heard::Lost).
    ///
    /// # Errors
    /// Those of [`Db::watch`].
    pub fn watch_since(
        &self,
        model: Option<&str>,
        filter: Option<Filter>,
        since: Option<&str>,
    ) -> Result<Watch, Error> {
        let all = Filter::All(Vec::new());
        let filter = match (model, filter) {
            (Some(name), filter) => filter.unwrap_or(all).checked(self.inner.schema.demand(name)?)?,
            (None, None) => all,
            (None, Some(_)) => {
                return Err(Error::invalid("*", "where", &"".into(), "a filter needs a model"));
            }
        };
        self.inner.watchers.add(model.map(str::to_owned), filter, since)
    }

    /// Waits until everything is written that was begun before: what a find sees after it is no older than the watches that
    /// were begun before it.
    pub async fn written(&self) -> Result<(), Error> {
        self.inner.writer.call(|_| Ok(())).await
    }

    /// Removes the rows whose time was over at `now` (milliseconds of UTC), a few hundred in a transaction, and returns
    /// how many. In models that replicate up it is a removal like any other, so that device and cloud stay equal
    /// whether or not the cloud's table has a time to live of its own.
    pub async fn sweep(&self, now: i64) -> Result<u64, Error> {
        let mut removed = 0;
        let models: Vec<_> = self.inner.schema.models().filter(|model| model.ttl().is_some()).cloned().collect();
        for model in models {
            loop {
                let model = model.clone();
                let (count, more) = self.inner.writer.call(move |editor| editor.sweep(&model, now)).await?;
                removed += count;
                if !more {
                    break;
                }
            }
        }
        Ok(removed)
    }

    /// All texts that were kept in a space, with their keys.
    pub async fn kept(&self, space: &str) -> Result<Vec<(Vec<u8>, String)>, Error> {
        let space = space.to_owned();
        self.inner.reader.call(move |rows| rows.kept(&space)).await
    }

    /// Keeps texts beside the models, under a space and a key each, in place of those that are there; and removes others.
    /// They are never replicated.
    pub async fn keep(&self, space: &str, set: Vec<(Vec<u8>, String)>, removed: Vec<Vec<u8>>) -> Result<(), Error> {
        let space = space.to_owned();
        self.inner.writer.call(move |editor| editor.keep(&space, &set, &removed)).await
    }

    /// Adds lines to the access log, and removes what is beyond its bounds.
    pub async fn add_access(&self, lines: Vec<String>, bounds: AccessBounds) -> Result<(), Error> {
        self.inner.writer.call(move |editor| editor.within(|editor| editor.add_access(&lines, bounds))).await
    }

    /// The newest lines of the access log, newest first.
    pub async fn access_log(&self, limit: usize) -> Result<Vec<String>, Error> {
        self.inner.reader.call(move |rows| rows.access_log(limit)).await
    }

    /// A handle for the file as it is now: once that was recovered after damage, what concerns replication fails with
    /// [`Error::Replaced`], because what was read before says nothing of the new file.
    #[must_use]
    pub fn pinned(&self) -> Self {
        Self { inner: self.inner.clone(), pinned: Some(self.inner.claim.monitor().generation()) }
    }

    /// How the file is: whether it was damaged, and what was done about it; whether it is full, and its key there.
    pub fn health(&self) -> Health {
        let has_encrypted = self.inner.schema.models().any(|model| model.has_encrypted());
        let sealed = if has_encrypted { self.inner.claim.vault().trouble() } else { None };
        Health { sealed, ..self.inner.claim.monitor().health() }
    }

    /// The generation of the file that this handle is for, if it is for one.
    pub(super) fn generation(&self) -> Option<u64> {
        self.pinned
    }

    pub(super) fn claim(&self) -> &Arc<Claim> {
        &self.inner.claim
    }

    pub(super) fn path(&self) -> &Path {
        self.inner.claim.path()
    }

    pub(super) fn shared_schema(&self) -> Arc<Schema> {
        self.inner.schema.clone()
    }

    pub(super) async fn on_reader<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Rows) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.inner.reader.call(operation).await
    }

    /// On the writer's thread, as a part of a transaction.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Editor) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.inner.writer.call(operation).await
    }

    /// On the writer's thread, without a transaction.
    pub(super) async fn alone<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Editor) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.inner.writer.call_alone(operation).await
    }

    /// The random name of this database file: a new file has a new one, so that its change numbers are not taken for
    /// those of an earlier file.
    pub fn site(&self) -> String {
        self.inner.claim.monitor().site()
    }

    /// Holds one message when changes were recorded since it was last emptied. For one listener: a message goes to one. It ends
    /// when the file becomes another one.
    pub fn changes(&self) -> smol::channel::Receiver<()> {
        self.inner.claim.monitor().changes()
    }

    /// Finishes what is queued, puts the log into the file, and closes it. Later operations fail with [`Error::Closed`].
    pub async fn close(&self) {
        self.inner.reader.close().await;
        self.inner.writer.close().await;
        self.inner.claim.release();
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("site", &self.site()).finish_non_exhaustive()
    }
}

fn bounded(operations: &[Operation]) -> Result<(), Error> {
    match operations.get(MAX_OPERATIONS) {
        None => Ok(()),
        Some(operation) => {
            let rule = format!("at most {MAX_OPERATIONS} operations can be done at once");
            Err(Error::invalid(operation.model(), "operations", &operations.len().into(), rule))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;
    use smol::{LocalExecutor, block_on};

    #[test]
    fn where_there_is_no_room_some_fail_clearly_the_others_last_and_room_helps() {
        let directory = std::env::temp_dir().join(format!("ioto-full-{}", std::process::id()));
        let options = config::Database { path: directory.join("device.db"), ..Default::default() };
        let schema = "{process: {M: {sync: 'up'}}, models: {M: {id: {type: 'string'}, text: {type: 'string'}}}}";
        let open = || Db::open(&options, Schema::parse(schema, "schema").unwrap()).unwrap();
        let db = open();
        let limit = |pages: u32| {
            let limit = move |editor: &mut Editor| editor.limit_pages(pages);
            block_on(db.inner.writer.call(limit)).unwrap();
        };
        limit(60);
        let executor = LocalExecutor::new();
        let item = |n: usize| json!({"id": n.to_string(), "text": "x".repeat(n * 50)}).as_object().unwrap().clone();
        let tasks: Vec<_> = (0..100).map(|n| executor.spawn(db.create("M", item(n)))).collect();
        let results: Vec<_> = tasks.into_iter().map(|task| block_on(executor.run(task))).collect();
        let kept: Vec<usize> = (0..100).filter(|&n| results[n].is_ok()).collect();
        assert!((10..90).contains(&kept.len()), "{} were kept", kept.len());
        assert!(results.iter().all(|result| matches!(result, Ok(_) | Err(Error::Full(_)))), "{results:?}");
        limit(10_000);
        block_on(db.create("M", item(100))).unwrap();
        drop(executor);
        drop(db);
        let db = open();
        assert_eq!(block_on(db.count("M")).unwrap(), kept.len() as u64 + 1);
        assert_eq!(block_on(db.backlog()).unwrap().rows, kept.len() as u64 + 1);
        for n in kept {
            assert!(block_on(db.get("M", &n.to_string())).unwrap().is_some());
        }
        drop(db);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
