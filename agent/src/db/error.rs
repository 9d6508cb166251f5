//! What can go wrong in the database, in words for the person who has to mend it.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config;

/// An error of the database. Cheap to clone, because one failed commit answers every operation that shared it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The schema cannot be used. The message names the file, the model, the field and what was expected.
    Schema(String),
    /// The schema has no such model on the device.
    Model {
        /// The name that was asked for.
        model: String,
    },
    /// An item or a query does not fit the schema.
    Invalid {
        /// The model.
        model: String,
        /// The field, or what else of the request was wrong (`limit`, `next`, `key`).
        field: String,
        /// The value as JSON, shortened.
        value: String,
        /// What was expected.
        rule: String,
    },
    /// A row with this key is there already.
    Exists {
        /// The model.
        model: String,
        /// The key of the row.
        key: String,
    },
    /// No row with this key.
    Missing {
        /// The model.
        model: String,
        /// The key of the row.
        key: String,
    },
    /// The item is not as the condition of the operation demands.
    Condition {
        /// The model.
        model: String,
        /// The key of the row.
        key: String,
    },
    /// The model is as large as the schema lets it be: `process.MODEL.caps`.
    Capped {
        /// The model.
        model: String,
        /// The bound.
        bound: String,
    },
    /// An operation of a transaction failed, and none of them was done.
    Step {
        /// Which, from 0.
        at: usize,
        /// Why.
        error: Box<Error>,
    },
    /// An item is larger than [`MAX_ITEM`](super::MAX_ITEM).
    TooLarge {
        /// The model.
        model: String,
        /// Bytes of the item as JSON.
        size: usize,
    },
    /// No room on the disk: nothing of the operation was kept.
    Full(Arc<rusqlite::Error>),
    /// The database is as large as `database.size` allows: nothing of the operation was kept.
    NoRoom {
        /// The bound.
        bytes: u64,
        /// It is the log that is too long, because a backup or another long read still needs it.
        is_held: bool,
    },
    /// As many watch as may: `database.watchers`.
    Watched {
        /// So many.
        most: usize,
    },
    /// SQLite refused; the operation was not carried out.
    Store(Arc<rusqlite::Error>),
    /// A file or directory of the database cannot be used.
    File {
        /// What it was wanted for.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: Arc<std::io::Error>,
    },
    /// Another process has the database open.
    InUse {
        /// The database file.
        path: PathBuf,
    },
    /// The file was written by a newer version of the program.
    Version {
        /// The database file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format this program knows.
        known: i64,
    },
    /// A field that is encrypted cannot be opened, or not be sealed. The item is as it was.
    Sealed {
        /// The model.
        model: String,
        /// The key of the row.
        key: String,
        /// The field.
        field: String,
        /// Why.
        reason: String,
    },
    /// The file was found to be damaged in use: what can be read of it is being recovered, which takes seconds.
    Damaged(String),
    /// The file was recovered after damage, and what was asked concerns the one before.
    Replaced,
    /// The database was closed.
    Closed,
}

