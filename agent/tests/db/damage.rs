//! Damaged files, files of other programs, and disks without room.

use std::fs;
use std::process::Command;

use ioto::config;
use ioto::db::{Db, Error, Query, Schema};
use serde_json::json;
use smol::block_on;

use super::{Scratch, item, open, seed};

const RUNS: usize = 150;

fn fill(db: &Db, count: usize) {
    let executor = smol::LocalExecutor::new();
    let tasks: Vec<_> = (0..count)
        .map(|n| {
            let db = db.clone();
            let reading = item(json!({"id": format!("{n:04}"), "name": format!("name {n}"), "value": n}));
            executor.spawn(async move { db.create("Reading", reading).await })
        })
        .collect();
    for task in tasks {
        block_on(executor.run(task)).unwrap();
    }
}

/// Uses every part of the database; a damaged one may refuse, but not more than that.
fn exercise(db: &Db, id: &str) -> Result<(), Error> {
    block_on(async {
        db.create("Reading", item(json!({"id": id, "name": "new"}))).await?;
        db.find("Reading", Query::new().limit(1000)).await?;
        db.find("Reading", Query::new().filter("name", "new")).await?;
        db.find("Reading", Query::new().filter("value", 3)).await?;
        db.update("Reading", id, item(json!({"value": 7}))).await?;
        db.count("Reading").await?;
        db.pending(1000, &Default::default()).await?;
        db.backlog().await?;
        db.remove("Reading", id).await?;
        db.sweep(0).await.map(drop)
    })
}

#[test]
fn a_file_with_flipped_bytes_never_panics_and_is_usable_in_the_end() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let origin = Scratch::new();
    let db = origin.open();
    fill(&db, 300);
    block_on(db.close());
    drop(db);
    let sound = fs::read(origin.file()).unwrap();
    let mut set_aside = 0;
    for run in 0..RUNS {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.file().parent().unwrap()).unwrap();
        let mut bytes = sound.clone();
        match rng.u8(..8) {
            0 => bytes.truncate(rng.usize(..bytes.len())),
            1 => (0..100).for_each(|at| bytes[at] = rng.u8(..)),
            2 => bytes[rng.usize(..100)] ^= 1 << rng.u8(..8),
            _ => (0..rng.usize(1..20)).for_each(|_| bytes[rng.usize(..sound.len())] = rng.u8(..)),
        }
        fs::write(scratch.file(), bytes).unwrap();
        // What is found in use is mended by the next start.
        let usable = (0..3).any(|attempt| {
            let db = open(&scratch.file()).unwrap_or_else(|error| panic!("run {run}: {error}"));
            let result = exercise(&db, &format!("new {attempt}"));
            block_on(db.close());
            result.inspect_err(|error| println!("run {run}, attempt {attempt}: {error}")).is_ok()
        });
        assert!(usable, "run {run}");
        set_aside += usize::from(scratch.file().with_extension("db.corrupt-1").exists());
    }
    println!("{set_aside} of {RUNS} set aside");
    assert!(set_aside > RUNS / 10 && set_aside < RUNS);
}

/// The version of the format for writing (byte 18) makes a file that looks sound and cannot be written.
#[test]
fn no_damage_to_the_header_costs_a_row_or_lasts() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let origin = Scratch::new();
    let db = origin.open();
    fill(&db, 20);
    block_on(db.close());
    drop(db);
    let sound = fs::read(origin.file()).unwrap();
    let roots = |scratch: &Scratch| scratch.file().with_extension("db.roots");
    for at in 0..100 {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.file().parent().unwrap()).unwrap();
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << rng.u8(..8);
        fs::write(scratch.file(), &bytes).unwrap();
        fs::copy(roots(&origin), roots(&scratch)).unwrap();
        let db = match open(&scratch.file()) {
            // Where the version of the program's own format is.
            Err(Error::Version { .. }) if (60..64).contains(&at) => continue,
            result => result.unwrap_or_else(|error| panic!("byte {at}, {:#x}: {error}", bytes[at])),
        };
        block_on(async {
            exercise(&db, "new").unwrap_or_else(|error| panic!("byte {at}, {:#x}: {error}", bytes[at]));
            assert_eq!(db.count("Reading").await.unwrap(), 20, "byte {at}, {:#x}", bytes[at]);
            db.close().await;
        });
    }
}

