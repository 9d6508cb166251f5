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
    let expected = ["device.db", "device.db.corrupt-1", "device.db.corrupt-2", "device.db.corrupt-3", "device.db.lock"];
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
