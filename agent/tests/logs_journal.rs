//! The journal as a source: against systemd's own journald, run in namespaces of its own, and against a program that stands
//! in for `journalctl` where that is needed to see an edge.
#![cfg(feature = "logs")]
#![allow(clippy::unwrap_used)]

#[path = "logs/journald.rs"]
mod journald;

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ioto::config::{JournalSource, LogFilter, LogSource, LogSourceKind, LogStart};
use ioto::logs::{Batch, Record, Source, sources};
use journald::{Journald, SOCKET};
use smol::Timer;
use smol::future::or;

/// What takes longer is never done. Nothing is expected to be done sooner: a machine may stand still for seconds.
const LIMIT: Duration = Duration::from_secs(120);

fn source(start: LogStart, program: &str, filter: LogFilter, position: Option<&str>) -> Box<dyn Source> {
    let journal = JournalSource { start, program: program.into(), ..JournalSource::default() };
    sources::open(
        &LogSource { filter, ..LogSource::new(LogSourceKind::Journal(journal)) },
        position,
        &Default::default(),
    )
}

fn next(source: &mut dyn Source, limit: Duration) -> Option<Batch> {
    let late = async {
        Timer::after(limit).await;
        None
    };
    smol::block_on(or(async { Some(source.next().await.unwrap()) }, late))
}

/// A directory with a program that stands in for `journalctl`.
struct Fake(PathBuf);

impl Fake {
    fn new(name: &str, script: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ioto-journal-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let program = path.join("journalctl");
        fs::write(&program, format!("#!/bin/sh\ncd {}\nprintf '%s\\n' \"$*\" >>calls\n{script}", path.display()))
            .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn program(&self) -> String {
        self.0.join("journalctl").to_string_lossy().into_owned()
    }

    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.0.join("calls")).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A shell function that writes an entry.
const ENTRY: &str = r#"entry() { printf '__CURSOR=s=a;i=%x;b=b;m=%x;t=%x;x=%x\n__REALTIME_TIMESTAMP=%s\n_BOOT_ID=b\nMESSAGE=line %s\n\n' $1 $1 $1 $1 $1 $1; }
"#;

fn texts(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.text.as_str()).collect()
}

#[test]
fn the_entry_of_the_cursor_is_not_repeated_and_its_loss_is_said() {
    let fake = Fake::new("cursor", &format!("{ENTRY}entry 5; entry 6; sleep 60"));
    let mut known = source(LogStart::End, &fake.program(), LogFilter::default(), Some("s=a;i=5;b=b;m=5;t=5;x=5"));
    let batch = next(&mut *known, Duration::from_secs(10)).unwrap();
    assert_eq!((texts(&batch.records), batch.position.as_str()), (vec!["line 6"], "s=a;i=6;b=b;m=6;t=6;x=6"));
    drop(known);
    let mut cut = source(LogStart::End, &fake.program(), LogFilter::default(), Some("s=a;i=2;b=b;m=2;t=2;x=2"));
    let batch = next(&mut *cut, Duration::from_secs(10)).unwrap();
    assert_eq!(batch.records.len(), 3);
    assert!(batch.records[0].text.contains("no longer has the line"), "{:?}", batch.records[0]);
    assert_eq!(batch.records[0].identifier, "ioto");
    assert!(fake.calls()[1].contains("--cursor=s=a;i=2;"), "{:?}", fake.calls());
}

#[test]
fn a_program_that_dies_is_started_again_behind_the_last_entry() {
    let script = format!(
        "{ENTRY}n=$(wc -l <calls)\ncase $n in 1) entry 1; entry 2; printf '__CURSOR=half\\nMESS'; exit 1;; \
         2) entry 2; entry 3; kill -9 $$;; *) entry 3; entry 4; exec sleep 60;; esac"
    );
    let fake = Fake::new("dies", &script);
    let mut source = source(LogStart::Start, &fake.program(), LogFilter::default(), None);
    let mut all = Vec::new();
    while all.len() < 4 {
        all.extend(next(&mut *source, Duration::from_secs(20)).expect("more").records);
    }
    assert_eq!(texts(&all), ["line 1", "line 2", "line 3", "line 4"]);
}

#[test]
fn a_cursor_that_nothing_can_be_read_with_is_given_up_without_repeating() {
    let script = format!(
        "{ENTRY}case \"$*\" in *--cursor=*) echo 'Failed to seek' >&2; exit 1;; esac\nentry 2; entry 3; entry 4; sleep 60"
    );
    let fake = Fake::new("broken", &script);
    let mut source = source(LogStart::End, &fake.program(), LogFilter::default(), Some("s=a;i=3;b=b;m=3;t=3;x=3"));
    let mut all = Vec::new();
    while all.len() < 2 {
        all.extend(next(&mut *source, Duration::from_secs(20)).expect("more").records);
    }
    assert!(all[0].text.contains("cannot be read from where it was left"), "{all:?}");
    assert_eq!(all[1].text, "line 4");
}

