//! How a model is processed: `process.MODEL` of the schema.

use std::fmt;

use super::schema::{Enable, Sync};

/// How a model is processed: where it lives, how it replicates, and how much of it there may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Where the model lives.
    pub enable: Enable,
    /// In which direction it replicates.
    pub sync: Sync,
    /// What of its changes replicates.
    pub mode: Mode,
    /// Who wins when device and cloud changed the same item.
    pub conflict: Policy,
    /// Whose changes are sent first.
    pub priority: Priority,
    /// How much of the model the device keeps.
    pub caps: Caps,
    /// Whether the items are kept in memory only, until the database is closed.
    pub memory: bool,
}

/// What of a model's changes replicates: `process.MODEL.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The state of each item: many changes of one item are sent as one.
    #[default]
    Items,
    /// Every item once: items are only added, and may be removed when the cloud has them.
    Journal,
}

/// Who wins when device and cloud changed the same item: `process.MODEL.conflict`. The loser is in the conflict log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The device: its row is written over theirs. So it is where a model replicates up.
    #[default]
    Device,
    /// The cloud: its item replaces the row. So it is, when nothing else is said, where a model replicates in both directions.
    Cloud,
    /// The later change, by the clocks of device and cloud writer.
    Lww,
    /// Both, field by field. Where both changed the same field, and where both made the item, the cloud; where one side removed the
    /// item and the other changed it, the change.
    Merge,
    /// Both: the cloud's item replaces the row, and the device's becomes a row beside it with a key of its own.
    Both,
}

/// Whose changes are sent first: `process.MODEL.priority`. Those of one priority are sent as they were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// Before all others.
    High,
    /// After those.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

/// The highest first.
pub(super) const PRIORITIES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

/// A bound, and what happens at it: `process.MODEL.caps`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Rows, at most.
    pub rows: Option<u64>,
    /// Bytes of their documents, at most.
    pub bytes: Option<u64>,
    /// What happens to a new item when there is no room.
    pub full: Full,
}

/// What happens at a bound: `policy` of [`Caps`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Full {
    /// The new item is refused.
    #[default]
    Block,
    /// Those with the lowest keys, which are the oldest where keys rise with time, are removed to make room.
    DropOldest,
}

impl Caps {
    /// Whether there is no bound.
    pub fn is_unlimited(&self) -> bool {
        self.rows.is_none() && self.bytes.is_none()
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Items => "items",
            Mode::Journal => "journal",
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Policy::Cloud => "cloud",
            Policy::Device => "device",
            Policy::Lww => "lww",
            Policy::Merge => "merge",
            Policy::Both => "both",
        })
    }
}
