#![allow(clippy::unwrap_used)]

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::{env, thread};

use super::*;

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ioto-heartbeat-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join(FILE)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn some_beat() -> Beat {
    let seconds = Duration::from_secs;
    Beat {
        state: State::Running,
        pid: process::id(),
        sequence: 7,
        at: seconds(100),
        started: seconds(90),
        ready: Some(seconds(91)),
        lag: Duration::from_millis(3),
        starts: 4,
        crashes: 2,
        boot: 1 << 100,
    }
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let beat = some_beat();
    assert_eq!(decode(&encode(&beat)), Some(beat.clone()));
    let beat = Beat { ready: None, state: State::Starting, ..beat };
    assert_eq!(decode(&encode(&beat)), Some(beat));
}

#[test]
fn no_flipped_bit_is_overlooked() {
    let record = encode(&some_beat());
    for bit in 0..SIZE * 8 {
        let mut record = record;
        record[bit / 8] ^= 1 << (bit % 8);
        // Padding between the fields and the sum is summed up too.
        assert_eq!(decode(&record), None, "bit {bit}");
    }
}

#[test]
fn starts_and_crashes_are_counted_over_restarts() {
    let directory = Directory::new();
    let mut first = Writer::new(&directory.0).unwrap();
    first.state(State::Running).unwrap();
    let beat = read(&directory.0).unwrap();
    assert_eq!((beat.state, beat.pid, beat.starts, beat.crashes), (State::Running, process::id(), 1, 0));
    assert_eq!(beat.health(STALE), Health::Alive);
    drop(first);
    let mut second = Writer::new(&directory.0).unwrap();
    second.state(State::Stopped).unwrap();
    let beat = read(&directory.0).unwrap();
    assert_eq!((beat.starts, beat.crashes, beat.health(STALE)), (2, 1, Health::Stopped));
    drop(second);
    let third = Writer::new(&directory.0).unwrap();
    assert_eq!((third.beat.starts, third.beat.crashes), (3, 1));
}

#[test]
fn two_agents_do_not_write_one_heartbeat() {
    let directory = Directory::new();
    let _first = Writer::new(&directory.0).unwrap();
    assert_eq!(Writer::new(&directory.0).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn what_is_no_heartbeat_is_none() {
    let directory = Directory::new();
    assert!(matches!(read(&directory.0), Err(Absent::Missing)));
    for content in [&b""[..], b"x", &[0; SIZE], &[0xff; 4096], &encode(&some_beat())[..SIZE - 1]] {
        fs::write(directory.file(), content).unwrap();
        assert!(matches!(read(&directory.0), Err(Absent::Foreign)), "{} bytes", content.len());
    }
    fs::write(directory.file(), encode(&some_beat())).unwrap();
    assert!(matches!(read(&directory.0), Err(Absent::EarlierBoot)));
    // A writer takes a file over whatever is in it, and counts from the start.
    assert_eq!(Writer::new(&directory.0).unwrap().beat.starts, 1);

    fs::remove_file(directory.file()).unwrap();
    fs::create_dir(directory.file()).unwrap();
    assert!(read(&directory.0).is_err() && Writer::new(&directory.0).is_err());
    fs::remove_dir(directory.file()).unwrap();
    symlink("/dev/zero", directory.file()).unwrap();
    assert!(read(&directory.0).is_err() && Writer::new(&directory.0).is_err());
}

#[test]
fn health_is_judged_by_age_and_process() {
    let (short, long) = (Duration::from_secs(1), Duration::from_secs(6));
    let beat = some_beat();
    assert_eq!(beat.judge(short, true, STALE), Health::Alive);
    assert_eq!(beat.judge(long, true, STALE), Health::Hanging);
    assert_eq!(beat.judge(short, false, STALE), Health::Dead);
    let first = Beat { state: State::Starting, sequence: 1, ..some_beat() };
    assert_eq!(first.judge(long, true, STALE), Health::Alive);
    assert_eq!(first.judge(START + short, true, STALE), Health::Hanging);
    let stopped = Beat { state: State::Stopped, ..some_beat() };
    assert_eq!(stopped.judge(long, true, STALE), Health::Stopped);
}

#[test]
fn a_reader_beside_a_writer_never_sees_half_a_record() {
    let directory = Directory::new();
    let mut writer = Writer::new(&directory.0).unwrap();
    let (path, done) = (directory.0.clone(), &AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let sequence = read(&path).unwrap().sequence;
                assert!(sequence >= last, "{sequence} after {last}");
                last = sequence;
            }
        });
        for _ in 0..20_000 {
            writer.beat(Duration::ZERO).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}
