#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;
use crate::sqlite::beside;

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("core-outbox-{}-{:x}", std::process::id(), fastrand::u64(..)));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("mqtt.outbox")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn queued(id: u64) -> Note {
    let message = Message::new("t", id.to_be_bytes().to_vec(), QoS::AtLeastOnce);
    Note::Queued { id: MessageId(id), priority: Priority::High, message }
}

#[test]
fn what_was_noted_is_there_after_the_file_is_opened_again() {
    let directory = Directory::new();
    let (mut file, kept) = OutboxFile::open(&directory.file()).unwrap();
    assert_eq!(kept, Kept::default());
    file.commit(&[queued(1), queued(2), queued(3), Note::Sending { id: MessageId(2), packet_id: 7 }]).unwrap();
    file.commit(&[Note::Sending { id: MessageId(1), packet_id: 8 }, Note::Released(MessageId(2))]).unwrap();
    file.commit(&[Note::Received(5), Note::Received(6), Note::Forgotten(5)]).unwrap();
    drop(file);
    let (mut file, kept) = OutboxFile::open(&directory.file()).unwrap();
    let in_flight: Vec<_> = kept.in_flight.iter().map(|k| (k.id.0, k.packet_id, k.is_released)).collect();
    assert_eq!(in_flight, [(2, 7, true), (1, 8, false)], "in the order in which they were sent");
    assert_eq!(kept.queued.iter().map(|(id, ..)| id.0).collect::<Vec<_>>(), [3]);
    assert_eq!(kept.queued[0].1, Priority::High);
    assert_eq!(kept.received, [6]);
    file.commit(&[1, 2, 3].map(|id| Note::Done(MessageId(id)))).unwrap();
    file.commit(&[Note::ForgottenAll]).unwrap();
    drop(file);
    assert_eq!(OutboxFile::open(&directory.file()).unwrap().1, Kept::default());
}

#[test]
fn a_failed_transaction_leaves_no_trace() {
    let directory = Directory::new();
    let (mut file, _) = OutboxFile::open(&directory.file()).unwrap();
    file.commit(&[queued(1)]).unwrap();
    let error = file.commit(&[Note::Received(9), queued(2), queued(1)]).unwrap_err();
    assert!(error.contains("the outbox of MQTT failed"), "{error}");
    drop(file);
    let (_, kept) = OutboxFile::open(&directory.file()).unwrap();
    assert_eq!((kept.queued.len(), kept.received.len()), (1, 0));
}

#[test]
fn a_damaged_file_is_set_aside_and_one_of_a_newer_version_is_left_alone() {
    let directory = Directory::new();
    fs::write(directory.file(), "no database, but of some length ".repeat(100)).unwrap();
    let (mut file, kept) = OutboxFile::open(&directory.file()).unwrap();
    assert_eq!(kept, Kept::default());
    file.commit(&[queued(1)]).unwrap();
    assert!(beside(&directory.file(), ".corrupt").exists());
    file.connection.pragma_update(None, "user_version", 99).unwrap();
    drop(file);
    let error = OutboxFile::open(&directory.file()).err().unwrap();
    assert!(error.to_string().contains("format 99"), "{error}");
}
