//! Files against a writer that does what programs and `logrotate` do, while the source is opened again and again.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::or;

use super::super::{Batch, Source};
use super::OWN;
use super::files::Files;
use crate::config::{FilesSource, LineBegin, LogFilter, LogStart};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("ioto-files-{name}-{}-{:x}", std::process::id(), fastrand::u64(..)));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn settings(path: &Path) -> FilesSource {
    FilesSource {
        paths: vec![path.to_owned()],
        start: LogStart::Start,
        continuation: String::new(),
        linger: Duration::from_millis(20),
        ..FilesSource::default()
    }
}

fn open(settings: &FilesSource, position: Option<&str>) -> Files {
    let mut files = Files::new("files", settings, 1000, &LogFilter::default(), position);
    files.grace = Duration::from_millis(100);
    files.gather = Duration::from_millis(2);
    files
}

/// The next batch, if one comes within the time.
fn next(files: &mut Files, limit: Duration) -> Option<Batch> {
    let late = async {
        Timer::after(limit).await;
        None
    };
    smol::block_on(or(async { Some(files.next().await.unwrap()) }, late))
}

/// Everything that comes until nothing has come for a while; the texts, and what the source said itself.
fn drain(files: &mut Files) -> (Vec<String>, Vec<String>, Option<String>) {
    let (mut texts, mut said, mut position) = (Vec::new(), Vec::new(), None);
    while let Some(batch) = next(files, Duration::from_millis(300)) {
        position = Some(batch.position);
        for record in batch.records {
            if record.identifier == OWN { said.push(record.text) } else { texts.push(record.text) }
        }
    }
    (texts, said, position)
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn shift(path: &Path) {
    let numbered =
        |number: u32| path.with_file_name(format!("{}.{number}", path.file_name().unwrap().to_str().unwrap()));
    for number in (1..8).rev() {
        let _ = fs::rename(numbered(number), numbered(number + 1));
    }
}

fn rotate(path: &Path) {
    shift(path);
    let _ = fs::rename(path, path.with_file_name("log.1"));
    File::create(path).unwrap();
}

fn copy_and_cut(path: &Path) {
    shift(path);
    let _ = fs::copy(path, path.with_file_name("log.1"));
    OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
}

/// Writes and rotates at random, while the source is read, its batches are kept or forgotten, and it is opened anew.
fn simulate(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let place = Place::new("random");
    let log = place.file("log");
    let settings = settings(&place.file(if random.bool() { "log" } else { "lo*" }));
    File::create(&log).unwrap();
    let (mut written, mut kept) = (0u32, Vec::new());
    let mut open_line: Option<String> = None;
    let mut files = open(&settings, None);
    let first = next(&mut files, Duration::from_secs(5)).expect("a position");
    assert!(first.records.is_empty());
    let mut position = first.position;
    // What was read and not kept is read again after the next opening.
    let mut unkept: (Vec<String>, String) = (Vec::new(), position.clone());
    let mut rotations = 0;
    for _ in 0..random.u32(20..120) {
        let action = random.u32(..100);
        match action {
            0..30 => {
                let mut text = String::new();
                for _ in 0..random.u32(1..60) {
                    if let Some(rest) = open_line.take() {
                        text.push_str(&rest);
                    } else {
                        text.push_str(&format!("line {written} {}\n", "x".repeat(random.usize(..200))));
                        written += 1;
                    }
                }
                append(&log, &text);
            }
            30..36 if open_line.is_none() => {
                append(&log, &format!("line {written}"));
                open_line = Some(" and its end\n".to_owned());
                written += 1;
            }
            36..50 if rotations < 5 => {
                if let Some(rest) = open_line.take() {
                    append(&log, &rest);
                }
                rotations += 1;
                match random.bool() {
                    true => rotate(&log),
                    false => copy_and_cut(&log),
                }
            }
            50..54 => {
                // Removed and made anew, when all of it was read.
                if let Some(rest) = open_line.take() {
                    append(&log, &rest);
                }
                collect(&mut files, &mut unkept, &mut kept, &mut position, Duration::from_millis(150), true);
                fs::remove_file(&log).unwrap();
                if random.bool() {
                    collect(&mut files, &mut unkept, &mut kept, &mut position, Duration::from_millis(30), true);
                }
                File::create(&log).unwrap();
            }
            54..85 => {
                let limit = Duration::from_millis(random.u64(1..40));
                let keeps = random.bool();
                collect(&mut files, &mut unkept, &mut kept, &mut position, limit, keeps);
            }
            _ => {
                // A crash.
                unkept = (Vec::new(), position.clone());
                drop(files);
                rotations = 0;
                files = open(&settings, Some(&position));
                if random.bool() {
                    // Files that are gone are let go, before they are shifted out.
                    collect(&mut files, &mut unkept, &mut kept, &mut position, Duration::from_millis(150), true);
                }
            }
        }
        if rotations >= 5 {
            collect(&mut files, &mut unkept, &mut kept, &mut position, Duration::from_millis(250), true);
            rotations = 0;
        }
    }
    if let Some(rest) = open_line.take() {
        append(&log, &rest);
    }
    let end = Instant::now() + Duration::from_secs(10);
    while kept.len() < written as usize && Instant::now() < end {
        collect(&mut files, &mut unkept, &mut kept, &mut position, Duration::from_millis(150), true);
    }
    collect(&mut files, &mut unkept, &mut kept, &mut position, Duration::from_millis(150), true);
    let numbers: Vec<u32> =
        kept.iter().filter_map(|text| text.strip_prefix("line ")?.split(' ').next()?.parse().ok()).collect();
    let wanted: Vec<u32> = (0..written).collect();
    let wrong = numbers.iter().zip(&wanted).position(|(one, other)| one != other);
    assert!(
        numbers == wanted,
        "seed {seed}: {} of {written} lines, the first difference at {wrong:?}: {:?}; said {:?}; {position}; {:?}; {:?}",
        numbers.len(),
        wrong.map(|at| &numbers[at.saturating_sub(2)..(at + 5).min(numbers.len())]),
        kept.iter().filter(|text| !text.starts_with("line ")).collect::<Vec<_>>(),
        files.state(),
        fs::read_dir(&place.0)
            .unwrap()
            .flatten()
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().ino(), entry.metadata().unwrap().len()))
            .collect::<Vec<_>>(),
    );
}

