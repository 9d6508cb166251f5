//! The embedded database: a schema, items as JSON documents in SQLite, durable writes with group commit, and the change log
//! that replication reads.
//!
//! ```
//! use ioto::config;
//! use ioto::db::{Db, Query, Schema};
//! use serde_json::json;
//!
//! # let directory = std::env::temp_dir().join(format!("ioto-db-example-{}", std::process::id()));
//! # let path = directory.join("device.db");
//! let schema = "{models: {Reading: {id: {type: 'string', generate: 'ulid'}, name: {type: 'string', required: true}}}}";
//! let options = config::Database { path, ..Default::default() };
//! let db = Db::open(&options, Schema::parse(schema, "schema.json5")?)?;
//! smol::block_on(async {
//!     let reading = json!({"name": "temperature"}).as_object().cloned().unwrap_or_default();
//!     let made = db.create("Reading", reading).await?; // safe on the disk from here on
//!     let page = db.find("Reading", Query::new().filter("name", "temperature")).await?;
//!     assert_eq!(page.items, [made]);
//!     db.close().await;
//!     Ok::<_, ioto::db::Error>(())
//! })?;
//! # std::fs::remove_dir_all(directory).ok();
//! # Ok::<_, ioto::db::Error>(())
//! ```

pub mod changelog;
pub mod inbound;

mod access_log;
mod basis;
mod bounds;
mod care;
mod claim;
mod condition;
mod csv;
mod date;
mod editor;
mod error;
mod filter;
mod finder;
mod generate;
mod handle;
mod health;
mod history;
mod kept;
pub(crate) mod merge;
mod migration;
mod operation;
mod outbox;
mod pages;
mod process_reader;
mod query;
mod reader;
mod recovery;
mod replication;
mod resealing;
mod room;
mod rows;
mod salvage;
mod schema;
mod schema_parts;
mod schema_process;
mod schema_reader;
mod seal;
mod settling;
mod store;
mod update;
mod validate;
mod watch;
mod worker;
mod writer;

pub use self::access_log::AccessBounds;
pub use self::care::{ModelStatistics, Statistics, Verdict, restore};
pub use self::csv::{Csv, csv_header, csv_row};
pub use self::error::Error;
pub use self::filter::{Filter, Test};
pub use self::handle::Db;
pub use self::health::{Health, Recovery};
pub use self::operation::{Done, MAX_OPERATIONS, Operation};
pub use self::query::{DEFAULT_LIMIT, Item, MAX_FILTERS, MAX_ITEM, MAX_KEY, MAX_LIMIT, MAX_PAGE, Page, Query};
pub use self::schema::{Enable, Field, Generate, Model, Schema, Sync, Type};
pub use self::schema_process::{Caps, Full, Mode, Policy, Priority, Process};
pub use self::update::Update;
pub use self::watch::{Change, Heard, Watch};
