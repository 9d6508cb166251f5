//! Questions to the database and their answers.

use serde_json::{Map, Value};

use super::filter::Filter;

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

/// Which items to find, in which order, and what of them.
///
/// ```
/// use ioto::db::{Filter, Query};
/// let query = Query::new().filter("name", "temperature").matching(Filter::greater("value", 21)).limit(10);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// What the items must be like, [`MAX_FILTERS`] comparisons at most.
    pub filter: Filter,
    /// The field by which they are ordered, items without it first; the key when `None`. Items that are equal in it are
    /// ordered by their keys. Keys made by `ulid` rise with time.
    pub order: Option<String>,
    /// The fields of the items that are wanted; all when empty.
    pub fields: Vec<String>,
    /// Items of the page, 1 to [`MAX_LIMIT`]; [`DEFAULT_LIMIT`] when `None`.
    pub limit: Option<usize>,
    /// Continue after this: [`Page::next`] of the page before, of the same query.
    pub next: Option<String>,
    /// From the highest to the lowest.
    pub descending: bool,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            filter: Filter::All(Vec::new()),
            order: None,
            fields: Vec::new(),
            limit: None,
            next: None,
            descending: false,
        }
    }
}

impl Query {
    /// All items.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only items whose `field` has this value; `null`: that have no such field.
    #[must_use]
    pub fn filter(self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.matching(Filter::equal(field, value))
    }

    /// Only items that are also so.
    #[must_use]
    pub fn matching(mut self, filter: Filter) -> Self {
        match &mut self.filter {
            Filter::All(filters) => filters.push(filter),
            first => self.filter = Filter::All(vec![first.clone(), filter]),
        }
        self
    }

    /// Ordered by this field, then by key.
    #[must_use]
    pub fn order(mut self, field: impl Into<String>) -> Self {
        self.order = Some(field.into());
        self
    }

    /// Only these fields of the items.
    #[must_use]
    pub fn fields<F: Into<String>>(mut self, fields: impl IntoIterator<Item = F>) -> Self {
        self.fields = fields.into_iter().map(Into::into).collect();
        self
    }

    /// At most this many items.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// From the highest to the lowest: the newest first where keys rise with time.
    #[must_use]
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }

    /// Only items after [`Page::next`] of the page before.
    #[must_use]
    pub fn after(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// A page of found items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The items, in the order of the query.
    pub items: Vec<Item>,
    /// Where to continue, for [`Query::next`]; `None` at the end.
    pub next: Option<String>,
}
