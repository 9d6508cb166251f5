//! Opening the database: the connections, their settings, the tables, and what is done about a damaged file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use super::claim::{Claim, Doubt};
use super::date;
use super::editor::Editor;
use super::error::Error;
use super::generate::Generator;
use super::kept;
use super::outbox::{self, Outbox};
use super::rows::{self, Rows, column, table};
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

/// Columns of a model's table.
const COLUMNS: &str = "(key TEXT PRIMARY KEY, doc TEXT NOT NULL, expires INTEGER) WITHOUT ROWID";

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
                    "{} is damaged ({error}); it was set aside as {} and an empty one is begun",
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
    // Otherwise a LIMIT that is a parameter has a kept statement compiled again each time.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
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
        _ if found % REPEATED != 0 || application != APPLICATION => {
            Err(Error::damage("it is not a database of this program"))
        }
        1..=FORMAT => Ok(()),
        found => Err(Error::Version { path: path.into(), found, known: FORMAT }),
    }
}

/// Checks the file. One that failed in use is read as a whole: a bit that flips inside of a document escapes SQLite.
fn check(connection: &Connection, path: &Path, doubt: Doubt) -> Result<(), Error> {
    let begun = Instant::now();
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Error::damage(&verdict));
    }
    if doubt != Doubt::NotClosed {
        connection.execute_batch("REINDEX")?;
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'm_*'";
        let mut statement = connection.prepare(sql)?;
        for table in statement.query_map([], |row| row.get::<_, String>(0))? {
            remove_unreadable(connection, &table?)?;
        }
        outbox::read_all(connection)?;
    }
    log::info!("{} was checked in {:?} because {doubt}: sound", path.display(), begun.elapsed());
    Ok(())
}

/// Removes the rows that are no documents. That is not recorded for the cloud, which keeps what nobody removed on purpose.
fn remove_unreadable(connection: &Connection, table: &str) -> Result<(), Error> {
    let mut statement = connection.prepare(&format!("SELECT key, doc, expires FROM \"{table}\""))?;
    let mut rows = statement.query([])?;
    let mut unreadable = Vec::new();
    while let Some(row) = rows.next()? {
        let (key, document, expires) = (row.get_ref(0)?, row.get_ref(1)?, row.get_ref(2)?);
        let readable = key.as_str().is_ok()
            && document.as_str().is_ok_and(|text| rows::item(text).is_ok())
            && expires.as_i64_or_null().is_ok();
        if !readable {
            unreadable.push(match key {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
                _ => return Err(Error::damage("a key is no text")),
            });
        }
    }
    let sql = format!("DELETE FROM \"{table}\" WHERE key = ?1 OR key = CAST(?1 AS BLOB)");
    for key in &unreadable {
        connection.execute(&sql, [ToSqlOutput::Borrowed(ValueRef::Text(key))])?;
    }
    if !unreadable.is_empty() {
        log::error!("{} damaged rows were removed from {table}", unreadable.len());
    }
    Ok(())
}

/// Makes the tables and indexes that the schema wants, all or nothing; returns the site.
fn prepare(connection: &Connection, schema: &Schema, generator: &mut Generator) -> Result<String, Error> {
    let transaction = connection.unchecked_transaction()?;
    transaction.pragma_update(None, "user_version", FORMAT * REPEATED)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    let present = definitions(&transaction)?;
    for table in outbox::TABLES {
        make_table(&transaction, &present, table)?;
    }
    kept::prepare(&transaction, &present)?;
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
        check_case(&present, model)?;
        make_table(&transaction, &present, &format!("{} {COLUMNS}", table(model)))?;
        wanted.extend(indexes(model));
        renew_expiry(&transaction, model)?;
        enqueue(&transaction, model)?;
    }
    adjust_indexes(&transaction, &present, &wanted)?;
    transaction.commit()?;
    Ok(site)
}

/// What there is already: the SQL that made it, by name.
fn definitions(connection: &Connection) -> Result<BTreeMap<String, String>, Error> {
    let mut statement = connection.prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")?;
    let definitions = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(definitions.collect::<Result<_, _>>()?)
}

/// Makes a table, `definition` being its name and columns. One that is there must have been made by the same words: they
/// are kept in the file, and a bit that flips there escapes SQLite's check, but makes every later statement fail.
fn make_table(connection: &Connection, present: &BTreeMap<String, String>, definition: &str) -> Result<(), Error> {
    let name = definition.split(' ').next().unwrap_or_default().trim_matches('"');
    let sql = format!("CREATE TABLE {definition}");
    match present.get(name) {
        None => Ok(connection.execute_batch(&sql)?),
        Some(made) if *made == sql => Ok(()),
        Some(made) => Err(Error::damage(&format!("table {name} was made by '{made}'"))),
    }
}

/// Refuses a model whose name is that of an earlier one in other case: SQLite takes both tables for the same. It is no damage
/// as long as the earlier table was made under its name.
fn check_case(present: &BTreeMap<String, String>, model: &Model) -> Result<(), Error> {
    let name = format!("m_{}", model.name());
    let is_earlier = |other: &str, made: &str| {
        other != name && other.eq_ignore_ascii_case(&name) && made == format!("CREATE TABLE \"{other}\" {COLUMNS}")
    };
    match present.iter().find(|(other, made)| is_earlier(other, made)) {
        None => Ok(()),
        Some((other, _)) => Err(Error::Schema(format!(
            "model {}: the database holds the items of model {}, which differs in case only; keep that name, or choose one \
             that differs in more",
            model.name(),
            other.strip_prefix("m_").unwrap_or(other)
        ))),
    }
}

/// The indexes of a model, by name: the SQL that makes them.
fn indexes(model: &Model) -> Vec<(String, String)> {
    let table = table(model);
    let mut indexes: Vec<(String, String)> = (model.indexes.iter())
        .map(|field| {
            // With the key in it, items of one value come in the order of their keys.
            let name = format!("i_{}.{field}", model.name());
            let sql = format!("CREATE INDEX \"{name}\" ON {table} ({}, key)", column(field));
            (name, sql)
        })
        .collect();
    if model.ttl().is_some() {
        let name = format!("i_{}..expires", model.name());
        let sql = format!("CREATE INDEX \"{name}\" ON {table} (expires) WHERE expires IS NOT NULL");
        indexes.push((name, sql));
    }
    indexes
}

fn adjust_indexes(
    connection: &Connection,
    present: &BTreeMap<String, String>,
    wanted: &[(String, String)],
) -> Result<(), Error> {
    let indexes = present.iter().filter(|(name, _)| name.starts_with("i_"));
    for (name, _) in indexes.filter(|(name, sql)| !wanted.iter().any(|(to, by)| to == *name && by == *sql)) {
        connection.execute_batch(&format!("DROP INDEX IF EXISTS \"{name}\""))?;
    }
    for (name, sql) in wanted.iter().filter(|(name, sql)| present.get(name) != Some(sql)) {
        log::debug!("making the index {name}");
        connection.execute_batch(sql)?;
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
/// (space, rights, memory, another process) does not. `ReadOnly` does: the claim has opened the file for writing, so it is the
/// version in its header that forbids it.
fn is_damage(error: &Error) -> bool {
    match error {
        Error::Store(source) => !matches!(
            source.sqlite_error_code(),
            Some(
                ErrorCode::SystemIoFailure
                    | ErrorCode::CannotOpen
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
