//! A database that has reached `database.size`.

use std::collections::{BTreeSet, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use ioto::config::{self, SizePolicy};
use ioto::db::changelog::{Outcome, Pending, Settlement};
use ioto::db::inbound::{Batch, Incoming};
use ioto::db::{Db, Error, Operation, Query, Schema};
use serde_json::json;
use smol::{LocalExecutor, block_on};

use super::{Scratch, item, seed};

const SIZE: u64 = 4 << 20;
const SCHEMA: &str = "{
    process: {
        Log: {sync: 'up', mode: 'journal', caps: {policy: 'drop_oldest'}}, Local: {caps: {policy: 'drop_oldest'}},
        Order: {sync: 'down', caps: {policy: 'drop_oldest'}},
    },
    models: {
        Log: {id: {type: 'string'}, text: {type: 'string'}},
        Local: {id: {type: 'string'}, text: {type: 'string'}},
        Kept: {id: {type: 'string'}, text: {type: 'string'}},
        Order: {id: {type: 'string'}, text: {type: 'string'}},
    }
}";

fn open(path: PathBuf, size: u64, policy: SizePolicy) -> Db {
    let options = config::Database { path, size, policy, ..Default::default() };
    Db::open(&options, Schema::parse(SCHEMA, "schema").unwrap()).unwrap()
}

fn row(id: &str, size: usize) -> ioto::db::Item {
    item(json!({"id": id, "text": "x".repeat(size)}))
}

/// Creates rows until there is no room; how many there are, and the refusal.
fn fill(db: &Db, model: &str, size: usize) -> (usize, Error) {
    for n in 0..100_000 {
        if let Err(error) = block_on(db.create(model, row(&format!("{n:06}"), size))) {
            assert!(matches!(error, Error::NoRoom { bytes: SIZE, is_held: false }), "{error:?}");
            return (n, error);
        }
        assert!(db.file_size() <= SIZE, "{} bytes after {n} rows", db.file_size());
    }
    panic!("it is never full");
}

/// All that waits: a page of it ends at 1 MB.
fn pending(db: &Db) -> Vec<Pending> {
    let (mut all, mut known) = (Vec::new(), HashSet::new());
    loop {
        let page = block_on(db.pending(10_000, &known)).unwrap();
        if page.is_empty() {
            return all;
        }
        known.extend(page.iter().map(|change| (change.model.clone(), change.key.clone())));
        all.extend(page);
    }
}

fn applied(change: &Pending) -> Settlement {
    let (model, key, n) = (change.model.clone(), change.key.clone(), change.n);
    Settlement { model, key, n, base: 1, outcome: Outcome::Applied, conflict: None, known: None }
}

#[test]
fn a_full_database_refuses_what_grows_it_forgets_and_accepts_again() {
    let scratch = Scratch::new();
    let db = open(scratch.file(), SIZE, SizePolicy::Block);
    let (count, error) = fill(&db, "Kept", 5000);
    assert!((150..450).contains(&count), "{count} rows");
    let text = error.to_string();
    assert!(text.contains("database.size allows (4MB)") && text.contains("remove items"), "{text}");
    assert_eq!((error.code(), db.health().is_full), ("full", true));
    let statistics = block_on(db.statistics()).unwrap();
    assert_eq!((statistics.limit, statistics.to_json()["limit"].as_u64()), (Some(SIZE), Some(SIZE)));
    // What does not grow it goes on.
    block_on(db.update("Kept", "000003", item(json!({"text": "y".repeat(5000)})))).unwrap();
    let create = |id: &str| Operation::Create { model: "Kept".into(), item: row(id, 20_000) };
    let step = block_on(db.transact(vec![create("a"), create("b")])).unwrap_err();
    assert!(matches!(&step, Error::Step { error, .. } if error.code() == "full"), "{step:?}");
    let results =
        block_on(db.batch(vec![
            create("a"),
            Operation::Remove { model: "Kept".into(), key: "000000".into(), condition: None },
        ]));
    let results = results.unwrap();
    assert!(results[0].is_err() && results[1].is_ok(), "{results:?}");
    for n in 1..20 {
        assert!(block_on(db.remove("Kept", &format!("{n:06}"))).unwrap());
    }
    block_on(db.create("Kept", row("again", 20_000))).unwrap();
    assert!(!db.health().is_full);
    assert_eq!(block_on(db.count("Kept")).unwrap() as usize, count - 19);
    assert!(db.file_size() <= SIZE && block_on(db.verify()).unwrap().findings.is_empty());
}

