//! Questions to the database and their answers.

use serde_json::{Map, Value};

/// An item of a model: its fields in the order they were written.
pub type Item = Map<String, Value>;

/// Bytes of an item as JSON, at most. DynamoDB takes 400 KB with its own overhead; this leaves room for it.
pub const MAX_ITEM: usize = 256 * 1024;
/// Bytes of a key, at most: what DynamoDB takes for a sort key.
pub const MAX_KEY: usize = 1023;
/// Items of a page when the query does not say.
pub const DEFAULT_LIMIT: usize = 100;
/// Items of a page, at most.
pub const MAX_LIMIT: usize = 1000;
/// Filters of a query, at most: SQLite fails at a thousand, and keeps the statement of every combination for a while.
pub const MAX_FILTERS: usize = 32;
/// Bytes of a page, about: it ends after the item that crosses this, so that an answer never takes much memory.
pub const MAX_PAGE: usize = 1024 * 1024;

/// Which items to find. The answer is ordered by key; keys made by `ulid` rise with time.
///
/// ```
/// use ioto::db::Query;
/// let query = Query::new().filter("name", "temperature").limit(10);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Fields and the values they must have, all of them, [`MAX_FILTERS`] at most. `null`: the item has no such field.
    pub filters: Vec<(String, Value)>,
    /// Items of the page, 1 to [`MAX_LIMIT`]; [`DEFAULT_LIMIT`] when `None`.
    pub limit: Option<usize>,
    /// Continue after this key: [`Page::next`] of the page before.
    pub next: Option<String>,
    /// From the highest key to the lowest.
    pub descending: bool,
}

impl Query {
    /// All items.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only items whose `field` has this value.
    #[must_use]
    pub fn filter(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.filters.push((field.into(), value.into()));
        self
    }

    /// At most this many items.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// From the highest key to the lowest: the newest first where keys rise with time.
    #[must_use]
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }

    /// Only items after this key, in the order of the query.
    #[must_use]
    pub fn after(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// A page of found items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The items, ordered by key.
    pub items: Vec<Item>,
    /// The key to continue after; `None` at the end.
    pub next: Option<String>,
}
