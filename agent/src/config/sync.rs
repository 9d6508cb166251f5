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
}

impl Default for Sync {
    fn default() -> Self {
        Self { table: String::new(), window: 8, delay: Duration::ZERO }
    }
}

impl Sync {
    pub(super) fn read(s: &Section) -> Self {
        let d = Self::default();
        Self {
            table: s.text("table", &d.table),
            window: s.count("window", 1..=256, d.window),
            delay: s.duration("delay", Duration::ZERO..=Duration::from_secs(24 * 60 * 60), d.delay),
        }
    }
}