#[test]
fn what_the_cloud_has_not_confirmed_never_makes_room_and_what_it_has_does() {
    let scratch = Scratch::new();
    let db = open(scratch.file(), SIZE, SizePolicy::DropOldest);
    block_on(db.create("Kept", row("mine", 100))).unwrap();
    let (count, _) = fill(&db, "Log", 5000);
    assert_eq!(
        (block_on(db.count("Log")).unwrap() as usize, block_on(db.backlog()).unwrap().rows as usize),
        (count, count)
    );
    // The oldest hundred are confirmed: these go, from the lowest on, and no other.
    while let Some(change) = pending(&db).into_iter().find(|change| change.key.as_str() < "000100") {
        block_on(db.settle(vec![applied(&change)])).unwrap();
    }
    let mut added = 0;
    while block_on(db.create("Log", row(&format!("1{added:05}"), 5000))).is_ok() {
        added += 1;
        assert!(added < 1000 && db.file_size() <= SIZE);
    }
    assert!((60..140).contains(&added), "{added} were added");
    let page = block_on(db.find("Log", Query::new().limit(1000))).unwrap();
    let there: BTreeSet<String> = page.items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
    for n in 100..count {
        assert!(there.contains(&format!("{n:06}")), "{n} was not confirmed, and is gone");
    }
    assert_eq!(block_on(db.backlog()).unwrap().rows as usize, count - 100 + added);
    assert!(block_on(db.get("Kept", "mine")).unwrap().is_some());
}

#[test]
fn where_rows_may_go_the_largest_model_loses_its_oldest_and_what_was_just_written_stays() {
    let scratch = Scratch::new();
    let db = open(scratch.file(), SIZE, SizePolicy::DropOldest);
    block_on(db.create("Log", row("a", 100))).unwrap();
    for n in (0..1000).rev() {
        // Each is the lowest key there is, and would be the first to go.
        let id = format!("{n:06}");
        block_on(db.create("Local", row(&id, 5000))).unwrap();
        assert!(block_on(db.get("Local", &id)).unwrap().is_some());
    }
    for n in 0..1000 {
        block_on(db.create("Local", row(&format!("1{n:05}"), 5000))).unwrap();
    }
    let count = block_on(db.count("Local")).unwrap();
    assert!((150..450).contains(&count), "{count} rows");
    assert!(block_on(db.get("Local", "100999")).unwrap().is_some() && block_on(db.get("Log", "a")).unwrap().is_some());
    assert!(db.file_size() <= SIZE);
}

#[test]
fn a_file_that_is_larger_than_a_new_bound_is_used_shrinks_as_it_empties_and_is_compacted() {
    let scratch = Scratch::new();
    let db = open(scratch.file(), config::UNLIMITED, SizePolicy::Block);
    for n in 0..2000 {
        block_on(db.create("Kept", row(&format!("{n:06}"), 5000))).unwrap();
    }
    assert_eq!(db.limit(), None);
    block_on(db.close());
    let db = open(scratch.file(), SIZE, SizePolicy::Block);
    assert_eq!(block_on(db.count("Kept")).unwrap(), 2000);
    let refused = block_on(db.create("Kept", row("more", 50_000))).unwrap_err();
    assert_eq!(refused.code(), "full");
    block_on(db.update("Kept", "000003", item(json!({"text": "y".repeat(5000)})))).unwrap();
    for n in 100..2000 {
        block_on(db.remove("Kept", &format!("{n:06}"))).unwrap();
    }
    block_on(db.create("Kept", row("more", 50_000))).unwrap();
    assert!(db.file_size() > SIZE);
    block_on(db.shrink()).unwrap();
    assert!(db.file_size() <= SIZE, "{}", db.file_size());
    assert_eq!(block_on(db.count("Kept")).unwrap(), 101);
    fill(&db, "Local", 5000);
}

#[test]
fn what_comes_from_the_cloud_waits_for_room_but_not_what_it_removes() {
    let scratch = Scratch::new();
    let db = open(scratch.file(), SIZE, SizePolicy::Block);
    let incoming = |key: &str, version: u64, size: Option<usize>| Incoming {
        model: "Order".into(),
        key: key.into(),
        version: Some(version),
        item: size.map(|size| row(key, size)),
    };
    let batch = |items: Vec<Incoming>, mark: &str| Batch { items, watermark: Some(mark.into()), ..Batch::default() };
    block_on(db.apply(batch(vec![incoming("old", 1, Some(1000))], "1"))).unwrap();
    fill(&db, "Kept", 5000);
    let items: Vec<_> = (0..50).map(|n| incoming(&format!("{n}"), 1, Some(5000))).collect();
    let next = batch(items.into_iter().chain([incoming("old", 2, None)]).collect(), "2");
    for _ in 0..3 {
        assert_eq!(block_on(db.apply(next.clone())).unwrap_err().code(), "full");
        assert_eq!(block_on(db.progress()).unwrap().watermark.as_deref(), Some("1"));
        assert_eq!(block_on(db.count("Order")).unwrap(), 0, "the removal was applied, and nothing else");
    }
    for n in 0..100 {
        block_on(db.remove("Kept", &format!("{n:06}"))).unwrap();
    }
    assert_eq!(block_on(db.apply(next)).unwrap(), 50);
    assert_eq!(block_on(db.progress()).unwrap().watermark.as_deref(), Some("2"));
    assert_eq!(block_on(db.count("Order")).unwrap(), 50);
}

