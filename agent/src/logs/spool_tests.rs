//! Tests of the spool.
#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;
use crate::sqlite::beside;

struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("ioto-spool-{:x}", fastrand::u64(..)));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("logs/spool.db")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn none() -> Progress {
    Progress::default()
}

#[test]
fn records_of_a_source_are_counted_on_over_restarts_and_removals() {
    let dir = Dir::new();
    let mut spool = Spool::open(&dir.file()).unwrap();
    assert_eq!((spool.position("kmsg").unwrap(), spool.usage()), (None, Usage::default()));
    spool.append("kmsg", (b"abc", 3), "p1", none()).unwrap();
    spool.append("file", (b"de", 2), "q1", none()).unwrap();
    spool.append("kmsg", (b"", 0), "p2", none()).unwrap();
    let id = spool.id().to_owned();
    let progress = Progress { done: 2, accepted: Place { n: 3, index: 0 } };
    spool.append("kmsg", (b"f", 1), "p3", progress).unwrap();
    assert_eq!(spool.usage(), Usage { bytes: ROW + 1, records: 1 });
    drop(spool);

    let mut spool = Spool::open(&dir.file()).unwrap();
    assert_eq!(spool.id(), id);
    assert_eq!(spool.position("kmsg").unwrap().as_deref(), Some("p3"));
    assert_eq!((spool.accepted().unwrap(), spool.last().unwrap()), (progress.accepted, 3));
    let rows = spool.read(0, 1000).unwrap();
    let all: Vec<_> = rows.iter().map(|row| (row.n, row.source.as_str(), row.number, row.first, row.count)).collect();
    assert_eq!(all, [(3, "kmsg", 1, 4, 1)]);
    spool.note(Progress { done: 3, accepted: Place { n: 4, index: 0 } }).unwrap();
    spool.append("file", (b"g", 1), "q2", none()).unwrap();
    assert_eq!(spool.read(0, 1000).unwrap().iter().map(|row| (row.n, row.first)).collect::<Vec<_>>(), [(4, 3)]);
}

#[test]
fn room_is_made_at_the_cost_of_the_oldest_and_only_what_the_sink_has_not_counts_as_lost() {
    let dir = Dir::new();
    let mut spool = Spool::open(&dir.file()).unwrap();
    for n in 0..10 {
        spool.append("file", (&[0; 100], 10), &n.to_string(), none()).unwrap();
    }
    let accepted = Progress { done: 0, accepted: Place { n: 2, index: 4 } };
    assert_eq!(spool.make_room(500, 2000, accepted).unwrap(), 6 + 10);
    assert_eq!(spool.usage(), Usage { bytes: 1400, records: 70 });
    assert_eq!(spool.make_room(500, 100, accepted).unwrap(), 70);
}

#[test]
fn a_damaged_file_is_set_aside_and_another_is_begun() {
    let dir = Dir::new();
    let id = {
        let mut spool = Spool::open(&dir.file()).unwrap();
        spool.append("file", (&[7; 5000], 10), "p", none()).unwrap();
        spool.id().to_owned()
    };
    let mut bytes = fs::read(dir.file()).unwrap();
    let at = bytes.windows(100).position(|window| window == [7; 100]).unwrap();
    bytes[at] = 8;
    fs::write(dir.file(), &bytes).unwrap();
    let spool = Spool::open(&dir.file()).unwrap();
    assert!(matches!(spool.read(0, 1000), Err(Error::Damaged(_))));
    drop(spool);

    fs::write(
        dir.file(),
        b"this is no database, and it is longer than a header of one would be .............................",
    )
    .unwrap();
    let spool = Spool::open(&dir.file()).unwrap();
    assert_ne!(spool.id(), id);
    assert_eq!(spool.position("file").unwrap(), None);
    assert!(beside(&dir.file(), ".corrupt").exists());
}

#[test]
fn a_second_process_is_refused_and_a_newer_file_is_left_alone() {
    let dir = Dir::new();
    let spool = Spool::open(&dir.file()).unwrap();
    assert!(matches!(Spool::open(&dir.file()), Err(Error::Store(_))));
    spool.connection.pragma_update(None, "user_version", KIND.format + 1).unwrap();
    drop(spool);
    assert!(matches!(Spool::open(&dir.file()), Err(Error::Version(2))));
    assert!(!beside(&dir.file(), ".corrupt").exists());
}

#[test]
fn a_copy_taken_at_any_instant_has_whole_batches_with_their_positions() {
    let seed = fastrand::u64(..);
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (dir, copy) = (Dir::new(), Dir::new());
    let mut spool = Spool::open(&dir.file()).unwrap();
    fs::create_dir_all(copy.file().parent().unwrap()).unwrap();
    let mut done = 0;
    for n in 1..=200 {
        let before = fs::read(dir.file()).unwrap();
        let size = random.usize(1..20_000);
        if random.u8(..4) == 0 {
            done = random.i64(done..n);
        }
        spool.append("file", (&vec![n as u8; size], 1), &n.to_string(), Progress { done, ..none() }).unwrap();
        if random.u8(..5) != 0 {
            continue;
        }
        // What a power cut leaves: the file, and the log up to some byte. Before SQLite copies the log into the file, it forces
        // all of it to the disk.
        let (file, mut wal) = (fs::read(dir.file()).unwrap(), fs::read(beside(&dir.file(), "-wal")).unwrap());
        if file == before {
            wal.truncate(random.usize(..=wal.len()));
        }
        fs::write(copy.file(), file).unwrap();
        fs::write(beside(&copy.file(), "-wal"), wal).unwrap();
        let after = Spool::open(&copy.file()).unwrap();
        assert_eq!(after.id(), spool.id());
        let position: i64 = after.position("file").unwrap().map_or(0, |position| position.parse().unwrap());
        let rows = after.read(0, usize::MAX).unwrap();
        assert!(
            rows.iter().all(|row| row.records.iter().all(|byte| *byte == row.n as u8) && row.first as i64 == row.n)
        );
        assert!(rows.windows(2).all(|pair| pair[0].n + 1 == pair[1].n));
        assert_eq!(rows.last().map_or(after.last().unwrap(), |row| row.n), position);
    }
}