fn collect(
    files: &mut Files,
    unkept: &mut (Vec<String>, String),
    kept: &mut Vec<String>,
    position: &mut String,
    limit: Duration,
    keeps: bool,
) {
    while let Some(batch) = next(files, limit) {
        unkept.0.extend(batch.records.into_iter().map(|record| record.text));
        unkept.1 = batch.position;
    }
    if keeps {
        kept.append(&mut unkept.0);
        position.clone_from(&unkept.1);
    }
}

#[test]
fn every_line_comes_once_and_in_order_whatever_writer_and_rotation_do() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let count = std::env::var("ROUNDS").ok().and_then(|count| count.parse().ok()).unwrap_or(5);
    for _ in 0..if seed.is_some() { 1 } else { count } {
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        println!("SEED={seed}");
        simulate(seed);
    }
}

#[test]
fn what_was_cut_and_then_renamed_between_two_looks_is_read_in_its_order() {
    let place = Place::new("order");
    let log = place.file("log");
    File::create(&log).unwrap();
    let settings = settings(&log);
    let mut files = open(&settings, None);
    assert!(next(&mut files, Duration::from_secs(5)).unwrap().records.is_empty());
    // It is known and empty when all of this happens.
    append(&log, "1\n");
    copy_and_cut(&log);
    append(&log, "2\n");
    copy_and_cut(&log);
    append(&log, "3\n");
    rotate(&log);
    append(&log, "4\n");
    rotate(&log);
    append(&log, "5\n");
    assert_eq!(drain(&mut files).0, ["1", "2", "3", "4", "5"]);
}

#[test]
fn what_came_and_went_while_the_name_was_nobodys_is_read() {
    let place = Place::new("between");
    let log = place.file("log");
    append(&log, "1\n");
    let settings = settings(&log);
    let mut files = open(&settings, None);
    assert_eq!(drain(&mut files).0, ["1"]);
    fs::rename(&log, place.file("log.1")).unwrap();
    assert_eq!(drain(&mut files).0, [] as [String; 0]);
    append(&log, "2\n");
    thread::sleep(Duration::from_millis(20));
    rotate(&log);
    append(&log, "3\n");
    assert_eq!(drain(&mut files).0, ["2", "3"]);
}

#[test]
fn what_was_there_before_is_not_read_but_what_comes_is_also_in_new_files() {
    let place = Place::new("end");
    append(&place.file("log"), "old\nold too\nhal");
    append(&place.file("log.1"), "older\n");
    let settings = FilesSource { start: LogStart::End, ..settings(&place.file("*")) };
    let mut files = open(&settings, None);
    let first = next(&mut files, Duration::from_secs(5)).unwrap();
    assert_eq!(first.records, []);
    append(&place.file("log"), "f\nnew\r\n");
    append(&place.file("later.log"), "whole\n");
    let (mut texts, said, _) = drain(&mut files);
    texts.sort();
    assert_eq!((texts, said.len()), (vec!["half".to_owned(), "new".to_owned(), "whole".to_owned()], 0));
    // The first position is before all of that.
    let (mut texts, said, _) = drain(&mut open(&settings, Some(&first.position)));
    texts.sort();
    assert_eq!((texts, said.len()), (vec!["half".to_owned(), "new".to_owned(), "whole".to_owned()], 0));
}

