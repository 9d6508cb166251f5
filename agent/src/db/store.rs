//! Opening the database: the connections, their settings, the tables, and what is done about a damaged file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, params};

use super::bounds;
use super::claim::{Claim, Doubt};
use super::date;
use super::editor::Editor;
use super::error::Error;
use super::generate::Generator;
use super::health::Recovery;
use super::kept;
use super::migration;
use super::outbox::{self, Outbox};
use super::resealing;
use super::room::Room;
use super::rows::{self, Rows, column, table};
use super::salvage;
use super::schema::{Index, Model, Schema};
use super::seal::Vault;
use super::watch::Watchers;
use crate::sqlite::{self, Found, Kind};

const KIND: Kind = Kind {
    name: "database",
    // `ioto`
    application: 0x696f_746f,
    format: 1,
    // The format stands in each of the four bytes, so that one flipped bit there is known for damage and not taken for a newer
    // program's file, which would never open again.
    unit: 0x0101_0101,
    cache: 512,
    checkpoint: 256,
    log: LOG,
    is_durable: true,
    is_exclusive: false,
};

/// Bytes to which SQLite's log is cut.
pub(super) const LOG: i64 = 2 << 20;
/// How long a connection waits for another one.
pub(super) const WAIT: Duration = Duration::from_secs(5);
/// Compiled statements that a connection keeps.
const STATEMENTS: usize = 64;

/// Columns of a model's table.
const COLUMNS: &str = "(key TEXT PRIMARY KEY, doc TEXT NOT NULL, expires INTEGER) WITHOUT ROWID";

/// An opened database.
pub(super) struct Store {
    pub(super) rows: Rows,
    pub(super) editor: Editor,
}

/// What is thought of a file that failed in use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Damage {
    /// It is checked, and mended in its place when it can be.
    Suspected,
    /// It is set aside.
    Certain,
}

impl Store {
    /// Opens the file; a damaged one is set aside and a new one begun with what can be read of it.
    pub(super) fn open(claim: &Arc<Claim>, schema: &Arc<Schema>, watchers: &Watchers) -> Result<Self, Error> {
        match Self::open_claimed(claim, schema, watchers) {
            Err(error) if is_damage(&error) => Self::begin_anew(claim, schema, watchers, error.to_string()),
            Ok(mut store) => {
                if let Some((aside, roots)) = claim.unfinished() {
                    store.salvage(claim, schema, (&aside, &roots));
                }
                Ok(store)
            }
            result => result,
        }
    }

    /// Opens a file again that failed in use for this reason.
    pub(super) fn open_again(
        claim: &Arc<Claim>,
        schema: &Arc<Schema>,
        watchers: &Watchers,
        (damage, reason): (Damage, String),
    ) -> Result<Self, Error> {
        if damage == Damage::Certain {
            return Self::begin_anew(claim, schema, watchers, reason);
        }
        let before = claim.monitor().health().recoveries;
        let store = Self::open(claim, schema, watchers)?;
        if claim.monitor().health().recoveries == before {
            claim.monitor().recovered(Recovery { at: date::now(), reason, aside: None, rows: 0 });
        }
        Ok(store)
    }

    fn begin_anew(
        claim: &Arc<Claim>,
        schema: &Arc<Schema>,
        watchers: &Watchers,
        reason: String,
    ) -> Result<Self, Error> {
        let aside = claim.set_aside()?;
        log::error!(
            "{} is damaged ({reason}); it was set aside as {} and a new one is begun",
            claim.path().display(),
            aside.display()
        );
        let mut store = Self::open_claimed(claim, schema, watchers)?;
        let roots = claim.unfinished().map(|(_, roots)| roots).unwrap_or_default();
        let rows = store.salvage(claim, schema, (&aside, &roots));
        claim.monitor().recovered(Recovery { at: date::now(), reason, aside: Some(aside), rows });
        Ok(store)
    }

    fn salvage(&mut self, claim: &Claim, schema: &Schema, (aside, roots): (&Path, &BTreeMap<String, u32>)) -> u64 {
        let recovered = salvage::recover(aside, roots, &mut self.editor, schema);
        claim.salvaged();
        match recovered {
            Ok(count) => {
                log::warn!("{count} rows of {} were recovered", aside.display());
                count
            }
            Err(error) => {
                log::error!("no more rows of {} were recovered: {error}", aside.display());
                0
            }
        }
    }

