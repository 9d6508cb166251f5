//! `sync`: replication of the database to DynamoDB. Which models take part is said in the schema.

use std::time::Duration;

use super::section::Section;

/// Replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// `sync.table`: the DynamoDB table, keys `pk` and `sk`, both strings.
    pub table: String,
    /// `sync.window`: requests on the way at a time.
    pub window: usize,
    /// `sync.delay`: how long a change waits for a later one of the same row before it is sent.
    pub delay: Duration,
    /// `sync.index`: the table's index of the changes that others make, keys `gpk` and `_ts`, both strings, with all attributes.
    /// Empty: there is none, and models that come from the cloud are read as a whole each time.
    pub index: String,
    /// `sync.pull`: how often the cloud is asked for changes.
    pub pull: Duration,
    /// `sync.resync`: how often models that come from the cloud are read as a whole.
    pub resync: Duration,
}

impl Default for Sync {
    fn default() -> Self {
        Self {
            table: String::new(),
            window: 8,
            delay: Duration::ZERO,
            index: "changes".into(),
            pull: Duration::from_secs(5 * 60),
            resync: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

impl Sync {
    pub(super) fn read(s: &Section) -> Self {
        let d = Self::default();
        Self {
            table: s.text("table", &d.table),
            window: s.count("window", 1..=256, d.window),
            delay: s.duration("delay", Duration::ZERO..=Duration::from_secs(24 * 60 * 60), d.delay),
            index: s.text("index", &d.index),
            pull: s.duration("pull", Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60), d.pull),
            resync: s.duration("resync", Duration::from_secs(60)..=Duration::from_secs(80 * 24 * 60 * 60), d.resync),
        }
    }
}
