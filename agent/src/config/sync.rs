//! `sync`: replication of the database to DynamoDB. Which models take part is said in the schema.

use std::time::Duration;

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