    fn open_claimed(claim: &Arc<Claim>, schema: &Arc<Schema>, watchers: &Watchers) -> Result<Self, Error> {
        let doubt = claim.doubt();
        let connection = connect(claim.path())?;
        check_format(&connection, claim.path())?;
        // The claim has opened the file for writing, so that it is the version in its header that forbids it.
        if connection.is_readonly("main")? {
            return Err(Error::damage("its header forbids to write"));
        }
        if let Some(doubt) = doubt {
            check(&connection, claim.path(), doubt)?;
            claim.trust();
        }
        let mut generator = Generator::new()?;
        if schema.models().any(|model| model.process().memory) {
            connection.execute_batch("ATTACH ':memory:' AS mem")?;
        }
        let (site, was_plain) = prepare(&connection, schema, &mut generator, claim.vault())?;
        if was_plain {
            purge(&connection);
        }
        if let Some(limit) = claim.limit() {
            limit.apply(&connection)?;
        }
        bounds::prepare(&connection, schema, claim.limit())?;
        let outbox = Outbox::open(&connection)?;
        claim.note_roots(roots(&connection)?);
        let reader = connect(claim.path())?;
        reader.pragma_update(None, "query_only", true)?;
        let (changed, changes) = smol::channel::bounded(1);
        let rows = |connection| Rows::new(connection, schema.clone(), claim.clone());
        claim.monitor().begin(&site, changes, unknown(&connection, schema)?);
        let room = Room::new(claim.limit());
        let editor =
            Editor::new(rows(connection), schema.clone(), (outbox, room), generator, changed, watchers.clone());
        Ok(Self { rows: rows(reader), editor })
    }
}

/// Where the tables begin.
pub(super) fn roots(connection: &Connection) -> Result<BTreeMap<String, u32>, Error> {
    let sql = "SELECT name, rootpage FROM sqlite_schema WHERE type = 'table' AND name GLOB 'm_*'";
    let mut statement = connection.prepare(sql)?;
    let roots = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(roots.collect::<Result<_, _>>()?)
}

/// Models that the file has rows of, and that the schema does not have, or not in the file: a newer firmware made them, or an
/// earlier one. They stay, for the firmware that knows them.
fn unknown(connection: &Connection, schema: &Schema) -> Result<Vec<String>, Error> {
    let mut unknown = Vec::new();
    for table in roots(connection)?.into_keys() {
        let name = table.strip_prefix("m_").unwrap_or(&table);
        let is_known = schema.model(name).is_some_and(|model| !model.process().memory);
        let sql = format!("SELECT EXISTS (SELECT 1 FROM main.\"{table}\")");
        if !is_known && connection.query_row(&sql, [], |row| row.get(0))? {
            log::warn!(
                "the database has rows of model {name}, which the schema does not have: they are kept, and wait"
            );
            unknown.push(name.to_owned());
        }
    }
    Ok(unknown)
}

