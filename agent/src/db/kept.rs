//! Small texts that other parts of the agent keep beside the models, by space and key. They are never replicated.

use std::collections::BTreeMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};

use super::error::Error;

const TABLE: &str = "CREATE TABLE _kept (space TEXT NOT NULL, key BLOB NOT NULL, value TEXT NOT NULL, PRIMARY KEY (space, key)) WITHOUT ROWID";

/// Makes the table. One that is not as this program made it is made anew: what is in it can be lost without harm, while the
/// models around it cannot.
pub(super) fn prepare(connection: &Connection, present: &BTreeMap<String, String>) -> Result<(), Error> {
    match present.get("_kept") {
        Some(made) if made == TABLE => return Ok(()),
        Some(_) => {
            log::error!("the table _kept was not made by this program: it is made anew, sessions are lost");
            connection.execute_batch("DROP TABLE _kept")?;
        }
        None => {}
    }
    Ok(connection.execute_batch(TABLE)?)
}

/// All texts of a space. What is no text with a key of bytes is left out.
pub(super) fn all(connection: &Connection, space: &str) -> Result<Vec<(Vec<u8>, String)>, Error> {
    let mut statement = connection.prepare_cached("SELECT key, value FROM _kept WHERE space = ?1")?;
    let mut rows = statement.query([space])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        match (row.get_ref(0)?, row.get_ref(1)?.as_str()) {
            (ValueRef::Blob(key), Ok(value)) => all.push((key.to_vec(), value.to_owned())),
            _ => log::warn!("a text of {space} cannot be read, it is left out"),
        }
    }
    Ok(all)
}

/// Sets and removes texts of a space.
pub(super) fn change(
    connection: &Connection,
    space: &str,
    set: &[(Vec<u8>, String)],
    removed: &[Vec<u8>],
) -> Result<(), Error> {
    for key in removed {
        let sql = "DELETE FROM _kept WHERE space = ?1 AND key = ?2";
        connection.prepare_cached(sql)?.execute(params![space, key])?;
    }
    for (key, value) in set {
        let sql = "INSERT INTO _kept (space, key, value) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (space, key) DO UPDATE SET value = excluded.value";
        connection.prepare_cached(sql)?.execute(params![space, key, value])?;
    }
    Ok(())
}
