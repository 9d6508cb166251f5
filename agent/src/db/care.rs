//! The care of the file: backup while it is in use, restore, verification, compaction, figures.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::error::Error;
use super::handle::Db;
use super::rows::{self, Rows, table};
use super::schema::Schema;
use super::seal::Vault;
use super::store;
use crate::{config, sqlite};

/// Findings of a verification that are told.
const FINDINGS: usize = 20;

/// What there is in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// The models by name.
    pub models: Vec<ModelStatistics>,
    /// Bytes of the file.
    pub file: u64,
    /// Bytes of the log beside it.
    pub log: u64,
    /// The bound of both, `database.size`.
    pub limit: Option<u64>,
    /// Bytes in the file that hold nothing; compaction gives them back.
    pub free: u64,
    /// Changes that wait for the cloud.
    pub pending: u64,
    /// Conflicts in the log.
    pub conflicts: u64,
}

/// What there is of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelStatistics {
    /// Its name.
    pub name: String,
    /// Its rows, also those whose time is over until they are removed.
    pub rows: u64,
    /// Bytes of their documents.
    pub bytes: u64,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What is wrong; nothing when the file is sound.
    pub findings: Vec<String>,
    /// Rows that were read.
    pub rows: u64,
}

impl Statistics {
    /// As JSON.
    pub fn to_json(&self) -> Value {
        let model = |model: &ModelStatistics| json!({"name": model.name, "rows": model.rows, "bytes": model.bytes});
        let mut json = json!({
            "models": self.models.iter().map(model).collect::<Value>(), "file": self.file, "log": self.log,
            "free": self.free, "pending": self.pending, "conflicts": self.conflicts,
        });
        if let Some(limit) = self.limit {
            json["limit"] = limit.into();
        }
        json
    }
}

impl Verdict {
    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({"sound": self.findings.is_empty(), "rows": self.rows, "findings": self.findings})
    }
}

impl Rows {
    pub(super) fn statistics(&self, schema: &Schema) -> Result<Statistics, Error> {
        let mut statistics = Statistics::default();
        let moment = self.connection.unchecked_transaction()?;
        for model in schema.models().filter(|model| !model.process().memory) {
            let sql = format!("SELECT count(*), coalesce(sum(octet_length(doc)), 0) FROM {}", table(model));
            let (rows, bytes) = moment.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            statistics.models.push(ModelStatistics { name: model.name().into(), rows, bytes });
        }
        drop(moment);
        let number = |pragma: &str| self.connection.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0));
        let size = number("page_size")?;
        statistics.file = number("page_count")? * size;
        statistics.free = number("freelist_count")? * size;
        let backlog = self.backlog()?;
        (statistics.pending, statistics.conflicts) = (backlog.rows, backlog.conflicts);
        Ok(statistics)
    }

    /// Reads everything: the pages, the indexes, and every document.
    pub(super) fn verify(&self, schema: &Schema) -> Result<Verdict, Error> {
        let mut verdict = Verdict::default();
        let mut statement = self.connection.prepare(&format!("PRAGMA integrity_check({FINDINGS})"))?;
        for line in statement.query_map([], |row| row.get::<_, String>(0))? {
            verdict.findings.push(line?);
        }
        verdict.findings.retain(|line| line != "ok");
        for model in schema.models().filter(|model| !model.process().memory) {
            let mut statement = self.connection.prepare(&format!("SELECT key, doc FROM {}", table(model)))?;
            let mut documents = statement.query([])?;
            while let Some(row) = documents.next()? {
                verdict.rows += 1;
                let readable = row.get_ref(1)?.as_str().is_ok_and(|text| rows::item(text).is_ok());
                if !readable && verdict.findings.len() < FINDINGS {
                    let key = row.get::<_, String>(0).unwrap_or_else(|_| "?".into());
                    verdict.findings.push(format!("model {}: the item '{key}' is no JSON object", model.name()));
                }
            }
        }
        Ok(verdict)
    }
}

impl Db {
    /// What there is in the database.
    pub async fn statistics(&self) -> Result<Statistics, Error> {
        let schema = self.shared_schema();
        let (memory, schema2) = (schema.clone(), schema);
        let mut statistics = self.on_reader(move |rows| rows.statistics(&schema2)).await?;
        let mut log = self.path().as_os_str().to_owned();
        log.push("-wal");
        statistics.log = fs::metadata(log).map_or(0, |file| file.len());
        statistics.limit = self.limit();
        for model in memory.models().filter(|model| model.process().memory) {
            let (name, rows) = (model.name().to_owned(), self.count(model.name()).await?);
            statistics.models.push(ModelStatistics { name, rows, bytes: 0 });
        }
        Ok(statistics)
    }