#[test]
fn a_damaged_log_is_survived() {
    let mut rng = fastrand::Rng::with_seed(seed());
    for run in 0..20 {
        let scratch = Scratch::new();
        let db = scratch.open();
        fill(&db, 50);
        let copy = Scratch::new();
        fs::create_dir_all(copy.file().parent().unwrap()).unwrap();
        for suffix in ["db", "db-wal"] {
            fs::copy(scratch.file().with_extension(suffix), copy.file().with_extension(suffix)).unwrap();
        }
        let log = copy.file().with_extension("db-wal");
        let mut bytes = fs::read(&log).unwrap();
        (0..5).for_each(|_| *rng.choice(&mut bytes).unwrap() ^= 0x10);
        fs::write(&log, bytes).unwrap();
        let db = open(&copy.file()).unwrap();
        exercise(&db, "new").unwrap_or_else(|error| panic!("run {run}: {error}"));
    }
}

#[test]
fn at_most_three_damaged_files_are_kept() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.file().parent().unwrap()).unwrap();
    for _ in 0..5 {
        fs::write(scratch.file(), "this is no database").unwrap();
        block_on(scratch.open().close());
    }
    let names = fs::read_dir(scratch.file().parent().unwrap()).unwrap().map(|file| file.unwrap().file_name());
    let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
    names.sort();
    let corrupt = ["device.db.corrupt-1", "device.db.corrupt-2", "device.db.corrupt-3"];
    let expected = [&["device.db"][..], &corrupt, &["device.db.lock", "device.db.roots"]].concat();
    assert_eq!(names, expected);
}

#[test]
fn a_file_of_a_newer_program_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    block_on(scratch.open().close());
    let mut bytes = fs::read(scratch.file()).unwrap();
    bytes[60..64].copy_from_slice(&[2; 4]);
    fs::write(scratch.file(), &bytes).unwrap();
    assert!(matches!(open(&scratch.file()), Err(Error::Version { found: 2, known: 1, .. })));
    assert_eq!(fs::read(scratch.file()).unwrap(), bytes);
}

