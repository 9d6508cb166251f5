//! What replication asks of the database.

use std::collections::HashSet;

use super::changelog::{Backlog, LoggedConflict, Pending, Settlement};
use super::editor::Editor;
use super::error::Error;
use super::handle::Db;
use super::inbound::{Batch, Progress, Usage};
use super::outbox;
use super::rows::Rows;

impl Db {
    /// The oldest changes that the cloud does not have yet, at most `limit` and about 1 MB, without those of `exclude`
    /// (model, key).
    pub async fn pending(&self, limit: usize, exclude: &HashSet<(String, String)>) -> Result<Vec<Pending>, Error> {
        let exclude = exclude.clone();
        let pinned = self.generation();
        let operation = move |rows: &mut Rows| {
            rows.demand_generation(pinned)?;
            rows.pending(limit, &exclude)
        };
        self.on_reader(operation).await
    }

    /// Records what became of pending changes, all in one transaction.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), Error> {
        let pinned = self.generation();
        let operation = move |editor: &mut Editor| {
            editor.rows().demand_generation(pinned)?;
            editor.settle(&settlements)
        };
        self.write(operation).await
    }

    /// Applies what was read from the cloud, all in one transaction; returns how many rows it changed.
    ///
    /// # Errors
    /// [`Error::NoRoom`], in which case only what it removes was applied, and it is to be read again later; those of the disk.
    pub async fn apply(&self, batch: Batch) -> Result<u64, Error> {
        let removals = self.limit().map(|_| batch.removals());
        let (applied, removals) = (self.apply_as_whole(batch).await, removals.filter(|batch| !batch.items.is_empty()));
        if let (Err(Error::NoRoom { .. }), Some(removals)) = (&applied, removals) {
            self.apply_as_whole(removals).await?;
        }
        applied
    }

    async fn apply_as_whole(&self, batch: Batch) -> Result<u64, Error> {
        let pinned = self.generation();
        let operation = move |editor: &mut Editor| {
            editor.rows().demand_generation(pinned)?;
            match batch.is_removal() {
                true => editor.apply(&batch),
                false => editor.within(|editor| editor.apply(&batch)),
            }
        };
        self.write(operation).await
    }

    /// To be called before a [range](Batch::range) is read from the cloud: rows that are settled from now on are not taken for
    /// absent by the next [`apply`](Self::apply) of a range.
    pub async fn watch_range(&self) -> Result<(), Error> {
        let pinned = self.generation();
        let watch = move |editor: &mut Editor| {
            editor.rows().demand_generation(pinned)?;
            editor.fresh().watch();
            Ok(())
        };
        self.write(watch).await
    }

    /// How far the cloud was read.
    pub async fn progress(&self) -> Result<Progress, Error> {
        let pinned = self.generation();
        let operation = move |rows: &mut Rows| {
            rows.demand_generation(pinned)?;
            rows.progress()
        };
        self.on_reader(operation).await
    }

    /// Keeps what was used of the byte budget; [`progress`](Self::progress) has it again.
    pub async fn keep_usage(&self, Usage { begun, bytes }: Usage) -> Result<(), Error> {
        let keep =
            move |editor: &mut Editor| outbox::set_state(editor.connection(), "usage", format!("{begun} {bytes}"));
        self.write(keep).await
    }

    /// How far the cloud is behind.
    pub async fn backlog(&self) -> Result<Backlog, Error> {
        let pinned = self.generation();
        let operation = move |rows: &mut Rows| {
            rows.demand_generation(pinned)?;
            rows.backlog()
        };
        self.on_reader(operation).await
    }

    /// The newest conflicts, newest first.
    pub async fn conflicts(&self, limit: usize) -> Result<Vec<LoggedConflict>, Error> {
        self.on_reader(move |rows| rows.conflicts(limit)).await
    }
}
