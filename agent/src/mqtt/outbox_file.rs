//! The outbox on disk: the notes of a session in an SQLite file of its own.
//!
//! A transaction is on the disk when it is committed (WAL with `synchronous = FULL`), so that nothing is sent or said of
//! which a power cut could make a lie. What this costs is shared by all the notes of a transaction.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, Row, params};

use super::session::{Kept, KeptInFlight, MessageId, Note, Store};
use super::{Message, Priority, QoS};
use crate::sqlite::Kind;
use crate::sqlite::alone::{self, Refused, unsigned};

const KIND: Kind = Kind {
    name: "outbox",
    // `iomq`
    application: 0x696f_6d71,
    format: 1,
    unit: 1,
    cache: 512,
    checkpoint: 512,
    log: 2 << 20,
    is_durable: true,
    is_exclusive: true,
};

/// Messages that are to be sent have a turn; it says in which order. Those that wait have packet id and turn 0.
const TABLES: &str = "\
    CREATE TABLE IF NOT EXISTS message (id INTEGER PRIMARY KEY, priority INTEGER NOT NULL, qos INTEGER NOT NULL, \
        retain INTEGER NOT NULL, packet_id INTEGER NOT NULL, turn INTEGER NOT NULL, released INTEGER NOT NULL, \
        topic TEXT NOT NULL, payload BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS received (packet_id INTEGER PRIMARY KEY);";

/// Why the outbox did not do it.
#[derive(Debug)]
pub enum OutboxError {
    /// No room on the disk, or less than has to be left. Nothing was changed.
    Full(PathBuf),
    /// There is something in the file that was never written.
    Damaged(String),
    /// A newer version of the program wrote the file.
    Version(i64),
    /// SQLite refused. Nothing was changed.
    Store(rusqlite::Error),
    /// File or directory cannot be used.
    File(PathBuf, io::Error),
}

impl fmt::Display for OutboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(path) => {
                write!(f, "no room on the disk for the outbox of MQTT ({}), free some space", path.display())
            }
            Self::Damaged(what) => write!(f, "the outbox of MQTT is damaged: {what}"),
            Self::Version(found) => write!(
                f,
                "the outbox of MQTT has format {found}, this program knows {}; start the version that wrote it, or \
                 remove the file to begin anew",
                KIND.format
            ),
            Self::Store(source) => write!(f, "the outbox of MQTT failed: {source}"),
            Self::File(path, source) => write!(f, "the outbox of MQTT, {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for OutboxError {}

impl From<rusqlite::Error> for OutboxError {
    fn from(source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(PathBuf::new()),
            _ if alone::is_damage(&source) => Self::Damaged(source.to_string()),
            _ => Self::Store(source),
        }
    }
}

/// The opened file.
pub(super) struct OutboxFile {
    connection: Connection,
    path: PathBuf,
    /// The last turn given.
    turn: i64,
}

impl OutboxFile {
    /// Opens or makes the file, and reads what it keeps. A damaged one is set aside and an empty one begun.
    pub fn open(path: &Path) -> Result<(Self, Kept), OutboxError> {
        match Self::open_as_is(path) {
            Err(error @ OutboxError::Damaged(_)) => {
                set_aside(path, &error)?;
                Self::open_as_is(path)
            }
            result => result,
        }
    }

    fn open_as_is(path: &Path) -> Result<(Self, Kept), OutboxError> {
        let connection = alone::open(&KIND, path, TABLES).map_err(|refused| match refused {
            Refused::Damaged(what) => OutboxError::Damaged(what),
            Refused::Newer(format) => OutboxError::Version(format),
            Refused::Store(source) => source.into(),
            Refused::File(source) => OutboxError::File(path.into(), source),
        })?;
        let turn = connection.query_row("SELECT coalesce(max(turn), 0) FROM message", [], |row| row.get(0))?;
        let kept = load(&connection)?;
        Ok((Self { connection, path: path.into(), turn }, kept))
    }

    #[cfg(test)]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, notes: &[Note]) -> Result<(), OutboxError> {
        let size = |note: &Note| if let Note::Queued { message, .. } = note { message.size() as u64 } else { 0 };
        let added: u64 = notes.iter().map(size).sum();
        if added > 0 && !alone::has_room(&self.connection, &self.path, added)? {
            return Err(OutboxError::Full(self.path.clone()));
        }
        let sending = sending(notes, self.turn);
        let transaction = self.connection.unchecked_transaction()?;
        let (mut inserted, mut done) = (HashSet::new(), Vec::new());
        for note in notes {
            match note {
                Note::Queued { id, priority, message } => {
                    let (packet_id, turn) = sending.get(id).copied().unwrap_or((0, 0));
                    insert(&transaction, *id, *priority, message, (packet_id, turn))?;
                    inserted.insert(*id);
                }
                Note::Sending { id, .. } if inserted.contains(id) => {}
                Note::Sending { id, .. } => {
                    let (packet_id, turn) = sending.get(id).copied().unwrap_or((0, 0));
                    let sql = "UPDATE message SET packet_id = ?2, turn = ?3 WHERE id = ?1";
                    transaction.prepare_cached(sql)?.execute(params![number(*id), packet_id, turn])?;
                }
                Note::Released(id) => release(&transaction, *id, true)?,
                Note::Unreleased(id) => release(&transaction, *id, false)?,
                Note::Done(id) => done.push(*id),
                Note::Received(packet_id) => {
                    let sql = "INSERT OR IGNORE INTO received (packet_id) VALUES (?1)";
                    transaction.prepare_cached(sql)?.execute([packet_id])?;
                }
                Note::Forgotten(packet_id) => {
                    transaction.prepare_cached("DELETE FROM received WHERE packet_id = ?1")?.execute([packet_id])?;
                }
                Note::ForgottenAll => drop(transaction.prepare_cached("DELETE FROM received")?.execute([])?),
            }
        }
        delete(&transaction, done)?;
        transaction.commit()?;
        self.turn += sending.len() as i64;
        Ok(())
    }
}