pub(super) fn connect(path: &Path) -> Result<Connection, Error> {
    let connection = KIND.connect(path)?;
    connection.busy_timeout(WAIT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Puts a copy of `backup` in the place of the database, which is kept as `PATH.before`.
pub(super) fn restore(path: &Path, backup: &Path, vault: Vault) -> Result<Option<PathBuf>, Error> {
    let claim = Claim::stake(path, vault)?;
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let fresh = with(".restore");
    let fail = |source| Error::file("restore", backup, source);
    let copied = std::fs::copy(backup, &fresh).map_err(fail).and_then(|_| {
        let connection = connect(&fresh)?;
        check_format(&connection, backup)?;
        check(&connection, backup, Doubt::NotClosed)?;
        // The next start takes a new name for the file.
        connection.execute("DELETE FROM _sync_state WHERE k = 'site'", [])?;
        connection.close().map_err(|(_, error)| Error::from(error))?;
        std::fs::File::open(&fresh).and_then(|file| file.sync_all()).map_err(fail)
    });
    if let Err(error) = copied {
        for suffix in [".restore", ".restore-wal", ".restore-shm"] {
            let _ = std::fs::remove_file(with(suffix));
        }
        return Err(error);
    }
    let was_empty = std::fs::metadata(path).is_ok_and(|file| file.len() == 0);
    for (from, to) in [("", ".before"), ("-wal", ".before-wal")] {
        let _ = std::fs::remove_file(with(to));
        match std::fs::rename(with(from), with(to)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
    }
    let _ = std::fs::remove_file(with("-shm"));
    std::fs::rename(&fresh, path).map_err(fail)?;
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(fail)?;
    claim.trust();
    Ok((!was_empty).then(|| with(".before")))
}

/// Refuses a file that a newer program wrote, before anything in it is touched.
fn check_format(connection: &Connection, path: &Path) -> Result<(), Error> {
    match KIND.find(connection)? {
        Found::Ours => Ok(()),
        Found::Newer(found) => Err(Error::Version { path: path.into(), found, known: KIND.format }),
        Found::Foreign(what) => Err(Error::damage(&what)),
    }
}

/// Checks the file. One that failed in use is read as a whole: a bit that flips inside of a document escapes SQLite.
fn check(connection: &Connection, path: &Path, doubt: Doubt) -> Result<(), Error> {
    let begun = Instant::now();
    sqlite::check(connection)?.map_err(|what| Error::damage(&what))?;
    if doubt != Doubt::NotClosed {
        connection.execute_batch("REINDEX")?;
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'm_*'";
        let mut statement = connection.prepare(sql)?;
        for table in statement.query_map([], |row| row.get::<_, String>(0))? {
            let table = table?;
            let removed = remove_unreadable(connection, &table)?;
            forget(connection, table.strip_prefix("m_").unwrap_or(&table), &removed)?;
        }
        outbox::read_all(connection)?;
    }
    log::info!("{} was checked in {:?} because {doubt}: sound", path.display(), begun.elapsed());
    Ok(())
}

/// Removes the rows that are no documents. That is not recorded for the cloud, which keeps what nobody removed on purpose.
fn remove_unreadable(connection: &Connection, table: &str) -> Result<Vec<Vec<u8>>, Error> {
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
    Ok(unreadable)
}

/// What the change log has of rows that were removed as damaged: a change without its row would be a removal. The model is read
/// from the cloud as a whole again, where it comes from there.
fn forget(connection: &Connection, model: &str, keys: &[Vec<u8>]) -> Result<(), Error> {
    for key in keys {
        for table in ["_sync_out", "_sync_row", "_sync_basis"] {
            let sql = format!("DELETE FROM {table} WHERE model = ?1 AND key = CAST(?2 AS TEXT)");
            connection.execute(&sql, params![model, key])?;
        }
        connection.execute("DELETE FROM _sync_state WHERE k = 'whole:' || ?1", [model])?;
    }
    Ok(())
}

/// Makes the tables and indexes that the schema wants, all or nothing; returns the site, and whether there were plain values of
/// fields that are encrypted now.
fn prepare(
    connection: &Connection,
    schema: &Schema,
    generator: &mut Generator,
    vault: &Vault,
) -> Result<(String, bool), Error> {
    let transaction = connection.unchecked_transaction()?;
    KIND.mark(&transaction)?;
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
    for model in schema.models().filter(|model| model.process().memory) {
        transaction.execute_batch(&format!("CREATE TABLE {} {COLUMNS}", table(model)))?;
        indexes(model).iter().try_for_each(|(_, sql)| transaction.execute_batch(sql))?;
    }
    for model in schema.models().filter(|model| !model.process().memory) {
        check_case(&present, model)?;
        make_table(&transaction, &present, &format!("{} {COLUMNS}", table(model)))?;
        wanted.extend(indexes(model));
        renew_expiry(&transaction, model)?;
        enqueue(&transaction, model)?;
    }
    migration::check(&transaction, schema, generator)?;
    let was_plain = resealing::prepare(&transaction, schema, vault)?;
    adjust_indexes(&transaction, &present, &wanted)?;
    transaction.commit()?;
    Ok((site, was_plain))
}

/// Writes the file anew, without what is free in it: what was plain until now is still there.
fn purge(connection: &Connection) {
    if let Err(error) = connection.execute_batch("VACUUM main; PRAGMA main.wal_checkpoint(TRUNCATE)") {
        log::error!(
            "fields are encrypted now, but what was plain is still in free pages of the file, until `ioto db compact`: {error}"
        );
    }
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
    let (table, space) = (format!("\"m_{}\"", model.name()), if model.process().memory { "mem." } else { "" });
    let mut indexes: Vec<(String, String)> = (model.indexes.iter())
        .map(|Index { hash, sort }| {
            // With the key in it, items of one value come in the order of their keys.
            let (name, sort) = match sort {
                Some(sort) => (format!("i_{}.{hash}.{sort}", model.name()), format!("{}, ", column(sort))),
                None => (format!("i_{}.{hash}", model.name()), String::new()),
            };
            let sql = format!("CREATE INDEX {space}\"{name}\" ON {table} ({}, {sort}key)", column(hash));
            (name, sql)
        })
        .collect();
    if model.ttl().is_some() {
        let name = format!("i_{}..expires", model.name());
        let sql = format!("CREATE INDEX {space}\"{name}\" ON {table} (expires) WHERE expires IS NOT NULL");
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
/// (space, rights, memory, another process) does not.
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
