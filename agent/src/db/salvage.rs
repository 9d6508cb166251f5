//! What can still be read of a damaged file is put into the new one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::editor::Editor;
use super::error::Error;
use super::pages::{Column, Pages};
use super::query::Item;
use super::rows::{self, table};
use super::schema::{Model, Schema};

/// Rows that are put into the new file by one transaction.
const BATCH: usize = 200;

/// Recovers the readable rows of a file that was set aside; they are changes like any others, for the cloud too, which tells
/// by their bases what it has already. Returns how many. Whatever goes wrong ends it, and is no error of the new file.
///
/// SQLite is asked first, and then the pages are read without it: those that it cannot come to any more because a page
/// above them is damaged. `roots` has the first pages of the tables, in case that the page which has them is lost.
pub(super) fn recover(
    aside: &Path,
    roots: &BTreeMap<String, u32>,
    editor: &mut Editor,
    schema: &Schema,
) -> Result<u64, Error> {
    let mut salvage = Salvage { editor, waiting: Vec::new(), recovered: 0, failed: None };
    let models: Vec<_> = schema.models().filter(|model| !model.process().memory).cloned().collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if let Ok(damaged) = Connection::open_with_flags(aside, flags) {
        let _ = damaged.pragma_update(None, "cell_size_check", true);
        for model in &models {
            // From both ends: a damaged page in the middle hides what is on it, and what lies between two of them.
            for order in ["ASC", "DESC"] {
                ask(&damaged, model, order, &mut salvage);
            }
        }
    }
    salvage.store()?;
    match Pages::open(aside) {
        Ok(pages) => read(pages, roots, &models, &mut salvage),
        Err(error) => log::warn!("the pages of {} cannot be read: {error}", aside.display()),
    }
    salvage.store()?;
    Ok(salvage.recovered)
}

/// Rows on their way into the new file.
struct Salvage<'a> {
    editor: &'a mut Editor,
    waiting: Vec<(Arc<Model>, String, Item)>,
    recovered: u64,
    failed: Option<Error>,
}

impl Salvage<'_> {
    fn take(&mut self, model: &Arc<Model>, (key, item): (String, Item)) {
        self.waiting.push((model.clone(), key, item));
        if self.waiting.len() >= BATCH {
            if let Err(error) = self.store() {
                self.failed.get_or_insert(error);
            }
        }
    }

    /// Where there is no room for a row there is none for the next either: the first error lasts.
    fn store(&mut self) -> Result<(), Error> {
        let rows = std::mem::take(&mut self.waiting);
        match &self.failed {
            Some(error) => Err(error.clone()),
            None => self.editor.adopt(rows).map(|count| self.recovered += count),
        }
    }
}

fn ask(damaged: &Connection, model: &Arc<Model>, order: &str, salvage: &mut Salvage<'_>) {
    let sql = format!("SELECT key, doc FROM {} ORDER BY key {order}", table(model));
    let Ok(mut statement) = damaged.prepare(&sql) else { return };
    let Ok(mut rows) = statement.query([]) else { return };
    loop {
        match rows.next() {
            Ok(Some(row)) => {
                let texts = row.get::<_, String>(0).and_then(|key| Ok((key, row.get::<_, String>(1)?)));
                let row = texts.ok().and_then(|(key, text)| readable(model, &key, &text));
                row.into_iter().for_each(|row| salvage.take(model, row));
            }
            // To the end: then there is nothing to be found from the other side.
            Ok(None) | Err(_) => return,
        }
    }
}

/// A row whose document names another key is of two halves.
fn readable(model: &Model, key: &str, text: &str) -> Option<(String, Item)> {
    let item = rows::item(text).ok()?;
    let is_whole = item.get(model.key().name()).and_then(Value::as_str) == Some(key);
    is_whole.then(|| (key.to_owned(), item))
}

/// Walks the trees of the models, and then looks for their rows on the pages that were not come to.
fn read(mut pages: Pages, roots: &BTreeMap<String, u32>, models: &[Arc<Model>], salvage: &mut Salvage<'_>) {
    let mut tables = roots.clone();
    tables.extend(pages.tables());
    let mut broken = Vec::new();
    for model in models {
        let Some(root) = tables.get(&format!("m_{}", model.name())) else { continue };
        let is_whole = pages.walk(*root, &mut |record| {
            if let [Column::Text(key), Column::Text(text), _] = record {
                readable(model, key, text).into_iter().for_each(|row| salvage.take(model, row));
            }
        });
        if !is_whole {
            broken.push(model.clone());
        }
    }
    if broken.is_empty() {
        return;
    }
    let mut homeless = 0;
    pages.strays(&mut |records| {
        let rows: Vec<(&str, &str)> = (records.iter())
            .filter_map(|record| match record.as_slice() {
                [Column::Text(key), Column::Text(text), Column::Null | Column::Integer(_)] => {
                    Some((key.as_str(), text.as_str()))
                }
                _ => None,
            })
            .collect();
        match home(&broken, &rows) {
            Some(model) => {
                let rows = rows.iter().filter_map(|(key, text)| readable(model, key, text));
                rows.for_each(|row| salvage.take(model, row));
            }
            None => homeless += rows.iter().filter(|(_, text)| rows::item(text).is_ok()).count(),
        }
    });
    if homeless > 0 {
        log::warn!("{homeless} rows fit several models or none; they are left in the file that was set aside");
    }
}

/// The model that the rows of a page belong to: that whose fields they have, when there is one such.
fn home<'m>(models: &'m [Arc<Model>], rows: &[(&str, &str)]) -> Option<&'m Arc<Model>> {
    let items: Vec<_> = rows.iter().filter_map(|(key, text)| Some((*key, rows::item(text).ok()?))).collect();
    let score = |model: &Model| -> Option<usize> {
        let mut score = 0;
        for (key, item) in &items {
            (item.get(model.key().name()).and_then(Value::as_str) == Some(key)).then_some(())?;
            let is_missing = |field: &super::schema::Field| field.required() && !item.contains_key(field.name());
            (!model.fields().iter().any(is_missing)).then_some(())?;
            score += item.keys().filter(|name| model.field(name).is_some()).count();
        }
        Some(score).filter(|_| !items.is_empty())
    };
    let scores: Vec<_> = models.iter().filter_map(|model| Some((score(model)?, model))).collect();
    let best = scores.iter().map(|(score, _)| *score).max()?;
    let mut best = scores.into_iter().filter(|(score, _)| *score == best);
    let (_, model) = best.next()?;
    best.next().is_none().then_some(model)
}