#[test]
fn many_writers_do_not_make_the_log_longer_than_the_bound_allows() {
    let scratch = Scratch::new();
    let db = open(scratch.file(), SIZE, SizePolicy::Block);
    for n in 0..6 {
        block_on(db.create("Kept", row(&n.to_string(), 200_000))).unwrap();
    }
    let (executor, mut most) = (LocalExecutor::new(), 0);
    for round in 0..10_u8 {
        let text = char::from(b'a' + round).to_string().repeat(200_000);
        let change = |n: u64| (n.to_string(), item(json!({"text": format!("{text}{n}")})));
        let writes: Vec<_> = (0..60)
            .map(|n| {
                let (db, (_, change)) = (&db, change(n));
                executor.spawn(async move { db.update("Kept", &(n % 6).to_string(), change).await })
            })
            .collect();
        for write in writes {
            block_on(executor.run(write)).unwrap();
            most = most.max(db.file_size());
        }
    }
    assert!(most <= SIZE + 512 * 1024, "{most} bytes");
}

/// Not a test of its own: the process that is killed. Says `c KEY` when a row is safe, `s KEY` before it is settled.
#[test]
fn child() {
    let Ok(path) = std::env::var("IOTO_TEST_FULL_DB") else { return };
    let db = open(path.into(), SIZE, SizePolicy::DropOldest);
    let mut rng = fastrand::Rng::new();
    let say = |line: String| std::io::stderr().write_all(line.as_bytes()).unwrap();
    for _ in 0..u32::MAX {
        let key = format!("{:016x}", fastrand::u64(..));
        match block_on(db.create("Log", row(&key, rng.usize(1000..50_000)))) {
            Ok(_) => say(format!("c {key}\n")),
            Err(error) => assert_eq!(error.code(), "full", "{error}"),
        }
        if rng.u8(..4) == 0 {
            let changes = block_on(db.pending(rng.usize(1..8), &HashSet::new())).unwrap();
            say(changes.iter().map(|change| format!("s {}\n", change.key)).collect());
            block_on(db.settle(changes.iter().map(applied).collect())).unwrap();
        }
    }
}

#[test]
fn a_full_database_that_is_killed_keeps_all_that_was_not_confirmed_and_its_bound() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let scratch = Scratch::new();
    let (mut created, mut settled, mut total) = (BTreeSet::new(), BTreeSet::new(), 0);
    for kill in 0..20 {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["full::child", "--exact", "--nocapture", "--test-threads=1"])
            .env("IOTO_TEST_FULL_DB", scratch.file())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap());
        let (sender, said) = mpsc::channel();
        let reader =
            std::thread::spawn(move || lines.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let enough = rng.usize(10..80);
        let mut all: Vec<String> = said.iter().take(enough).collect();
        std::thread::sleep(Duration::from_micros(rng.u64(..20_000)));
        process.kill().unwrap();
        process.wait().unwrap();
        all.extend(said);
        reader.join().unwrap().unwrap();
        for line in all {
            match line.split_once(' ') {
                Some(("c", key)) if key.len() == 16 => drop(created.insert(key.to_owned())),
                Some(("s", key)) => drop(settled.insert(key.to_owned())),
                _ => panic!("the child failed: {line}"),
            }
            total += 1;
        }
        let db = open(scratch.file(), SIZE, SizePolicy::DropOldest);
        assert!(db.file_size() <= SIZE, "kill {kill}: {} bytes", db.file_size());
        assert!(block_on(db.verify()).unwrap().findings.is_empty(), "kill {kill}");
        let waiting: BTreeSet<String> = pending(&db).into_iter().map(|change| change.key).collect();
        for key in created.difference(&settled) {
            assert!(block_on(db.get("Log", key)).unwrap().is_some(), "kill {kill}: {key} is gone");
            assert!(waiting.contains(key), "kill {kill}: {key} is not on its way any more");
        }
        block_on(db.close());
    }
    println!("{total} lines");
    assert!(created.len() > 100, "{} rows were written", created.len());
}
