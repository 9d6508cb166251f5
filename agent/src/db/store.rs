//! Opening the database: the connections, their settings, the tables, and what is done about a damaged file.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use super::claim::Claim;
use super::date;
use super::editor::Editor;
use super::error::Error;
use super::generate::Generator;
use super::outbox::{self, Outbox};
use super::rows::{Rows, column, table};
use super::schema::{Model, Schema};

/// The format of the file that this program writes, and the newest it reads.
const FORMAT: i64 = 1;
/// The format stands in each of the four bytes of SQLite's `user_version`, so that one flipped bit there is known for damage
/// and not taken for a newer program's file, which would never open again.
const REPEATED: i64 = 0x0101_0101;
/// `ioto`: what `file(1)` and others recognise the file by.
const APPLICATION: i64 = 0x696f_746f;

/// Page cache of a connection, KiB.
const CACHE: i64 = 512;
/// Pages (4 KiB) in the log after which it is copied into the file.
const CHECKPOINT: i64 = 256;
/// Bytes to which the log is cut after it was copied.
const LOG: i64 = 2 * 1024 * 1024;
/// Compiled statements that a connection keeps.
const STATEMENTS: usize = 64;

/// An opened database.
pub(super) struct Store {
    pub(super) rows: Rows,
    pub(super) editor: Editor,
    pub(super) site: String,
    pub(super) changes: smol::channel::Receiver<()>,
}

impl Store {
    /// Opens the file; a damaged one is set aside and an empty one begun.
    pub(super) fn open(path: &Path, schema: &Arc<Schema>) -> Result<Self, Error> {
        let claim = Arc::new(Claim::stake(path)?);
        match Self::open_claimed(&claim, schema) {
            Err(error) if is_damage(&error) => {
                let aside = claim.set_aside()?;
                log::error!(
                    "database: {} is damaged ({error}); it was set aside as {} and an empty one is begun",
                    path.display(),
                    aside.display()
                );
                Self::open_claimed(&claim, schema)
            }
            result => result,
        }
    }

    fn open_claimed(claim: &Arc<Claim>, schema: &Arc<Schema>) -> Result<Self, Error> {
        let doubt = claim.doubt();
        let connection = connect(claim.path())?;
        check_format(&connection, claim.path())?;
        if let Some(doubt) = doubt {
            check(&connection, claim.path(), doubt)?;
            claim.trust();
        }
        let mut generator = Generator::new()?;
        let site = prepare(&connection, schema, &mut generator)?;
        let outbox = Outbox::open(&connection)?;
        let reader = connect(claim.path())?;
        reader.pragma_update(None, "query_only", true)?;
        let (changed, changes) = smol::channel::bounded(1);
        let rows = |connection| Rows::new(connection, schema.clone(), claim.clone());
        let editor = Editor::new(rows(connection), schema.clone(), outbox, generator, changed);
        Ok(Self { rows: rows(reader), editor, site, changes })
    }
}

fn connect(path: &Path) -> Result<Connection, Error> {
    // No mutex in SQLite: each connection belongs to one thread.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cache_size", -CACHE)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT)?;
    connection.pragma_update(None, "journal_size_limit", LOG)?;
    Ok(connection)
}

/// Refuses a file that a newer program wrote, before anything in it is touched.
fn check_format(connection: &Connection, path: &Path) -> Result<(), Error> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (found, application) = (pragma("user_version")?, pragma("application_id")?);
    match found / REPEATED {
        0 if found == 0 && application == 0 => Ok(()),
        _ if found % REPEATED != 0 || application != APPLICATION => Err(damage("it is not a database of this program")),
        1..=FORMAT => Ok(()),
        found => Err(Error::Version { path: path.into(), found, known: FORMAT }),
    }
}

/// Checks the file, and removes what is no document: a bit that flips inside of one escapes SQLite's own check.
fn check(connection: &Connection, path: &Path, doubt: &str) -> Result<(), Error> {
    let begun = Instant::now();
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(damage(&verdict));
    }
    connection.execute_batch("REINDEX")?;
    let mut statement =
        connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'm_*'")?;
    let tables = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    for table in tables {
        // The cloud keeps such a row: what was never removed on purpose is not recorded as removed.
        let sql = format!("DELETE FROM \"{table}\" WHERE NOT json_valid(doc) OR json_type(doc) <> 'object'");
        let removed = connection.execute(&sql, [])?;
        if removed > 0 {
            log::error!("database: {removed} damaged rows were removed from {table}");
        }
    }
    log::info!("database: {} was checked in {:?} because {doubt}: sound", path.display(), begun.elapsed());
    Ok(())
}