impl Error {
    /// A short name for programs, used by the API.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Schema(_) => "schema",
            Error::Model { .. } => "no_model",
            Error::Invalid { .. } => "invalid",
            Error::Exists { .. } => "exists",
            Error::Missing { .. } => "missing",
            Error::Condition { .. } => "condition",
            Error::Capped { .. } => "capped",
            Error::Step { error, .. } => error.code(),
            Error::TooLarge { .. } => "too_large",
            Error::Full(_) | Error::NoRoom { .. } => "full",
            Error::Watched { .. } => "watched",
            Error::Store(_) | Error::File { .. } => "store",
            Error::InUse { .. } => "in_use",
            Error::Version { .. } => "version",
            Error::Sealed { .. } => "sealed",
            Error::Damaged(_) => "damaged",
            Error::Replaced => "replaced",
            Error::Closed => "closed",
        }
    }

    /// An item or query that does not fit: shortens the value.
    pub(super) fn invalid(model: &str, field: &str, value: &serde_json::Value, rule: impl Into<String>) -> Self {
        let mut value = value.to_string();
        if value.len() > 80 {
            let end = (0..=77).rev().find(|&at| value.is_char_boundary(at)).unwrap_or(0);
            value.truncate(end);
            value.push_str("...");
        }
        Error::Invalid { model: model.into(), field: field.into(), value, rule: rule.into() }
    }

    /// The error of a transaction's operation.
    pub(super) fn at(self, at: usize) -> Self {
        Error::Step { at, error: Box::new(self) }
    }

    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::File { action, path: path.into(), source: Arc::new(source) }
    }

    /// There is something in the file that was never written.
    pub(super) fn damage(what: &str) -> Self {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        Error::Store(Arc::new(rusqlite::Error::SqliteFailure(code, Some(what.into()))))
    }

    /// Whether the database file itself is damaged: SQLite says so, or there is something in it that was never written.
    pub(super) fn is_corrupt(&self) -> bool {
        use rusqlite::Error::{
            FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, SqliteFailure, Utf8Error,
        };
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Error::Store(source) => match source.as_ref() {
                FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..) => {
                    true
                }
                SqliteFailure(_, Some(message)) if message == "malformed JSON" => true,
                source => matches!(source.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase)),
            },
            Error::Step { error, .. } => error.is_corrupt(),
            _ => false,
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Error::Full(Arc::new(source)),
            _ => Error::Store(Arc::new(source)),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Schema(message) => f.write_str(message),
            Error::Model { model } => write!(f, "the schema has no model '{model}' on this device"),
            Error::Invalid { model, field, value, rule } if value == "null" => {
                write!(f, "model {model}, {field}: {rule}")
            }
            Error::Invalid { model, field, value, rule } => write!(f, "model {model}, {field} = {value}: {rule}"),
            Error::Exists { model, key } => write!(f, "model {model} has an item '{key}' already; update it instead"),
            Error::Missing { model, key } => write!(f, "model {model} has no item '{key}'"),
            Error::Condition { model, key } => {
                write!(f, "model {model}: the item '{key}' is not as the condition demands; nothing was changed")
            }
            Error::Capped { model, bound } => write!(
                f,
                "model {model} has {bound}, as many as its schema allows (process.{model}.caps); remove items, raise the \
                 bound, or set `policy: 'drop_oldest'`"
            ),
            Error::Step { at, error } => write!(f, "operation {} of the transaction: {error}; none was done", at + 1),
            Error::TooLarge { model, size } => {
                write!(f, "model {model}: the item has {size} bytes, at most {} are possible", super::MAX_ITEM)
            }
            Error::Full(_) => f.write_str("no room on the disk for the database; nothing was changed, free some space"),
            Error::NoRoom { bytes, is_held: false } => write!(
                f,
                "the database is as large as database.size allows ({}); nothing was changed: remove items, raise it, or let \
                 models drop their oldest items (database.policy 'dropOldest', and `caps: {{policy: 'drop_oldest'}}` in the schema)",
                config::write_size(*bytes)
            ),
            Error::NoRoom { bytes, is_held: true } => write!(
                f,
                "the database's log has no more room within database.size ({}) while a backup or another long read goes on; \
                 nothing was changed, try again after it",
                config::write_size(*bytes)
            ),
            Error::Watched { most } => {
                write!(
                    f,
                    "{most} watch the database, as many as database.watchers allows; try again later, or raise it"
                )
            }
            Error::Store(source) => write!(f, "the database failed: {source}"),
            Error::File { action, path, source } => write!(f, "cannot {action} {}: {source}", path.display()),
            Error::InUse { path } => {
                write!(f, "{} is open in another process; stop the agent or ask it instead", path.display())
            }
            Error::Version { path, found, known } => write!(
                f,
                "{} has format {found}, this program knows formats up to {known}; start the version that wrote it, or \
                 move the file away to begin with an empty database",
                path.display()
            ),
            Error::Sealed { model, key, field, reason } => {
                write!(f, "model {model}, item '{key}', field {field} is encrypted and cannot be used: {reason}")
            }
            Error::Damaged(reason) => {
                write!(
                    f,
                    "the database file is damaged and what can be read of it is recovered; try again soon: {reason}"
                )
            }
            Error::Replaced => {
                f.write_str("the database file was damaged and is another one since; begin again with what that has")
            }
            Error::Closed => f.write_str("the database is closed"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Full(source) | Error::Store(source) => Some(source.as_ref()),
            Error::File { source, .. } => Some(source.as_ref()),
            Error::Step { error, .. } => Some(error.as_ref()),
            _ => None,
        }
    }
}
