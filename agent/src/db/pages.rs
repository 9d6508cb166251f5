//! The pages of a damaged SQLite file, read without SQLite, which gives up a whole table when the way to its rows is broken.
//! The format: <https://sqlite.org/fileformat2.html>.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::sqlite::beside;

/// Bytes of a page where the header does not say: what SQLite takes when nobody asks for another.
const USUAL: usize = 4096;
/// Levels of a tree, at most; a circle in a damaged one ends there.
const DEPTH: usize = 20;
/// Bytes of a record that are still taken for one.
const MAX_RECORD: usize = 4 << 20;
/// What every SQLite file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

const INDEX_INTERIOR: u8 = 2;
const TABLE_INTERIOR: u8 = 5;
const INDEX_LEAF: u8 = 10;
const TABLE_LEAF: u8 = 13;

/// A column of a record.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Column {
    Null,
    Integer(i64),
    Text(String),
    Other,
}

/// The file with what its log has.
pub(super) struct Pages {
    file: File,
    log: Option<File>,
    /// Where in the log the last committed form of a page is.
    logged: HashMap<u32, u64>,
    size: usize,
    count: u32,
    seen: Vec<bool>,
    has_header: bool,
}

impl Pages {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut header = [0; 100];
        let has_header = file.read_exact_at(&mut header, 0).is_ok() && header.starts_with(MAGIC);
        let size = match u16::from_be_bytes([header[16], header[17]]) {
            size if has_header && size.is_power_of_two() && size >= 512 => usize::from(size),
            _ => USUAL,
        };
        let log = File::open(beside(path, "-wal")).ok();
        let logged = log.as_ref().map_or_else(HashMap::new, |log| committed(log, size).unwrap_or_default());
        let stored = u32::try_from(file.metadata()?.len() / size as u64).unwrap_or(u32::MAX);
        let count = logged.keys().copied().max().unwrap_or(0).max(stored);
        let seen = vec![false; count as usize + 1];
        let mut pages = Self { file, log, logged, size, count, seen, has_header };
        pages.see_free();
        Ok(pages)
    }

    /// The first pages of the tables by name, as far as the first page of the file has them.
    pub(super) fn tables(&mut self) -> BTreeMap<String, u32> {
        let mut tables = BTreeMap::new();
        if self.has_header {
            self.walk(1, &mut |record| {
                if let [Column::Text(kind), Column::Text(name), _, Column::Integer(root), ..] = record {
                    if kind == "table" {
                        tables.extend(u32::try_from(*root).map(|root| (name.clone(), root)));
                    }
                }
            });
        }
        tables
    }

    /// Gives all records of a tree to `take`. `false`: a part of it could not be read.
    pub(super) fn walk(&mut self, root: u32, take: &mut dyn FnMut(&[Column])) -> bool {
        self.walk_at(root, 0, take)
    }

    fn walk_at(&mut self, number: u32, depth: usize, take: &mut dyn FnMut(&[Column])) -> bool {
        let Some(page) = self.read(number).filter(|_| depth < DEPTH) else { return false };
        if std::mem::replace(&mut self.seen[number as usize], true) {
            return false;
        }
        let Some(node) = Node::read(&page, number) else {
            // What is left on it, if anything, is looked for among those that no tree has.
            self.seen[number as usize] = false;
            return false;
        };
        let mut is_whole = true;
        for at in &node.cells {
            if node.is_interior() {
                is_whole &= self.walk_at(be32(&page, *at).unwrap_or(0), depth + 1, take);
            }
            match self.record(&page, &node, *at) {
                Some(record) => take(&record),
                None => is_whole &= node.kind == TABLE_INTERIOR,
            }
        }
        if let Some(right) = node.right {
            is_whole &= self.walk_at(right, depth + 1, take);
        }
        is_whole && node.is_whole
    }

    /// Gives the records of the pages that belong to no tree that was walked, a page at a time.
    pub(super) fn strays(&mut self, take: &mut dyn FnMut(Vec<Vec<Column>>)) {
        for number in 1..=self.count {
            if self.seen[number as usize] {
                continue;
            }
            let Some(page) = self.read(number) else { continue };
            let node = Node::read(&page, number).filter(|node| matches!(node.kind, INDEX_INTERIOR | INDEX_LEAF));
            if let Some(node) = node {
                take(node.cells.iter().filter_map(|at| self.record(&page, &node, *at)).collect());
            }
        }
    }

    /// What is free still has the rows that were on it: these were removed.
    fn see_free(&mut self) {
        let Some(first) = self.read(1).filter(|_| self.has_header) else { return };
        let mut trunk = be32(&first, 32).unwrap_or(0);
        while let Some(page) = self.read(trunk) {
            if std::mem::replace(&mut self.seen[trunk as usize], true) {
                break;
            }
            for n in 0..be32(&page, 4).unwrap_or(0).min(self.size as u32 / 4 - 2) as usize {
                if let Some(seen) = be32(&page, 8 + 4 * n).and_then(|free| self.seen.get_mut(free as usize)) {
                    *seen = true;
                }
            }
            trunk = be32(&page, 0).unwrap_or(0);
        }
    }

    fn read(&self, number: u32) -> Option<Vec<u8>> {
        if number == 0 || number > self.count {
            return None;
        }
        let mut page = vec![0; self.size];
        match (self.logged.get(&number), &self.log) {
            (Some(at), Some(log)) => log.read_exact_at(&mut page, *at).ok()?,
            _ => self.file.read_exact_at(&mut page, (u64::from(number) - 1) * self.size as u64).ok()?,
        }
        Some(page)
    }

    /// The record of a cell, with what of it is on other pages.
    fn record(&self, page: &[u8], node: &Node, at: usize) -> Option<Vec<Column>> {
        let at = if node.kind == INDEX_INTERIOR { at + 4 } else { at };
        let (length, mut at) = varint(page, at)?;
        let (length, usable) = (usize::try_from(length).ok().filter(|length| *length <= MAX_RECORD)?, self.size);
        let most = match node.kind {
            TABLE_INTERIOR => return None,
            TABLE_LEAF => {
                at = varint(page, at)?.1;
                usable - 35
            }
            _ => (usable - 12) * 64 / 255 - 23,
        };
        if length <= most {
            return columns(page.get(at..at + length)?);
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let local = match least + (length - least) % (usable - 4) {
            local if local <= most => local,
            _ => least,
        };
        let mut record = page.get(at..at + local)?.to_vec();
        let mut next = be32(page, at + local)?;
        while record.len() < length {
            let page = self.read(next)?;
            let part = (length - record.len()).min(usable - 4);
            record.extend_from_slice(&page[4..4 + part]);
            next = be32(&page, 0)?;
        }
        columns(&record)
    }
}

