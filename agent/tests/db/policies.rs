//! What becomes of a row that device and cloud both changed, by the policy of its model.

use std::collections::HashSet;
use std::path::Path;

use ioto::config;
use ioto::db::changelog::{Conflict, Outcome, Pending, Settlement};
use ioto::db::inbound::{Batch, Incoming};
use ioto::db::{Db, Item, Schema};
use serde_json::{Value, json};
use smol::block_on;

use super::{Scratch, item};

fn open(scratch: &Scratch, policy: &str) -> Db {
    let schema = json!({
        "version": "1",
        "process": {"M": {"sync": "both", "conflict": policy}},
        "models": {"M": {
            "id": {"type": "string"}, "a": {"type": "number"}, "b": {"type": "number"},
            "secret": {"type": "string", "encrypt": true},
        }},
    });
    let (path, key) = (scratch.file(), scratch.0.join("database.key"));
    let options = config::Database { path, key, ..Default::default() };
    Db::open(&options, Schema::parse(&schema.to_string(), "schema").unwrap()).unwrap()
}

fn pending(db: &Db) -> Vec<Pending> {
    block_on(db.pending(100, &HashSet::new())).unwrap()
}

fn settle(db: &Db, sent: &Pending, base: u64, outcome: Outcome, known: Option<Item>) {
    let theirs = match &outcome {
        Outcome::Merge { theirs: item, .. } | Outcome::Both(item) => Some(item.clone()),
        Outcome::Theirs(item) => item.clone(),
        Outcome::Applied | Outcome::Rebase => None,
    };
    let conflict = (!matches!(outcome, Outcome::Applied)).then(|| Conflict { mine: sent.item.clone(), theirs });
    let (model, key, n) = (sent.model.clone(), sent.key.clone(), sent.n);
    block_on(db.settle(vec![Settlement { model, key, n, base, outcome, conflict, known }])).unwrap();
}

/// The cloud's item becomes the row.
fn pull(db: &Db, version: u64, value: Value) {
    let incoming = Incoming { model: "M".into(), key: "x".into(), version: Some(version), item: Some(item(value)) };
    block_on(db.apply(Batch { items: vec![incoming], ..Batch::default() })).unwrap();
}

fn update(db: &Db, value: Value) {
    block_on(db.upsert("M", item(value))).unwrap();
}

fn merge(theirs: Item) -> Outcome {
    Outcome::Merge { theirs, counter: 0 }
}

fn row(db: &Db, key: &str) -> Option<Value> {
    block_on(db.get("M", key)).unwrap().map(Value::Object)
}

fn resolutions(db: &Db) -> Vec<String> {
    block_on(db.conflicts(10)).unwrap().into_iter().map(|conflict| conflict.resolution).collect()
}

#[test]
fn a_merge_has_the_changes_of_both_sides_the_newest_of_the_device_too() {
    let scratch = Scratch::new();
    let db = open(&scratch, "merge");
    pull(&db, 4, json!({"id": "x", "a": 1, "b": 1, "secret": "s"}));
    update(&db, json!({"id": "x", "a": 2}));
    let sent = pending(&db).remove(0);
    update(&db, json!({"id": "x", "secret": "t"}));
    settle(&db, &sent, 5, merge(item(json!({"id": "x", "a": 1, "b": 7, "secret": "s", "new": true}))), None);
    assert_eq!(row(&db, "x"), Some(json!({"id": "x", "a": 2, "b": 7, "secret": "t", "new": true})));
    assert_eq!(resolutions(&db), Vec::<String>::new(), "nothing was lost");
    let next = pending(&db).remove(0);
    assert_eq!((next.base, next.n > sent.n), (5, true));
    // The next merge begins with what the cloud had then, after a restart too.
    drop(db);
    let db = open(&scratch, "merge");
    settle(&db, &next, 6, merge(item(json!({"id": "x", "a": 9, "b": 7, "secret": "s"}))), None);
    assert_eq!(row(&db, "x"), Some(json!({"id": "x", "a": 9, "b": 7, "secret": "t"})));
    assert_eq!(resolutions(&db), ["merge"], "both changed a");
    settle(&db, &pending(&db)[0], 7, Outcome::Applied, row(&db, "x").and_then(|row| row.as_object().cloned()));
    assert_eq!(pending(&db), []);
}

#[test]
fn a_merge_that_ends_as_theirs_leaves_nothing_to_send_and_one_of_a_removed_row_is_theirs() {
    let scratch = Scratch::new();
    let db = open(&scratch, "merge");
    pull(&db, 4, json!({"id": "x", "a": 1}));
    update(&db, json!({"id": "x", "a": 2}));
    let theirs = item(json!({"id": "x", "a": 2.0, "b": 1}));
    settle(&db, &pending(&db)[0], 5, merge(theirs), None);
    assert_eq!((pending(&db), row(&db, "x")), (vec![], Some(json!({"id": "x", "a": 2.0, "b": 1}))));
    update(&db, json!({"id": "x", "a": 3}));
    let sent = pending(&db).remove(0);
    block_on(db.remove("M", "x")).unwrap();
    settle(&db, &sent, 6, merge(item(json!({"id": "x", "b": 2}))), None);
    assert_eq!((pending(&db), row(&db, "x")), (vec![], Some(json!({"id": "x", "b": 2}))));
    assert_eq!(resolutions(&db), ["merge"]);
}