#[test]
fn a_full_disk_refuses_writes_with_a_clear_error_and_takes_them_again_when_there_is_room() {
    let scratch = Scratch::new();
    let directory = scratch.file().parent().unwrap().to_owned();
    fs::create_dir_all(&directory).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "ioto-test"]).arg(&directory).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("skipped: only root can mount the small file system of this test");
        return;
    }
    let ballast = directory.join("ballast");
    fs::write(&ballast, vec![0; 1024 * 1024]).unwrap();
    let result = std::panic::catch_unwind(|| {
        let db = open(&scratch.file()).unwrap();
        let (mut kept, mut refused) = (Vec::new(), None);
        for n in 0..1000 {
            let id = format!("{n:04}");
            match block_on(db.create("Reading", item(json!({"id": id, "name": "x".repeat(5000)})))) {
                Ok(_) => kept.push(id),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        assert!(matches!(refused, Some(Error::Full(_))), "{refused:?}");
        assert!(kept.len() > 10);
        for id in &kept {
            assert!(block_on(db.get("Reading", id)).unwrap().is_some());
        }
        fs::remove_file(&ballast).unwrap();
        exercise(&db, "new").unwrap();
        assert_eq!(block_on(db.count("Reading")).unwrap(), kept.len() as u64);
        assert_eq!(block_on(db.backlog()).unwrap().rows, kept.len() as u64 + 1);
    });
    assert!(Command::new("umount").arg(&directory).status().unwrap().success());
    result.unwrap();
}

#[test]
fn a_model_that_was_renamed_in_case_only_is_refused_and_nothing_is_set_aside() {
    let scratch = Scratch::new();
    let options = config::Database { path: scratch.file(), ..Default::default() };
    let open = |model: &str| {
        let schema = format!("{{models: {{{model}: {{id: {{type: 'string'}}}}}}}}");
        Db::open(&options, Schema::parse(&schema, "schema").unwrap())
    };
    let db = open("Lamp").unwrap();
    block_on(db.create("Lamp", item(json!({"id": "a"})))).unwrap();
    drop(db);
    let error = open("lamp").unwrap_err().to_string();
    assert!(error.contains("model lamp") && error.contains("Lamp"), "{error}");
    assert!(block_on(open("Lamp").unwrap().get("Lamp", "a")).unwrap().is_some());
}

#[test]
fn rows_of_a_damaged_file_that_can_still_be_read_are_recovered() {
    let scratch = Scratch::new();
    let db = scratch.open();
    fill(&db, 300);
    block_on(db.close());
    drop(db);
    let mut bytes = fs::read(scratch.file()).unwrap();
    // One page of the rows is overwritten: that of an item in the middle.
    let text = b"\"name 150\"";
    let at = bytes.windows(text.len()).position(|part| part == text).unwrap();
    let page = at / 4096 * 4096;
    bytes[page..page + 4096].fill(0x5a);
    fs::write(scratch.file(), bytes).unwrap();
    fs::write(scratch.file().with_extension("db.suspect"), "").unwrap();
    let db = scratch.open();
    let count = block_on(db.count("Reading")).unwrap();
    assert!((100..300).contains(&count), "{count} of 300 rows");
    for id in ["0000", "0299"] {
        assert!(block_on(db.get("Reading", id)).unwrap().is_some(), "{id} of {count}");
    }
    assert_eq!(block_on(db.backlog()).unwrap().rows, count);
    assert!(scratch.file().with_extension("db.corrupt-1").exists());
}

/// The file of a database in use, with bytes of it overwritten behind its back.
mod in_use {
    use std::collections::BTreeMap;
    use std::os::unix::fs::FileExt;
    use std::time::{Duration, Instant};

    use super::*;

    const PAGE: usize = 4096;

    /// The row's number stands in its text, which makes the rows of one page known.
    fn text(n: usize) -> String {
        format!("<{n:05}>{}", "x".repeat(150))
    }

    fn id(n: usize) -> String {
        format!("k{n:05}")
    }

    fn filled(scratch: &Scratch, rows: usize) -> Db {
        let db = scratch.open();
        let executor = smol::LocalExecutor::new();
        let create = |n: usize| {
            let db = db.clone();
            let model = ["Plain", "Reading"][n % 2];
            executor.spawn(async move { db.create(model, item(json!({"id": id(n), "name": text(n)}))).await })
        };
        let tasks: Vec<_> = (0..rows).map(create).collect();
        tasks.into_iter().for_each(|task| drop(block_on(executor.run(task)).unwrap()));
        block_on(db.compact()).unwrap();
        db
    }

    /// The pages of the file, as SQLite's own words call them: `m_Plain`, `i_Reading.name`, and so on; and whether it is a leaf.
    fn pages(scratch: &Scratch) -> BTreeMap<usize, (String, bool)> {
        let connection = rusqlite::Connection::open(scratch.file()).unwrap();
        let roots: Vec<(String, u32)> = (connection.prepare("SELECT name, rootpage FROM sqlite_schema").unwrap())
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let bytes = fs::read(scratch.file()).unwrap();
        let mut pages = BTreeMap::from([(1, ("schema".to_owned(), false))]);
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        for (name, root) in roots {
            let mut todo = vec![root as usize];
            while let Some(page) = todo.pop() {
                let at = (page - 1) * PAGE;
                let is_interior = matches!(bytes[at], 2 | 5);
                pages.insert(page, (name.clone(), !is_interior));
                if is_interior {
                    todo.push(word(at + 8));
                    let cells = usize::from(bytes[at + 3]) << 8 | usize::from(bytes[at + 4]);
                    for cell in 0..cells {
                        let pointer = at + 12 + 2 * cell;
                        todo.push(word(at + (usize::from(bytes[pointer]) << 8 | usize::from(bytes[pointer + 1]))));
                    }
                }
            }
        }
        pages
    }

    /// The numbers of the rows that are on a page.
    fn rows_of(scratch: &Scratch, page: usize) -> Vec<usize> {
        let bytes = fs::read(scratch.file()).unwrap();
        let bytes = &bytes[(page - 1) * PAGE..page * PAGE];
        let found = (0..PAGE - 7).filter(|at| bytes[*at] == b'<' && bytes[at + 6] == b'>');
        found.filter_map(|at| std::str::from_utf8(&bytes[at + 1..at + 6]).ok()?.parse().ok()).collect()
    }

    fn spoil(scratch: &Scratch, page: usize) {
        let file = fs::OpenOptions::new().write(true).open(scratch.file()).unwrap();
        file.write_all_at(&[0x5a; PAGE], ((page - 1) * PAGE) as u64).unwrap();
    }

    /// Reads everything until that succeeds. What fails meanwhile says that it is to be tried again.
    fn settle(db: &Db) {
        let begun = Instant::now();
        loop {
            let read = block_on(async {
                for model in ["Plain", "Reading"] {
                    let mut query = Query::new().limit(1000);
                    while let Some(next) = db.find(model, query.clone()).await?.next {
                        query = query.after(next);
                    }
                    db.find(model, Query::new().filter("name", text(3))).await?;
                }
                db.pending(1, &Default::default()).await?;
                db.update("Reading", &id(1), item(json!({"value": begun.elapsed().as_nanos() as u64}))).await?;
                db.backlog().await.map(drop)
            });
            match read {
                Ok(()) if db.look_over_now() => return,
                Ok(()) => {}
                Err(error) => assert_eq!(error.code(), "damaged", "{error}"),
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it is not recovered: {:?}", db.health());
        }
    }

    trait LookOver {
        fn look_over_now(&self) -> bool;
    }

    impl LookOver for Db {
        fn look_over_now(&self) -> bool {
            block_on(self.look_over()).unwrap_or(false)
        }
    }

    const ROWS: usize = 3000;

    /// Damages a page, and looks that all is there but what was on it.
    fn survives(choose: impl Fn(&str, bool) -> bool) {
        let seed = seed();
        let mut random = fastrand::Rng::with_seed(seed);
        let scratch = Scratch::new();
        let db = filled(&scratch, ROWS);
        let site = db.site();
        let pinned = db.pinned();
        let changes = db.changes();
        while changes.try_recv().is_ok() {}
        let pages: Vec<_> = pages(&scratch).into_iter().filter(|(_, (name, is_leaf))| choose(name, *is_leaf)).collect();
        let (page, (name, is_leaf)) = pages[random.usize(..pages.len())].clone();
        let lost = if name.starts_with("m_") { rows_of(&scratch, page) } else { Vec::new() };
        println!("page {page} of {name}, a leaf: {is_leaf}, {} rows on it", lost.len());
        spoil(&scratch, page);
        settle(&db);
        let health = db.health();
        assert!(health.recoveries > 0 && health.refused.is_none(), "{health:?}");
        println!("{health:?}");
        for n in 0..ROWS {
            let found = block_on(db.get(["Plain", "Reading"][n % 2], &id(n))).unwrap();
            match found {
                Some(found) => assert_eq!(found["name"], text(n)),
                None => assert!(lost.contains(&n), "row {n} is gone, and was not on the damaged page"),
            }
        }
        // It is used on, and what replicates begins anew.
        exercise(&db, "new").unwrap();
        if health.last.is_some_and(|last| last.aside.is_some()) {
            assert_ne!(db.site(), site);
            assert!(block_on(db.progress()).unwrap().whole.is_empty());
            let backlog = block_on(db.backlog()).unwrap().rows;
            assert_eq!(backlog, block_on(db.count("Reading")).unwrap() + 1);
        }
        assert_eq!(block_on(pinned.backlog()).unwrap_err().code(), "replaced");
        assert!(
            block_on(async {
                while changes.recv().await.is_ok() {}
                Ok::<_, ()>(())
            })
            .is_ok()
        );
        block_on(db.close());
        drop((db, pinned));
        let db = scratch.open();
        assert_eq!(db.health().recoveries, 0);
        assert!(block_on(db.verify()).unwrap().findings.is_empty());
    }

    #[test]
    fn a_damaged_leaf_costs_the_rows_that_were_on_it() {
        survives(|name, is_leaf| name == "m_Plain" && is_leaf);
    }

    #[test]
    fn a_damaged_page_above_the_rows_costs_no_others() {
        survives(|name, is_leaf| name == "m_Reading" && !is_leaf);
    }

    #[test]
    fn a_damaged_index_costs_nothing() {
        survives(|name, _| name.starts_with("i_"));
    }

    #[test]
    fn a_damaged_change_log_costs_no_row() {
        survives(|name, _| name == "_sync_out" || name == "_sync_row");
    }

    #[test]
    fn a_damaged_first_page_costs_no_row() {
        survives(|name, _| name == "schema");
    }

    #[test]
    fn rows_that_are_no_json_are_removed_and_not_taken_for_removals_by_anybody() {
        let scratch = Scratch::new();
        let db = filled(&scratch, 100);
        block_on(db.create("Twin", item(json!({"id": "a", "n": 1})))).unwrap();
        let before = block_on(db.backlog()).unwrap().rows;
        let other = rusqlite::Connection::open(scratch.file()).unwrap();
        for (table, key) in [("m_Reading", id(1)), ("m_Twin", "a".to_owned())] {
            other.execute(&format!("UPDATE \"{table}\" SET doc = '[]' WHERE key = ?1"), [key]).unwrap();
        }
        drop(other);
        let error = block_on(db.get("Reading", &id(1))).unwrap_err();
        assert_eq!(error.code(), "damaged", "{error}");
        while block_on(db.backlog()).is_ok_and(|backlog| backlog.rows == before) {}
        assert_eq!(block_on(db.backlog()).unwrap().rows, before - 2);
        let pending = block_on(db.pending(1000, &Default::default())).unwrap();
        assert!(pending.iter().all(|change| change.item.is_some()));
        assert!(block_on(db.get("Reading", &id(1))).unwrap().is_none());
        assert!(block_on(db.get("Reading", &id(3))).unwrap().is_some());
        let health = db.health();
        assert!(health.recoveries == 1 && health.last.unwrap().aside.is_none());
    }

    #[test]
    fn what_is_damaged_again_and_again_is_not_recovered_for_ever_and_can_still_be_read() {
        let scratch = Scratch::new();
        let db = filled(&scratch, 100);
        let spoil = |n: usize| {
            let other = rusqlite::Connection::open(scratch.file()).unwrap();
            other.execute("UPDATE m_Plain SET doc = '[]' WHERE key = ?1", [id(n)]).unwrap();
        };
        for n in 0..3 {
            spoil(2 * n);
            while block_on(db.get("Plain", &id(2 * n))).is_err() {}
            assert_eq!(db.health().recoveries, n as u64 + 1);
        }
        spoil(8);
        assert!(block_on(db.get("Plain", &id(8))).is_err());
        let begun = Instant::now();
        while db.health().refused.is_none() {
            assert!(begun.elapsed() < Duration::from_secs(5));
        }
        assert_eq!(db.health().recoveries, 3);
        let error = block_on(db.create("Plain", item(json!({"id": "new"})))).unwrap_err();
        assert!(error.code() == "damaged" && error.to_string().contains("3 times within an hour"), "{error}");
        assert!(block_on(db.get("Plain", &id(10))).unwrap().is_some());
        block_on(db.close());
        drop(db);
        // A new start has another try.
        let db = scratch.open();
        block_on(db.create("Plain", item(json!({"id": "new"})))).unwrap();
        assert!(block_on(db.get("Plain", &id(10))).unwrap().is_some());
    }

    #[test]
    fn writers_and_readers_go_on_while_pages_are_damaged_under_them_and_nothing_that_lasted_is_lost() {
        let scratch = Scratch::new();
        let db = filled(&scratch, ROWS);
        let page = *pages(&scratch).iter().find(|(_, (name, is_leaf))| name == "m_Plain" && *is_leaf).unwrap().0;
        let lost = rows_of(&scratch, page);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let acknowledged = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let (db, stop) = (db.clone(), &stop);
                    scope.spawn(move || {
                        let mut kept = Vec::new();
                        for n in 0.. {
                            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                                break;
                            }
                            let id = format!("w{writer}-{n:05}");
                            let row = item(json!({"id": id, "name": "written"}));
                            match block_on(db.create(["Plain", "Reading"][n % 2], row)) {
                                Ok(_) => kept.push((["Plain", "Reading"][n % 2], id)),
                                Err(error) => assert_eq!(error.code(), "damaged", "{error}"),
                            }
                        }
                        kept
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(100));
            spoil(&scratch, page);
            settle(&db);
            std::thread::sleep(Duration::from_millis(100));
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(db.health().recoveries > 0);
        for (model, id) in &acknowledged {
            assert!(block_on(db.get(model, id)).unwrap().is_some(), "{model} {id} of {}", acknowledged.len());
        }
        for n in (0..ROWS).filter(|n| !lost.contains(n)) {
            assert!(block_on(db.get(["Plain", "Reading"][n % 2], &id(n))).unwrap().is_some(), "{n}");
        }
        println!("{} rows written meanwhile", acknowledged.len());
    }
}
