//! The change log: what of the rows the cloud does not know yet.
//!
//! Written in the same transaction as the row, so a row changed exactly when its change is recorded. There is one pending
//! change for each row, however often it was written, and it holds no payload: that is read from the row when it is sent.

use serde_json::{Value, json};

use super::date;
use super::query::Item;
use super::schema::Schema;

/// A change that waits to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// The model of the row.
    pub model: String,
    /// The key of the row.
    pub key: String,
    /// The number of the row's last change: grows with every change on this device, never reused by this site.
    pub n: u64,
    /// The identity of the change, so that the cloud recognises it when it comes twice.
    pub op: [u8; 16],
    /// The version of the cloud's item that the row was last known to have; 0: none.
    pub base: u64,
    /// Whether the row was made anew after it had been removed: that the cloud has no item of it is then no surprise.
    pub is_anew: bool,
    /// The row now; `None`: it was removed.
    pub item: Option<Item>,
    /// When the device changed it last, milliseconds of UTC, for a model whose conflicts the later change wins; else 0.
    pub changed: i64,
    /// When the oldest change in it was made, milliseconds of UTC. For people: nothing is decided by it.
    pub recorded: i64,
}

/// What became of a [`Pending`] change.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    /// The model of the row.
    pub model: String,
    /// The key of the row.
    pub key: String,
    /// [`Pending::n`] of the change that was sent. A newer change of the row stays queued.
    pub n: u64,
    /// The version of the cloud's item now.
    pub base: u64,
    /// What to do with the row and its change.
    pub outcome: Outcome,
    /// Both sides, when they disagreed; kept in the conflict log.
    pub conflict: Option<Conflict>,
    /// What the cloud is known to have of the device's row, for a model that is merged: this merge, or the next, begins there.
    pub known: Option<Item>,
}

/// What a [`Settlement`] does.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The cloud has the change: it is no longer pending.
    Applied,
    /// The cloud has another version: the change stays pending and is sent again on top of [`Settlement::base`].
    Rebase,
    /// The cloud's item wins (`None`: its deletion) and replaces the row, unless a newer change of the row is queued.
    Theirs(Option<Item>),
    /// The row gets the changes of this item of the cloud, newer changes of the row included, and stays pending on top of
    /// [`Settlement::base`] unless it is then the same. The conflict is logged only where both changed one field.
    Merge {
        /// The item.
        theirs: Item,
        /// The number of the device's last change that is in it, if this database file made one; else 0.
        counter: u64,
    },
    /// The cloud's item gets the row, and the device's, newer changes included, becomes a new row with a key of its own.
    Both(Item),
}

impl Outcome {
    /// How it is called in the conflict log.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Rebase => "rebase",
            Self::Theirs(_) => "theirs",
            Self::Merge { .. } => "merge",
            Self::Both(_) => "both",
        }
    }
}

/// The two sides of a conflict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conflict {
    /// The device's item; `None`: it was removed.
    pub mine: Option<Item>,
    /// The cloud's item; `None`: it was removed.
    pub theirs: Option<Item>,
}

/// A conflict as it was logged.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedConflict {
    /// The model of the row.
    pub model: String,
    /// The key of the row.
    pub key: String,
    /// The number of the device's change.
    pub n: u64,
    /// The version of the cloud's item.
    pub base: u64,
    /// The two sides.
    pub conflict: Conflict,
    /// How it was resolved: `rebase` (the device's went on top), `theirs`, `merge` or `both`.
    pub resolution: String,
    /// When, milliseconds of UTC.
    pub at: i64,
}

impl LoggedConflict {
    /// As JSON, without hidden fields: what the API and the command line show. A side that removed the item is `null`.
    pub fn to_json(&self, schema: &Schema) -> Value {
        let side = |item: &Option<Item>| match (item, schema.model(&self.model)) {
            (Some(item), Some(model)) => Value::Object(model.visible(item.clone())),
            (Some(item), None) => Value::Object(item.clone()),
            (None, _) => Value::Null,
        };
        json!({
            "model": self.model, "id": self.key, "at": date::format(self.at), "resolution": self.resolution,
            "version": self.base, "device": side(&self.conflict.mine), "cloud": side(&self.conflict.theirs),
        })
    }
}

/// How far the cloud is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Rows with a pending change.
    pub rows: u64,
    /// When the oldest pending change was made, milliseconds of UTC.
    pub oldest: Option<i64>,
    /// Conflicts in the log.
    pub conflicts: u64,
}