/// Makes the tables and indexes that the schema wants, all or nothing; returns the site.
fn prepare(connection: &Connection, schema: &Schema, generator: &mut Generator) -> Result<String, Error> {
    let transaction = connection.unchecked_transaction()?;
    transaction.pragma_update(None, "user_version", FORMAT * REPEATED)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.execute_batch(outbox::TABLES)?;
    let site = match outbox::state(&transaction, "site")? {
        Some(site) => site,
        None => {
            let site = generator.uid(16)?;
            outbox::set_state(&transaction, "site", &site)?;
            site
        }
    };
    let mut wanted = Vec::new();
    for model in schema.models() {
        transaction.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {} (key TEXT PRIMARY KEY, doc TEXT NOT NULL, expires INTEGER) WITHOUT ROWID",
            table(model)
        ))?;
        wanted.extend(indexes(model));
        renew_expiry(&transaction, model)?;
        enqueue(&transaction, model)?;
    }
    adjust_indexes(&transaction, &wanted)?;
    transaction.commit()?;
    Ok(site)
}

/// The indexes of a model: name and what they are on.
fn indexes(model: &Model) -> Vec<(String, String)> {
    let table = table(model);
    let mut indexes: Vec<(String, String)> = (model.indexes.iter())
        .map(|index| {
            let name = format!("i_{}.{}.{}", model.name(), index.hash, index.sort.as_deref().unwrap_or_default());
            let sort = index.sort.as_deref().map(|sort| format!(", {}", column(sort))).unwrap_or_default();
            (name, format!("{table} ({}{sort}, key)", column(&index.hash)))
        })
        .collect();
    if model.ttl().is_some() {
        indexes.push((format!("i_{}..expires", model.name()), format!("{table} (expires) WHERE expires IS NOT NULL")));
    }
    indexes
}

fn adjust_indexes(connection: &Connection, wanted: &[(String, String)]) -> Result<(), Error> {
    let mut statement =
        connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'index' AND name GLOB 'i_*'")?;
    let present = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    for name in present.iter().filter(|name| !wanted.iter().any(|(wanted, _)| wanted == *name)) {
        connection.execute_batch(&format!("DROP INDEX \"{name}\""))?;
    }
    for (name, on) in wanted.iter().filter(|(name, _)| !present.contains(name)) {
        connection.execute_batch(&format!("CREATE INDEX \"{name}\" ON {on}"))?;
    }
    Ok(())
}

/// When another field than before says when a row's time is over, the rows that are there follow it.
fn renew_expiry(connection: &Connection, model: &Model) -> Result<(), Error> {
    let name = format!("ttl:{}", model.name());
    let before: Option<String> = outbox::state(connection, &name)?;
    let now = model.ttl().map(|field| field.name());
    if before.as_deref().unwrap_or_default() == now.unwrap_or_default() {
        return Ok(());
    }
    let moment = match now {
        Some(field) => format!("CAST(round((julianday({}) - 2440587.5) * 86400000) AS INTEGER)", column(field)),
        None => "NULL".into(),
    };
    connection.execute(&format!("UPDATE {} SET expires = {moment}", table(model)), [])?;
    outbox::set_state(connection, &name, now)
}

/// When a model begins to replicate up, the rows that are there already are changes that the cloud does not have.
fn enqueue(connection: &Connection, model: &Model) -> Result<(), Error> {
    let name = format!("up:{}", model.name());
    let before = outbox::state::<bool>(connection, &name)?.unwrap_or(false);
    let now = model.sync().up();
    if before == now {
        return Ok(());
    }
    if now {
        let first: i64 = outbox::state(connection, "n")?.unwrap_or(0);
        let sql = format!(
            "INSERT INTO _sync_out (model, key, n, op, recorded) \
             SELECT ?1, key, ?2 + row_number() OVER (ORDER BY key), randomblob(16), ?3 FROM {} WHERE true \
             ON CONFLICT (model, key) DO NOTHING",
            table(model)
        );
        connection.execute(&sql, params![model.name(), first, date::now()])?;
        let last: Option<i64> = connection.query_row("SELECT max(n) FROM _sync_out", [], |row| row.get(0))?;
        outbox::set_state(connection, "n", first.max(last.unwrap_or(0)))?;
    }
    outbox::set_state(connection, &name, now)
}

/// Whether an error at the opening says that the file is not what this program wrote. What can be mended outside of the file
/// (space, rights, memory, another process) does not.
fn is_damage(error: &Error) -> bool {
    match error {
        Error::Store(source) => !matches!(
            source.sqlite_error_code(),
            Some(
                ErrorCode::SystemIoFailure
                    | ErrorCode::CannotOpen
                    | ErrorCode::ReadOnly
                    | ErrorCode::PermissionDenied
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::FileLockingProtocolFailed
                    | ErrorCode::OutOfMemory
                    | ErrorCode::NoLargeFileSupport
            )
        ),
        _ => false,
    }
}

fn damage(what: &str) -> Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Error::Store(Arc::new(rusqlite::Error::SqliteFailure(code, Some(what.into()))))
}