#[test]
fn lines_without_end_wait_and_come_with_the_rotation() {
    let place = Place::new("partial");
    let log = place.file("log");
    append(&log, "one\ntw");
    let settings = settings(&log);
    let mut files = open(&settings, None);
    assert_eq!(drain(&mut files).0, ["one"]);
    append(&log, "o\nthre");
    assert_eq!(drain(&mut files).0, ["two"]);
    rotate(&log);
    append(&log, "four\n");
    let (mut texts, _, position) = drain(&mut files);
    texts.sort();
    assert_eq!(texts, ["four", "thre"]);
    assert_eq!(drain(&mut open(&settings, position.as_deref())).0, [] as [String; 0]);
}

#[test]
fn what_is_lost_is_said() {
    let place = Place::new("lost");
    let log = place.file("log");
    append(&log, "one\ntwo\n");
    let settings = settings(&log);
    let mut files = open(&settings, None);
    assert_eq!(drain(&mut files).0, ["one", "two"]);
    let (_, _, position) = {
        append(&log, "three\n");
        drain(&mut files)
    };
    // Cut without a copy.
    File::create(&log).unwrap();
    append(&log, "4\n");
    let (texts, said, _) = drain(&mut files);
    assert_eq!((texts, said.len()), (vec!["4".to_owned()], 1));
    assert!(said[0].contains("was cut and is read from its start"), "{said:?}");
    // Compressed while nobody read.
    fs::remove_file(&log).unwrap();
    append(&place.file("log.1.gz"), "not read");
    append(&log, "five\n");
    let (texts, said, _) = drain(&mut open(&settings, position.as_deref()));
    assert_eq!((texts, said.len()), (vec!["five".to_owned()], 1));
    assert!(said[0].contains("compressed"), "{said:?}");
}

#[test]
fn an_inode_that_is_used_again_is_another_file() {
    let place = Place::new("inode");
    let log = place.file("log");
    append(&log, "one\ntwo\n");
    let settings = settings(&log);
    let (texts, _, position) = drain(&mut open(&settings, None));
    assert_eq!(texts.len(), 2);
    // The same inode in any case, and longer than before.
    fs::write(&log, "three\nfour\nfive\nsix\n").unwrap();
    let (texts, said, _) = drain(&mut open(&settings, position.as_deref()));
    assert_eq!((texts.len(), said.len()), (4, 1));
}

#[test]
fn stack_traces_are_one_record_also_over_an_opening() {
    let place = Place::new("trace");
    let log = place.file("log");
    let settings = FilesSource { begins: Some(LineBegin::Time), linger: Duration::from_millis(100), ..settings(&log) };
    append(
        &log,
        "2026-11-22T10:11:12Z host app[5]: failed\n  at x\n\nCaused by\n2026-11-22T10:11:13Z host app: next\n",
    );
    let mut files = open(&settings, None);
    let mut records = Vec::new();
    let mut position = String::new();
    while records.is_empty() {
        let batch = next(&mut files, Duration::from_secs(5)).unwrap();
        (records, position) = (batch.records, batch.position);
    }
    assert_eq!((records[0].text.as_str(), records[0].pid), ("failed\n  at x\n\nCaused by", Some(5)));
    let (texts, _, _) = drain(&mut open(&settings, Some(&position)));
    assert!(texts == ["next"] || records.len() == 2 && texts.is_empty(), "{texts:?}");
}

#[test]
fn long_lines_are_cut_and_odd_bytes_do_no_harm() {
    let place = Place::new("odd");
    let log = place.file("log");
    let mut bytes = b"a\0b\xff\xfe\n".to_vec();
    bytes.extend(std::iter::repeat_n(b'y', 100_000));
    bytes.extend_from_slice(b"\n\nlast\n");
    fs::write(&log, &bytes).unwrap();
    let (texts, _, position) = drain(&mut open(&settings(&log), None));
    assert_eq!(texts[0], "a\u{fffd}b\u{fffd}\u{fffd}");
    assert!(texts[1].ends_with("y… [99000 bytes more]"), "{}", &texts[1][990..]);
    assert_eq!((texts[2].as_str(), texts[3].as_str()), ("", "last"));
    assert_eq!(drain(&mut open(&settings(&log), position.as_deref())).0.len(), 0);
}

#[test]
fn links_are_followed_only_where_they_are_named() {
    let place = Place::new("link");
    append(&place.file("target"), "secret\n");
    std::os::unix::fs::symlink(place.file("target"), place.file("a.log")).unwrap();
    assert_eq!(drain(&mut open(&settings(&place.file("*.log")), None)).0.len(), 0);
    assert_eq!(drain(&mut open(&settings(&place.file("a.log")), None)).0, ["secret"]);
    // A pipe does not hold anything up.
    nix::unistd::mkfifo(&place.file("pipe.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(drain(&mut open(&settings(&place.file("pipe.log")), None)).0.len(), 0);
}
