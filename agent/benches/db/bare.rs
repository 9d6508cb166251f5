//! SQLite as a program uses it that has nothing else: one thread, statements that are kept, a transaction for each row.
//!
//! - `document`: rows and settings as the agent's: a JSON document, which is read; write-ahead log, `synchronous` FULL.
//! - `columns`: a column for each field, with the agent's settings.
//! - `plain`: a column for each field, with SQLite's own settings: a rollback journal, `synchronous` FULL.

use std::ops::Range;
use std::time::Duration;

use ioto::db::Item;
use rusqlite::{Connection, OpenFlags, Row, params};

use super::{Case, Side, UPDATED, item, key, room, scattered};

pub(super) struct Bare {
    connection: Connection,
    documents: bool,
    items: u64,
}

/// What is read of a row with columns.
type Reading = (String, String, String, f64, String, String);

impl Bare {
    pub(super) fn open(file: &str, side: &str) -> Self {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags).expect("a database");
        if side != "plain" {
            connection.pragma_update(None, "journal_mode", "WAL").expect("a log");
            connection.pragma_update(None, "cache_size", -512).expect("a cache");
            connection.pragma_update(None, "wal_autocheckpoint", 256).expect("a checkpoint");
        }
        connection.pragma_update(None, "synchronous", "FULL").expect("a setting");
        let documents = side == "document";
        connection.execute_batch(if documents { DOCUMENTS } else { COLUMNS }).expect("tables");
        let items = connection.query_row("SELECT count(*) FROM reading", [], |row| row.get(0)).expect("a number");
        Self { connection, documents, items }
    }
}

const DOCUMENTS: &str = "CREATE TABLE IF NOT EXISTS reading (id TEXT PRIMARY KEY, doc TEXT NOT NULL) WITHOUT ROWID; \
                         CREATE INDEX IF NOT EXISTS rooms ON reading (json_extract(doc, '$.room'), id)";
const COLUMNS: &str = "CREATE TABLE IF NOT EXISTS reading (id TEXT PRIMARY KEY, room TEXT, sensor TEXT, value REAL, unit TEXT, \
                       note TEXT) WITHOUT ROWID; CREATE INDEX IF NOT EXISTS rooms ON reading (room, id)";

const BY_ID: &str = "SELECT id, room, sensor, value, unit, note FROM reading WHERE id = ?1";

impl Side for Bare {
    fn run(&mut self, case: Case, numbers: Range<u64>, callers: usize, pause: Duration) {
        let items = self.items.max(1);
        let count = numbers.end - numbers.start;
        // What only fills a file for later cases is one transaction.
        let filling = case == Case::Create && callers > 1;
        if filling {
            self.connection.execute_batch("BEGIN").expect("a transaction");
        }
        for number in numbers {
            self.operate(case, number, items);
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
        if filling {
            self.connection.execute_batch("COMMIT").expect("a commit");
        }
        if case == Case::Create {
            self.items += count;
        }
    }

    fn close(self: Box<Self>) {
        self.connection.close().expect("a closed file");
    }
}

impl Bare {
    fn operate(&self, case: Case, number: u64, items: u64) {
        match case {
            Case::Create => self.put(&key(number), number),
            Case::Update => self.put(&key(number % UPDATED), number),
            Case::Get => {
                let key = scattered(number, items);
                match self.documents {
                    true => self.read("SELECT doc FROM reading WHERE id = ?1", &key, document),
                    false => self.read(BY_ID, &key, reading),
                }
            }
            Case::Find if self.documents => {
                let sql = "SELECT doc FROM reading WHERE json_extract(doc, '$.room') = ?1 ORDER BY id LIMIT 20";
                self.read(sql, &room(number), document);
            }
            Case::Find => {
                let sql =
                    "SELECT id, room, sensor, value, unit, note FROM reading WHERE room = ?1 ORDER BY id LIMIT 20";
                self.read(sql, &room(number), reading);
            }
        }
    }

    fn put(&self, key: &str, number: u64) {
        let item = item(key, number);
        if self.documents {
            let text = serde_json::to_string(&item).expect("JSON");
            let sql = "INSERT INTO reading VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET doc = excluded.doc";
            self.connection.prepare_cached(sql).and_then(|mut put| put.execute(params![key, text])).expect("a row");
            return;
        }
        let text = |name: &str| item[name].as_str().unwrap_or_default();
        let (room, sensor, unit, note) = (text("room"), text("sensor"), text("unit"), text("note"));
        let sql = "INSERT INTO reading VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE SET room = excluded.room, \
                   sensor = excluded.sensor, value = excluded.value, unit = excluded.unit, note = excluded.note";
        let values = params![key, room, sensor, item["value"].as_f64(), unit, note];
        self.connection.prepare_cached(sql).and_then(|mut put| put.execute(values)).expect("a row");
    }

    fn read<T>(&self, sql: &str, value: &str, read: fn(&Row<'_>) -> rusqlite::Result<T>) {
        let mut statement = self.connection.prepare_cached(sql).expect("a statement");
        let rows = statement.query_map([value], read).expect("rows");
        let rows: Vec<T> = rows.collect::<Result<_, _>>().expect("rows");
        assert!(!std::hint::black_box(rows).is_empty(), "items are there");
    }
}

fn document(row: &Row<'_>) -> rusqlite::Result<Item> {
    Ok(serde_json::from_str(row.get_ref(0)?.as_str()?).expect("JSON"))
}

fn reading(row: &Row<'_>) -> rusqlite::Result<Reading> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
}