    /// Seals all fields that are encrypted with a new key, and forgets the one before; with the first key of the file where
    /// `database.key` names one, which is not changed. Returns how many rows there are of such models. It may be ended at any
    /// time, and begun again.
    ///
    /// # Errors
    /// [`Error::Sealed`] for a value that cannot be opened; all keys are kept then.
    pub async fn rekey(&self) -> Result<u64, Error> {
        self.claim().vault().renew()?;
        let mut rows = 0;
        let models: Vec<_> = self.schema().models().filter(|model| model.has_encrypted()).cloned().collect();
        for model in models {
            let mut last = String::new();
            loop {
                let (of, after) = (model.clone(), last);
                match self.write(move |editor| editor.reseal(&of, &after)).await? {
                    Some(key) => last = key,
                    None => break,
                }
            }
            rows += self.count(model.name()).await?;
        }
        self.write(|editor| {
            editor.reseal_conflicts()?;
            editor.reseal_basis()?;
            editor.note_key()
        })
        .await?;
        self.claim().vault().forget()?;
        Ok(rows)
    }

    /// Bytes of the file with its log.
    pub fn file_size(&self) -> u64 {
        let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        size(self.path()) + size(&sqlite::beside(self.path(), "-wal"))
    }

    /// Reads the whole file while it is in use, and says what is wrong with it. Other reads wait meanwhile, writes do not.
    pub async fn verify(&self) -> Result<Verdict, Error> {
        let schema = self.shared_schema();
        self.on_reader(move |rows| rows.verify(&schema)).await
    }

    /// Writes the file anew without what is free in it. Writes wait meanwhile; it needs as much room as the file has.
    pub async fn compact(&self) -> Result<(), Error> {
        self.alone(|editor| {
            editor.connection().execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")?;
            editor.note_roots()
        })
        .await
    }

    /// Looks through the pages of the file while it is in use, without standing in anybody's way; a damaged one is recovered.
    /// `false`: it is damaged. Much cheaper than [`verify`](Self::verify), which also reads what is in the rows.
    pub async fn look_over(&self) -> Result<bool, Error> {
        let claim = self.claim().clone();
        let look = move || {
            let _guard = claim.monitor().outside.lock().unwrap_or_else(PoisonError::into_inner);
            let looked = store::connect(claim.path()).and_then(|connection| Ok(sqlite::check(&connection)?));
            let damage = match looked {
                Ok(Ok(())) => return Ok(true),
                Ok(Err(what)) => Error::damage(&what),
                Err(error) if error.is_corrupt() => error,
                Err(error) => return Err(error),
            };
            claim.suspect(&damage);
            Ok(false)
        };
        smol::unblock(look).await
    }

    /// Copies the database as it is at one moment into a new file, while it is in use. Returns the bytes of the copy, which
    /// is safe on the disk.
    ///
    /// # Errors
    /// [`Error::File`] when there is such a file already, or it cannot be made.
    pub async fn backup(&self, to: impl Into<PathBuf>) -> Result<u64, Error> {
        let (claim, to) = (self.claim().clone(), to.into());
        let copy = move || {
            let _guard = claim.monitor().outside.lock().unwrap_or_else(PoisonError::into_inner);
            back_up(claim.path(), &to)
        };
        smol::unblock(copy).await
    }

    /// A [`backup`](Self::backup) beside the database, `PATH.backup`, in place of an earlier one; its path and bytes.
    pub async fn backup_beside(&self) -> Result<(PathBuf, u64), Error> {
        let mut path = self.path().as_os_str().to_owned();
        path.push(".backup");
        let path = PathBuf::from(path);
        let mut fresh = path.clone().into_os_string();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        let _ = fs::remove_file(&fresh);
        let bytes = self.backup(&fresh).await?;
        fs::rename(&fresh, &path).map_err(|source| Error::file("rename", &fresh, source))?;
        Ok((path, bytes))
    }
}

fn back_up(from: &Path, to: &Path) -> Result<u64, Error> {
    let fail = |source| Error::file("make the backup", to, source);
    // Made here, so that nobody else may read it: SQLite takes an empty file for a new one.
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(to).map_err(fail)?;
    let copied = copy(from, to).and_then(|()| {
        let file = File::open(to).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        let directory = to.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(fail)?;
        Ok(file.metadata().map_err(fail)?.len())
    });
    copied.inspect_err(|_| drop(fs::remove_file(to)))
}

/// `VACUUM INTO` reads in one transaction, and writers go on beside it.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let Some(name) = to.to_str() else {
        return Err(Error::file("make the backup", to, std::io::Error::other("its name is not UTF-8")));
    };
    let connection: Connection = store::connect(from)?;
    connection.execute("VACUUM INTO ?1", [name])?;
    Ok(())
}

/// Puts a backup in the place of the database, which nobody may have open; the one that is there is kept as `PATH.before`.
/// The restored one counts its changes under a new name, so that the cloud does not take them for those of the file before.
/// Returns where the earlier one is now, if there was one.
///
/// # Errors
/// [`Error::InUse`] while it is open; [`Error::Store`], [`Error::File`] and [`Error::Version`] when the backup cannot be used,
/// in which case nothing was changed.
pub fn restore(options: &config::Database, backup: &Path) -> Result<Option<PathBuf>, Error> {
    store::restore(&options.path, backup, Vault::new(&options.key, options.makes_key))
}