#[test]
fn what_the_cloud_took_of_the_device_is_where_the_next_merge_begins() {
    let scratch = Scratch::new();
    let db = open(&scratch, "merge");
    update(&db, json!({"id": "x", "a": 1}));
    let sent = pending(&db).remove(0);
    update(&db, json!({"id": "x", "a": 2}));
    settle(&db, &sent, 1, Outcome::Applied, sent.item.clone());
    settle(&db, &pending(&db)[0], 2, merge(item(json!({"id": "x", "a": 1, "b": 5}))), None);
    assert_eq!(row(&db, "x"), Some(json!({"id": "x", "a": 2, "b": 5})), "a: 1 was the device's own");
    assert_eq!(resolutions(&db), Vec::<String>::new());
}

#[test]
fn a_change_that_came_to_the_cloud_unheard_does_not_undo_a_later_one() {
    for is_known in [true, false] {
        let scratch = Scratch::new();
        let db = open(&scratch, "merge");
        update(&db, json!({"id": "x", "a": 1, "b": 1}));
        let sent = pending(&db).remove(0);
        update(&db, json!({"id": "x", "a": 2}));
        let theirs = item(json!({"id": "x", "a": 1, "b": 9}));
        let known = sent.item.clone().filter(|_| is_known);
        settle(&db, &pending(&db)[0], 2, Outcome::Merge { theirs, counter: sent.n }, known);
        let b = if is_known { 9 } else { 1 };
        assert_eq!(row(&db, "x"), Some(json!({"id": "x", "a": 2, "b": b})));
        assert_eq!(resolutions(&db).len(), usize::from(!is_known), "what cannot be told is in the log");
    }
}

#[test]
fn both_are_kept_the_devices_under_a_key_of_its_own() {
    let scratch = Scratch::new();
    let db = open(&scratch, "both");
    pull(&db, 4, json!({"id": "x", "a": 1}));
    update(&db, json!({"id": "x", "a": 2, "secret": "mine"}));
    let sent = pending(&db).remove(0);
    update(&db, json!({"id": "x", "a": 3}));
    settle(&db, &sent, 5, Outcome::Both(item(json!({"id": "x", "a": 9}))), None);
    assert_eq!(row(&db, "x"), Some(json!({"id": "x", "a": 9})));
    let beside = pending(&db).remove(0);
    assert!(beside.key.starts_with("x~") && beside.base == 0, "{beside:?}");
    let expected = json!({"id": beside.key, "a": 3, "secret": "mine"});
    assert_eq!((row(&db, &beside.key), beside.item.map(Value::Object)), (Some(expected.clone()), Some(expected)));
    assert_eq!((pending(&db).len(), resolutions(&db)), (1, vec!["both".to_owned()]));
    settle(&db, &sent, 5, Outcome::Both(item(json!({"id": "x", "a": 9}))), None);
    assert_eq!((pending(&db).len(), resolutions(&db).len()), (1, 1), "an answer that comes again");
}

#[test]
fn a_change_is_later_than_all_that_was_read_whatever_the_clock_says() {
    let scratch = Scratch::new();
    let db = open(&scratch, "lww");
    update(&db, json!({"id": "x", "a": 1}));
    let now = pending(&db)[0].changed;
    assert!((now - ioto::net::utc_ms()).abs() < 60_000, "{now}");
    let watermark = Some("2099-01-01T00:00:00.000Z".to_owned());
    block_on(db.apply(Batch { watermark, ..Batch::default() })).unwrap();
    update(&db, json!({"id": "x", "a": 2}));
    assert!(pending(&db)[0].changed > ioto::net::parse_iso8601("2099-01-01T00:00:00.000Z").unwrap());
}

#[test]
fn a_new_key_seals_what_a_merge_begins_with() {
    let scratch = Scratch::new();
    let db = open(&scratch, "merge");
    pull(&db, 4, json!({"id": "x", "a": 1, "secret": "s"}));
    update(&db, json!({"id": "x", "a": 2}));
    assert!(!holds(&scratch.file(), b"\"secret\":\"s\""), "the basis is plain");
    block_on(db.rekey()).unwrap();
    drop(db);
    let db = open(&scratch, "merge");
    settle(&db, &pending(&db)[0], 5, merge(item(json!({"id": "x", "a": 1, "secret": "other"}))), None);
    assert_eq!(row(&db, "x"), Some(json!({"id": "x", "a": 2, "secret": "other"})));
}

fn holds(file: &Path, bytes: &[u8]) -> bool {
    let log = file.with_file_name(format!("{}-wal", file.file_name().unwrap().to_string_lossy()));
    let all = [file.to_path_buf(), log].map(|file| std::fs::read(file).unwrap_or_default()).concat();
    all.windows(bytes.len()).any(|window| window == bytes)
}
