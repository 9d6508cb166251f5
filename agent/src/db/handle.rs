//! The handle to the database that the rest of the program holds.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::access_log::AccessBounds;
use super::changelog::{Backlog, LoggedConflict, Pending, Settlement};
use super::editor::Editor;
use super::error::Error;
use super::query::{Item, Page, Query};
use super::rows::Rows;
use super::schema::Schema;
use super::store::Store;
use super::worker::{Message, Owner as _, Worker};
use super::writer;
use crate::config;

type Shared = Arc<Mutex<Option<Rows>>>;

/// The database. Clones are cheap, share the same file, and may be used from any thread and any executor.
///
/// Writes resolve after the commit that is safe on the disk, and are then seen by every read. Writes that are made at the
/// same time share a commit. At most `database.queue` operations wait; the futures of more wait for a place.
/// Dropping the future of a write that was begun neither stops the write nor disturbs others.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    schema: Arc<Schema>,
    site: String,
    changes: smol::channel::Receiver<()>,
    /// The reader's connection, `None` after the end.
    rows: Shared,
    // The reader goes first, so that the writer has the last connection: closing that one puts the log into the file.
    reader: Worker<Rows>,
    writer: Worker<Editor>,
}

impl Db {
    /// Opens the file of `database.path`, makes it when it is not there, and starts the threads `ioto-db` (writes) and
    /// `ioto-db-read`. Blocks while a file that was not closed properly is checked. A damaged file is set aside as
    /// `PATH.corrupt-N`, and an empty database begun.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Version`], [`Error::Schema`], [`Error::File`], [`Error::Full`], [`Error::Store`].
    pub fn open(options: &config::Database, schema: Schema) -> Result<Self, Error> {
        let schema = Arc::new(schema);
        let Store { rows, editor, site, changes } = Store::open(&options.path, &schema)?;
        let wait = options.commit;
        let writer = Worker::start("ioto-db", options.queue, move |queue| writer::serve(editor, queue, wait))?;
        let rows = Arc::new(Mutex::new(Some(rows)));
        let shared = rows.clone();
        let reader = Worker::start("ioto-db-read", options.queue, move |queue| read(&shared, queue))?;
        Ok(Self { inner: Arc::new(Inner { schema, site, changes, rows, reader, writer }) })
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
        self.inner.writer.call(move |editor| editor.create(&model, item)).await
    }

    /// The item with this key. It is read on the spot, which takes as long as a few pages of the file, unless the reader's
    /// thread is at work.
    pub async fn get(&self, model: &str, key: &str) -> Result<Option<Item>, Error> {
        let model = self.inner.schema.demand(model)?;
        // To wake a thread and to be woken by it costs more than the reading.
        if let Ok(mut idle) = self.inner.rows.try_lock() {
            let rows = idle.as_mut().ok_or(Error::Closed)?;
            return rows.attempt(|rows| rows.get(model, key));
        }
        let model = model.clone();
        let key = key.to_owned();
        self.inner.reader.call(move |rows| rows.get(&model, &key)).await
    }

    /// A page of the items that fit, ordered by key.
    pub async fn find(&self, model: &str, query: Query) -> Result<Page, Error> {
        let model = self.inner.schema.demand(model)?.clone();
        self.inner.reader.call(move |rows| rows.find(&model, &query)).await
    }

    /// How many items there are.
    pub async fn count(&self, model: &str) -> Result<u64, Error> {
        let model = self.inner.schema.demand(model)?.clone();
        self.inner.reader.call(move |rows| rows.count(&model)).await
    }

    /// Changes the given fields and leaves the others; `null` removes a field. Returns the whole item. When nothing would be
    /// different, nothing is written.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Invalid`], [`Error::Model`], [`Error::TooLarge`], and those of the disk.
    pub async fn update(&self, model: &str, key: &str, changes: Item) -> Result<Item, Error> {
        let model = self.inner.schema.demand(model)?.clone();
        let key = key.to_owned();
        self.inner.writer.call(move |editor| editor.update(&model, &key, changes)).await
    }

    /// Removes the item; `false`: there was none.
    pub async fn remove(&self, model: &str, key: &str) -> Result<bool, Error> {
        let model = self.inner.schema.demand(model)?.clone();
        let key = key.to_owned();
        self.inner.writer.call(move |editor| editor.remove(&model, &key)).await
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

    /// The oldest changes that the cloud does not have yet, at most `limit` and about 1 MB, without those of `exclude`
    /// (model, key).
    pub async fn pending(&self, limit: usize, exclude: &HashSet<(String, String)>) -> Result<Vec<Pending>, Error> {
        let exclude = exclude.clone();
        self.inner.reader.call(move |rows| rows.pending(limit, &exclude)).await
    }

    /// Records what became of pending changes, all in one transaction.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), Error> {
        self.inner.writer.call(move |editor| editor.settle(&settlements)).await
    }

    /// How far the cloud is behind.
    pub async fn backlog(&self) -> Result<Backlog, Error> {
        self.inner.reader.call(|rows| rows.backlog()).await
    }

    /// The newest conflicts, newest first.
    pub async fn conflicts(&self, limit: usize) -> Result<Vec<LoggedConflict>, Error> {
        self.inner.reader.call(move |rows| rows.conflicts(limit)).await
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
        self.inner.writer.call(move |editor| editor.add_access(&lines, bounds)).await
    }

    /// The newest lines of the access log, newest first.
    pub async fn access_log(&self, limit: usize) -> Result<Vec<String>, Error> {
        self.inner.reader.call(move |rows| rows.access_log(limit)).await
    }

    /// The random name of this database file: a new file has a new one, so that its change numbers are not taken for
    /// those of an earlier file.
    pub fn site(&self) -> String {
        self.inner.site.clone()
    }

    /// Holds one message when changes were recorded since it was last emptied. For one listener: a message goes to one.
    pub fn changes(&self) -> smol::channel::Receiver<()> {
        self.inner.changes.clone()
    }

    /// Finishes what is queued, puts the log into the file, and closes it. Later operations fail with [`Error::Closed`].
    pub async fn close(&self) {
        self.inner.reader.close().await;
        self.inner.writer.close().await;
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("site", &self.inner.site).finish_non_exhaustive()
    }
}

/// The reader's thread. Its connection sees every commit that was answered, and no half of one.
fn read(shared: &Shared, queue: std::sync::mpsc::Receiver<Message<Rows>>) -> Option<smol::channel::Sender<()>> {
    let mut closing = None;
    while let Ok(message) = queue.recv() {
        match message {
            Message::Job(job) => {
                let mut rows = lock(shared);
                let answerable = job.run(rows.as_mut().ok_or(Error::Closed));
                drop(rows);
                answerable.answer(Ok(()));
            }
            Message::Close(closed) => {
                closing = Some(closed);
                break;
            }
        }
    }
    lock(shared).take();
    closing
}

fn lock(shared: &Shared) -> MutexGuard<'_, Option<Rows>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
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