#[test]
fn the_first_start_begins_behind_the_last_entry_and_holds_that_at_once() {
    let fake = Fake::new(
        "end",
        &format!("{ENTRY}case \"$*\" in *--lines=1*) entry 7; exit;; esac\nentry 7; entry 8; sleep 60"),
    );
    let mut source = source(LogStart::End, &fake.program(), LogFilter::default(), None);
    let batch = next(&mut *source, Duration::from_secs(10)).unwrap();
    assert_eq!((batch.records.len(), batch.position.as_str()), (0, "s=a;i=7;b=b;m=7;t=7;x=7"));
    assert_eq!(texts(&next(&mut *source, Duration::from_secs(10)).unwrap().records), ["line 8"]);
}

#[test]
fn nothing_runs_and_nothing_is_left_when_the_source_is_gone() {
    let fake = Fake::new("gone", &format!("{ENTRY}echo $$ >pid; entry 1; exec sleep 60"));
    let mut source = source(LogStart::Start, &fake.program(), LogFilter::default(), None);
    next(&mut *source, Duration::from_secs(10)).unwrap();
    let pid = fs::read_to_string(fake.0.join("pid")).unwrap();
    let process = PathBuf::from(format!("/proc/{}", pid.trim()));
    assert!(process.exists());
    drop(source);
    let end = Instant::now() + Duration::from_secs(10);
    while process.exists() {
        assert!(Instant::now() < end, "it runs, or was not collected");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs the other tests of journald.
#[test]
fn journald_in_namespaces() {
    journald::in_namespaces("inside_journald");
}

/// Writes lines natively, and waits while journald takes none. The ids in them are of the test.
fn write(from: usize, to: usize, pad: &str) {
    let socket = UnixDatagram::unbound().unwrap();
    socket.set_write_timeout(Some(LIMIT)).unwrap();
    socket.connect(SOCKET).unwrap();
    for number in from..to {
        let text = format!("MESSAGE=id {number} {pad}\nPRIORITY=5\nSYSLOG_IDENTIFIER=writer\nSYSLOG_FACILITY=16\n");
        // A send with a time limit is not begun again by the kernel when the machine stood still.
        while let Err(error) = socket.send(text.as_bytes()) {
            assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        }
    }
}

/// Ids in the journal, as journalctl says.
fn in_journal() -> HashMap<String, usize> {
    let output =
        Command::new("journalctl").args(["-o", "cat", "-t", "writer", "--no-pager", "--all"]).output().unwrap();
    count(String::from_utf8_lossy(&output.stdout).lines())
}

fn count<'a>(lines: impl Iterator<Item = &'a str>) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for id in lines.filter_map(|line| line.strip_prefix("id ")?.split(' ').next()) {
        *counts.entry(id.to_owned()).or_default() += 1;
    }
    counts
}

#[test]
#[ignore = "run by journald_in_namespaces"]
fn inside_journald() {
    let journald = Journald::start("SyncIntervalSec=1s\nStorage=persistent\nSystemMaxUse=400M");
    write(0, 10, "before");
    wait_for(9);
    every_line_once_over_restarts(journald);
    lines_survive_the_move_from_run_to_var();
    a_vacuumed_cursor();
}

fn real(start: LogStart, position: Option<&str>) -> Box<dyn Source> {
    let filter = LogFilter { identifiers: vec!["writer".into(), "ioto".into()], ..LogFilter::default() };
    source(start, "/usr/bin/journalctl", filter, position)
}

