//! How a model is processed: `process.MODEL` of the schema.

use std::fmt;

use super::schema::{Enable, Sync};

/// How a model is processed: where it lives, how it replicates, and how much of it there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Where the model lives.
    pub enable: Enable,
    /// In which direction it replicates.
    pub sync: Sync,
    /// What of its changes replicates.
    pub mode: Mode,
    /// Who wins when device and cloud changed the same item.
    pub conflict: Policy,
    /// 0 to 9; changes of models with a higher one are sent first. 5 when the schema does not say.
    pub priority: u8,
    /// How much of the model the device keeps.
    pub caps: Caps,
    /// How much of the model may wait for the cloud.
    pub pending: Caps,
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
    /// The cloud.
    #[default]
    Cloud,
    /// The device.
    Device,
    /// The later write, by hybrid logical clocks.
    Lww,
    /// Field by field: who changed it; a field that both changed is the cloud's.
    Merge,
    /// Both: the device's becomes an item of its own.
    Both,
}

/// A bound, and what happens at it: `process.MODEL.caps` and `process.MODEL.pending`.
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

impl Default for Process {
    fn default() -> Self {
        Self {
            enable: Enable::default(),
            sync: Sync::default(),
            mode: Mode::default(),
            conflict: Policy::default(),
            priority: 5,
            caps: Caps::default(),
            pending: Caps::default(),
            memory: false,
        }
    }
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
