//! What can still be read of a damaged file is put into the new one.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::editor::Editor;
use super::error::Error;
use super::rows::{self, table};
use super::schema::{Model, Schema};

/// Rows that are put into the new file by one transaction.
const BATCH: usize = 200;

/// Recovers the readable rows of a file that was set aside; they are changes like any others, for the cloud too, which tells
/// by their bases what it has already. Returns how many. Whatever goes wrong ends it, and is no error of the new file.
pub(super) fn recover(aside: &Path, editor: &mut Editor, schema: &Schema) -> Result<u64, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(damaged) = Connection::open_with_flags(aside, flags) else { return Ok(0) };
    let _ = damaged.pragma_update(None, "cell_size_check", true);
    let mut recovered = 0;
    for model in schema.models().filter(|model| !model.process().memory) {
        // From both ends: a damaged page in the middle hides only what is on it.
        for order in ["ASC", "DESC"] {
            recovered += read(&damaged, model, order, editor)?;
        }
    }
    Ok(recovered)
}

fn read(damaged: &Connection, model: &Model, order: &str, editor: &mut Editor) -> Result<u64, Error> {
    let sql = format!("SELECT key, doc FROM {} ORDER BY key {order}", table(model));
    let Ok(mut statement) = damaged.prepare(&sql) else { return Ok(0) };
    let Ok(mut rows) = statement.query([]) else { return Ok(0) };
    let (mut recovered, mut waiting) = (0, Vec::new());
    while let Ok(Some(row)) = rows.next() {
        let key = row.get::<_, String>(0);
        let item = row.get_ref(1).ok().and_then(|text| text.as_str().ok().and_then(|text| rows::item(text).ok()));
        if let (Ok(key), Some(item)) = (key, item) {
            // A row whose document names another key is of two halves.
            if item.get(model.key().name()).and_then(serde_json::Value::as_str) == Some(key.as_str()) {
                waiting.push((key, item));
            }
        }
        if waiting.len() == BATCH {
            recovered += editor.adopt(model, waiting.drain(..))?;
        }
    }
    Ok(recovered + editor.adopt(model, waiting.drain(..))?)
}