/// A page of a tree.
struct Node {
    kind: u8,
    cells: Vec<usize>,
    right: Option<u32>,
    is_whole: bool,
}

impl Node {
    fn read(page: &[u8], number: u32) -> Option<Self> {
        let begin = if number == 1 { 100 } else { 0 };
        let kind = page[begin];
        if !matches!(kind, INDEX_INTERIOR | TABLE_INTERIOR | INDEX_LEAF | TABLE_LEAF) {
            return None;
        }
        let is_interior = matches!(kind, INDEX_INTERIOR | TABLE_INTERIOR);
        let count = usize::from(be16(page, begin + 3)?);
        let first = begin + if is_interior { 12 } else { 8 };
        let pointers = (0..count).map_while(|n| be16(page, first + 2 * n).map(usize::from));
        let cells: Vec<usize> = pointers.filter(|at| (first + 2 * count..page.len()).contains(at)).collect();
        let right = if is_interior { be32(page, begin + 8) } else { None };
        Some(Self { kind, is_whole: cells.len() == count, cells, right })
    }

    fn is_interior(&self) -> bool {
        self.right.is_some()
    }
}

/// The columns of a record; one that is not as it should be spoils it.
fn columns(record: &[u8]) -> Option<Vec<Column>> {
    let (header, mut at) = varint(record, 0)?;
    let header = usize::try_from(header).ok()?;
    let mut value = header;
    let mut columns = Vec::new();
    while at < header {
        let (kind, next) = varint(record, at)?;
        at = next;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            kind => usize::try_from((kind - 12) / 2).ok()?,
        };
        let bytes = record.get(value..value.checked_add(length)?)?;
        value += length;
        columns.push(match kind {
            0 => Column::Null,
            8 | 9 => Column::Integer(kind as i64 - 8),
            1..=6 => {
                let sign = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
                Column::Integer(bytes.iter().fold(sign, |number: i64, byte| number << 8 | i64::from(*byte)))
            }
            kind if kind >= 13 && kind % 2 == 1 => Column::Text(String::from_utf8(bytes.to_vec()).ok()?),
            _ => Column::Other,
        });
    }
    (at == header && value == record.len()).then_some(columns)
}

