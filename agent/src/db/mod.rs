//! The embedded database: a schema, items as JSON documents in SQLite, durable writes with group commit, and the change log
//! that replication reads.

pub mod changelog;

mod claim;
mod date;
mod editor;
mod error;
mod generate;
mod handle;
mod outbox;
mod query;
mod rows;
mod schema;
mod schema_reader;
mod store;
mod validate;
mod worker;
mod writer;

pub use self::error::Error;
pub use self::handle::Db;
pub use self::query::{DEFAULT_LIMIT, Item, MAX_ITEM, MAX_KEY, MAX_LIMIT, MAX_PAGE, Page, Query};
pub use self::schema::{Enable, Field, Generate, Model, Schema, Sync, Type};