/// Waits until the line with this id is in the journal.
fn wait_for(id: usize) {
    let end = Instant::now() + LIMIT;
    while !in_journal().contains_key(&id.to_string()) {
        assert!(Instant::now() < end, "line {id} is not written");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ids_of(records: &[Record]) -> HashMap<String, usize> {
    count(records.iter().map(|record| record.text.as_str()))
}

/// Reads until there are lines with so many ids, and then what still comes, as it would if a line came twice. The position
/// behind the last.
fn read_ids(journal: &mut dyn Source, ids: usize, all: &mut Vec<Record>) -> String {
    let end = Instant::now() + LIMIT;
    let mut position = String::new();
    loop {
        let limit = match ids_of(all).len() >= ids {
            true => Duration::from_secs(1),
            false => end.saturating_duration_since(Instant::now()),
        };
        let Some(batch) = next(journal, limit) else { return position };
        all.extend(batch.records);
        position = batch.position;
    }
}

fn every_line_once_over_restarts(mut journald: Journald) {
    const LINES: usize = 20_000;
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut position: Option<String> = None;
    let mut journal = real(LogStart::End, None);
    // The position is there before anything is written.
    position.replace(next(&mut *journal, Duration::from_secs(20)).unwrap().position);
    let writer = std::thread::spawn(|| write(10, 10 + LINES, "while journald is restarted"));
    let (mut kept, mut unkept): (Vec<Record>, Vec<Record>) = (Vec::new(), Vec::new());
    let (mut restarts, mut openings) = (0, 0);
    let end = Instant::now() + LIMIT;
    while kept.len() + unkept.len() < LINES && Instant::now() < end {
        if let Some(batch) = next(&mut *journal, Duration::from_millis(100)) {
            unkept.extend(batch.records);
            if random.u8(..4) > 0 {
                kept.append(&mut unkept);
                position = Some(batch.position);
            }
        }
        if random.u8(..6) == 0 && openings < 15 {
            unkept.clear();
            openings += 1;
            journal = real(LogStart::End, position.as_deref());
        }
        if restarts < 2 && kept.len() > (restarts + 1) * LINES / 4 {
            restarts += 1;
            journald.restart();
        }
    }
    writer.join().unwrap();
    kept.append(&mut unkept);
    read_ids(&mut *journal, LINES, &mut kept);
    let found = ids_of(&kept);
    let mut wanted = in_journal();
    wanted.retain(|id, _| id.parse::<usize>().unwrap() >= 10);
    println!("{restarts} restarts of journald, {openings} openings, {} ids of {LINES} in the journal", wanted.len());
    assert_eq!((restarts, wanted.len()), (2, LINES));
    let wrong: Vec<_> = wanted.iter().filter(|(id, times)| found.get(*id) != Some(times)).take(5).collect();
    assert!(wrong.is_empty() && found.len() == wanted.len(), "{} found, {wrong:?}", found.len());
    let first = &kept[0];
    assert_eq!((first.severity, first.facility, first.identifier.as_str()), (5, 16, "writer"));
    assert_eq!((first.pid, first.boot.as_ref().map(String::len)), (Some(std::process::id()), Some(32)));
    assert!(first.at > 1_700_000_000_000_000);
    let numbers: Vec<usize> = kept.iter().filter_map(|record| record.text.split(' ').nth(1)?.parse().ok()).collect();
    assert!(numbers.is_sorted(), "out of order");
    drop(journal);
    journald.stop();
}

/// journald begins in /run and moves its entries to /var when that is there: they get other numbers.
fn lines_survive_the_move_from_run_to_var() {
    for directory in ["/var/log/journal", "/run/log/journal"] {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    let _ = fs::remove_file("/run/systemd/journal/flushed");
    let journald = Journald::start("SyncIntervalSec=1s\nStorage=auto");
    let mut journal = real(LogStart::Start, None);
    write(0, 500, "in run");
    let mut all = Vec::new();
    let position = read_ids(&mut *journal, 500, &mut all);
    journald.signal(nix::sys::signal::Signal::SIGUSR1);
    let end = Instant::now() + LIMIT;
    while !Path::new("/run/systemd/journal/flushed").exists() {
        assert!(Instant::now() < end, "journald does not flush");
        std::thread::sleep(Duration::from_millis(20));
    }
    write(500, 1000, "in var");
    // One that runs on, and one that is opened behind the move.
    let mut other = all.clone();
    for (mut journal, all) in [(journal, &mut all), (real(LogStart::Start, Some(&position)), &mut other)] {
        read_ids(&mut *journal, 1000, all);
        let found = ids_of(all);
        let twice: Vec<_> = found.iter().filter(|(_, times)| **times != 1).take(5).collect();
        let said: Vec<_> = all.iter().filter(|record| record.identifier == "ioto").collect();
        assert!(found.len() == 1000 && twice.is_empty() && said.is_empty(), "{} {twice:?} {said:?}", found.len());
    }
    journald.stop();
}

fn a_vacuumed_cursor() {
    let journald = Journald::start("SyncIntervalSec=1s\nStorage=persistent\nSystemMaxUse=16M\nSystemMaxFileSize=4M");
    let mut journal = real(LogStart::End, None);
    let position = next(&mut *journal, Duration::from_secs(20)).unwrap().position;
    drop(journal);
    write(100_000, 130_000, &"x".repeat(2000));
    // What waits in the socket may still push out what is the oldest now.
    wait_for(129_999);
    let oldest = in_journal();
    assert!(oldest.len() < 30_000, "nothing was vacuumed");
    let mut journal = real(LogStart::End, Some(&position));
    let mut all = Vec::new();
    read_ids(&mut *journal, oldest.len(), &mut all);
    assert!(all[0].text.contains("no longer has the line"), "{:?}", all[0]);
    let found = ids_of(&all);
    assert_eq!((found.len(), all.len() - 1), (oldest.len(), oldest.len()));
    println!("{} of 30000 were still there", found.len());
    journald.stop();
}