/// Where in the log the last committed form of each page is. A frame counts when its sums are right and a commit follows.
fn committed(log: &File, size: usize) -> io::Result<HashMap<u32, u64>> {
    let mut header = [0; 32];
    log.read_exact_at(&mut header, 0)?;
    let big = match be32(&header, 0) {
        Some(0x377f_0683) => true,
        Some(0x377f_0682) => false,
        _ => return Ok(HashMap::new()),
    };
    let mut sums = summed((0, 0), &header[..24], big);
    let (mut known, mut open) = (HashMap::new(), Vec::new());
    let mut frame = vec![0; 24 + size];
    let mut at = 32;
    while log.read_exact_at(&mut frame, at).is_ok() {
        sums = summed(summed(sums, &frame[..8], big), &frame[24..], big);
        if frame[8..16] != header[16..24] || be32(&frame, 16) != Some(sums.0) || be32(&frame, 20) != Some(sums.1) {
            break;
        }
        open.push((be32(&frame, 0).unwrap_or(0), at + 24));
        if be32(&frame, 4).is_some_and(|pages| pages > 0) {
            known.extend(open.drain(..));
        }
        at += frame.len() as u64;
    }
    Ok(known)
}

fn summed((mut a, mut b): (u32, u32), bytes: &[u8], big: bool) -> (u32, u32) {
    let word = |bytes: &[u8]| {
        let word = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    };
    for pair in bytes.chunks_exact(8) {
        a = a.wrapping_add(word(&pair[..4])).wrapping_add(b);
        b = b.wrapping_add(word(&pair[4..])).wrapping_add(a);
    }
    (a, b)
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

/// A number of one to nine bytes, and where the next thing is.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut number = 0;
    for n in 0..9 {
        let byte = u64::from(*bytes.get(at + n)?);
        if n == 8 {
            return Some((number << 8 | byte, at + 9));
        }
        number = number << 7 | byte & 0x7f;
        if byte & 0x80 == 0 {
            return Some((number, at + n + 1));
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_sqlite_wrote_into_file_and_log_is_read_again() {
        let path = std::env::temp_dir().join(format!("ioto-pages-{}", std::process::id()));
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT, n INTEGER) WITHOUT ROWID").unwrap();
        let insert = |from: i64, to: i64| {
            for n in from..to {
                let text = "x".repeat(n as usize * 37 % 9000);
                connection.execute("INSERT INTO t VALUES (?1, ?2, ?3)", (n.to_string(), text, n * n - 50)).unwrap();
            }
        };
        insert(0, 200);
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        insert(200, 300);
        connection.execute("DELETE FROM t WHERE n > 80000", []).unwrap();
        let mut pages = Pages::open(&path).unwrap();
        let root = pages.tables()["t"];
        let mut found = BTreeMap::new();
        let is_whole = pages.walk(root, &mut |record| match record {
            [Column::Text(key), Column::Text(text), Column::Integer(n)] => {
                found.insert(key.clone(), (text.len(), *n)).map_or((), |_| panic!("{key} twice"))
            }
            other => panic!("{other:?}"),
        });
        assert!(is_whole);
        let expected = (0..300).filter(|n| n * n - 50 <= 80_000);
        assert_eq!(found, expected.map(|n: i64| (n.to_string(), (n as usize * 37 % 9000, n * n - 50))).collect());
        let mut strays = 0;
        pages.strays(&mut |records| {
            strays += records.iter().filter(|record| matches!(record.first(), Some(Column::Text(_)))).count();
        });
        assert_eq!(strays, 0);
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(beside(&path, suffix));
        }
    }

    #[test]
    fn bytes_of_chance_never_panic() {
        let mut random = fastrand::Rng::with_seed(7);
        let path = std::env::temp_dir().join(format!("ioto-pages-chance-{}", std::process::id()));
        for _ in 0..300 {
            let mut bytes: Vec<u8> = (0..4 * USUAL).map(|_| random.u8(..)).collect();
            bytes[..16].copy_from_slice(MAGIC);
            bytes[16..18].copy_from_slice(&[0x10, 0]);
            for page in 0..4 {
                let begin = page * USUAL + if page == 0 { 100 } else { 0 };
                bytes[begin] = [2, 5, 10, 13][random.usize(..4)];
                bytes[begin + 3] = 0;
            }
            std::fs::write(&path, bytes).unwrap();
            let mut pages = Pages::open(&path).unwrap();
            pages.tables();
            pages.walk(2, &mut |_| ());
            pages.strays(&mut |_| ());
        }
        std::fs::remove_file(&path).unwrap();
    }
}
