//! Watching again from where one stopped, and the bounds of watching.

use ioto::config;
use ioto::db::{Db, Filter, Heard, Schema, Watch};
use serde_json::json;
use smol::block_on;
use smol::future::FutureExt;

use super::{SCHEMA, Scratch, item, seed};

fn create(db: &Db, key: &str, n: usize) {
    block_on(db.create("Twin", item(json!({"id": key, "n": n})))).unwrap();
}

/// What is there to be heard: keys, and `!` where some are lost.
fn heard(watch: &Watch) -> Vec<String> {
    let next = || block_on(async { watch.next().await.map(Some) }.or(async { Some(None) }));
    let name = |heard| match heard {
        Heard::Change(change) => change.key.clone(),
        Heard::Lost => "!".into(),
    };
    std::iter::from_fn(|| next().flatten().map(name)).collect()
}

fn again(db: &Db, at: &str) -> Watch {
    db.watch_since(Some("Twin"), None, Some(at)).unwrap()
}

#[test]
fn who_comes_again_hears_what_was_missed_and_nothing_twice() {
    let scratch = Scratch::new();
    let db = scratch.open();
    let watch = db.watch(Some("Twin"), None).unwrap();
    create(&db, "a", 1);
    create(&db, "b", 2);
    assert!(matches!(block_on(watch.next()), Some(Heard::Change(change)) if change.key == "a"));
    let at = watch.position();
    drop(watch);
    create(&db, "c", 3);
    block_on(db.create("Plain", item(json!({"id": "other"})))).unwrap();
    let watch = again(&db, &at);
    create(&db, "d", 4);
    let begun = watch.position();
    assert_eq!(heard(&watch), ["b", "c", "d"]);
    assert_eq!(heard(&again(&db, &begun)), ["b", "c", "d"], "nothing of it was heard at that time");
    assert_eq!(heard(&again(&db, &watch.position())), Vec::<String>::new());
    let filter = Filter::at_least("n", 3);
    let some = db.watch_since(Some("Twin"), Some(filter), Some(&at)).unwrap();
    assert_eq!(heard(&some), ["c", "d"]);
}

#[test]
fn where_not_all_is_known_any_more_that_is_said_first() {
    let scratch = Scratch::new();
    let db = scratch.open();
    let nobody = db.watch(Some("Plain"), None).unwrap().position();
    // Nobody watched that model until now.
    create(&db, "a", 1);
    assert_eq!(heard(&again(&db, &nobody)), ["!"]);
    let watch = db.watch(Some("Twin"), None).unwrap();
    let at = watch.position();
    for n in 0..256 {
        create(&db, &format!("k{n}"), n);
    }
    assert_eq!(heard(&again(&db, &at)).len(), 256);
    create(&db, "one more", 1);
    let late = again(&db, &at);
    let place = late.position();
    assert_eq!(heard(&late), ["!"]);
    assert_eq!(heard(&again(&db, &late.position())), Vec::<String>::new());
    create(&db, "z", 1);
    assert_eq!((heard(&late), heard(&again(&db, &place))), (vec!["z".to_owned()], vec!["z".to_owned()]));
    for wrong in ["", "0", "x-1", "ffffffffffff-1", "00000000-1", &format!("{at}99999")] {
        assert_eq!(heard(&again(&db, wrong)), ["!"], "{wrong}");
    }
    drop((watch, late));
    block_on(db.close());
    drop(db);
    let db = scratch.open();
    assert_eq!(heard(&again(&db, &place)), ["!"], "the numbers of another time");
}

#[test]
fn a_slow_watcher_holds_no_more_than_a_megabyte_and_loses_nothing_unsaid() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let scratch = Scratch::new();
    let db = scratch.open();
    let (mut watch, mut known, mut position) = (db.watch(Some("Plain"), None).unwrap(), 0, String::new());
    let mut losses = 0;
    for n in 1..=600 {
        let name = "x".repeat(rng.usize(1..60_000));
        block_on(db.upsert("Plain", item(json!({"id": "k", "n": n, "name": name})))).unwrap();
        if rng.u8(..30) == 0 {
            // It comes again from any place where it was.
            if rng.bool() && !position.is_empty() {
                watch = db.watch_since(Some("Plain"), None, Some(&position)).unwrap();
            }
            let (mut at, mut waiting) = (known, 0);
            while let Some(Some(heard)) = block_on(async { watch.next().await.map(Some) }.or(async { Some(None) })) {
                match heard {
                    Heard::Change(change) => {
                        let n = change.after.as_ref().unwrap()["n"].as_u64().unwrap();
                        assert!(n <= at + 1, "{n} after {at}: the ones between are gone, and nobody said so");
                        waiting += change.after.as_ref().unwrap()["name"].as_str().unwrap().len();
                        at = at.max(n);
                    }
                    Heard::Lost => {
                        // It finds anew.
                        at = block_on(db.get("Plain", "k")).unwrap().unwrap()["n"].as_u64().unwrap();
                        losses += 1;
                    }
                }
            }
            assert!(waiting < 2 << 20, "{waiting} bytes waited");
            assert_eq!(at, n);
            (known, position) = (at, watch.position());
        }
    }
    assert!(losses > 0);
}

#[test]
fn so_many_watch_and_no_more() {
    let scratch = Scratch::new();
    let options = config::Database { path: scratch.file(), watchers: 3, ..Default::default() };
    let db = Db::open(&options, Schema::parse(SCHEMA, "schema").unwrap()).unwrap();
    let mut watches: Vec<_> = (0..3).map(|_| db.watch(None, None).unwrap()).collect();
    let error = db.watch(None, None).err().unwrap();
    assert_eq!((error.code(), error.to_string().contains("database.watchers")), ("watched", true));
    watches.pop();
    drop(db.watch(None, None).unwrap());
}