impl Store for OutboxFile {
    fn commit(&mut self, notes: &[Note]) -> Result<(), String> {
        self.write(notes).map_err(|error| match error {
            OutboxError::Full(_) => OutboxError::Full(self.path.clone()).to_string(),
            error => error.to_string(),
        })
    }
}

/// Packet id and turn of each message that gets them. A message that is published and sent in one transaction is then
/// written once.
fn sending(notes: &[Note], last: i64) -> HashMap<MessageId, (u16, i64)> {
    let sending = notes.iter().filter_map(|note| match note {
        Note::Sending { id, packet_id } => Some((*id, *packet_id)),
        _ => None,
    });
    (last + 1..).zip(sending).map(|(turn, (id, packet_id))| (id, (packet_id, turn))).collect()
}

fn insert(
    connection: &Connection,
    id: MessageId,
    priority: Priority,
    message: &Message,
    (packet_id, turn): (u16, i64),
) -> Result<(), OutboxError> {
    let sql = "INSERT INTO message (id, priority, qos, retain, packet_id, turn, released, topic, payload) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8)";
    let (priority, qos) = (priority as u8, message.qos.number());
    let values =
        params![number(id), priority, qos, message.retain, packet_id, turn, message.topic, &message.payload[..]];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

fn release(connection: &Connection, id: MessageId, is_released: bool) -> Result<(), OutboxError> {
    let sql = "UPDATE message SET released = ?2 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![number(id), is_released])?;
    Ok(())
}

/// Deletes messages; those that follow each other, as most do, with one statement.
fn delete(connection: &Connection, mut done: Vec<MessageId>) -> Result<(), OutboxError> {
    done.sort_unstable();
    for run in done.chunk_by(|one, next| one.0 + 1 == next.0) {
        if let [first, .., last] | [first @ last] = run {
            let sql = "DELETE FROM message WHERE id BETWEEN ?1 AND ?2";
            connection.prepare_cached(sql)?.execute([number(*first), number(*last)])?;
        }
    }
    Ok(())
}

fn load(connection: &Connection) -> Result<Kept, OutboxError> {
    let mut kept = Kept::default();
    let sql = "SELECT id, priority, qos, retain, packet_id, released, topic, payload FROM message ORDER BY turn, id";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (id, message) = (MessageId(unsigned(row, 0)?), message(row)?);
        match row.get::<_, u16>(4)? {
            0 => kept.queued.push((id, priority(row.get(1)?)?, message)),
            packet_id => {
                kept.in_flight.push(KeptInFlight { id, packet_id, is_released: row.get(5)?, message });
            }
        }
    }
    let mut statement = connection.prepare("SELECT packet_id FROM received ORDER BY packet_id")?;
    kept.received = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(kept)
}

fn message(row: &Row<'_>) -> Result<Message, OutboxError> {
    let qos = match row.get::<_, u8>(2)? {
        1 => QoS::AtLeastOnce,
        2 => QoS::ExactlyOnce,
        other => return Err(OutboxError::Damaged(format!("there is a message of QoS {other}"))),
    };
    let retain = row.get(3)?;
    let message = Message { retain, ..Message::new(row.get::<_, String>(6)?, row.get::<_, Vec<u8>>(7)?, qos) };
    message.check(usize::MAX).map_err(|error| OutboxError::Damaged(error.to_string()))?;
    Ok(message)
}

fn priority(stored: u8) -> Result<Priority, OutboxError> {
    let known = Priority::ALL.into_iter().find(|priority| *priority as u8 == stored);
    known.ok_or_else(|| OutboxError::Damaged(format!("there is a message of priority {stored}")))
}

/// Renames the file to `PATH.corrupt`; one such file is kept.
fn set_aside(path: &Path, why: &OutboxError) -> Result<(), OutboxError> {
    let aside = alone::set_aside(path).map_err(|error| OutboxError::File(path.into(), error))?;
    log::error!(
        "{why}; {} was set aside as {} and an empty one is begun: messages that waited in it are lost",
        path.display(),
        aside.display()
    );
    Ok(())
}

/// Numbers of messages count up from 1; SQLite's are signed.
fn number(id: MessageId) -> i64 {
    id.0 as i64
}

#[cfg(test)]
#[path = "outbox_file_tests.rs"]
mod tests;
