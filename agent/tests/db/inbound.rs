//! What is read from the cloud, and which of it becomes a row.

use std::collections::HashSet;

use ioto::db::changelog::{Outcome, Settlement};
use ioto::db::inbound::{Batch, Incoming, Range, UNREADABLE};
use ioto::db::{Db, Item};
use serde_json::json;
use smol::block_on;

use super::{Scratch, item};

fn twin(n: u64) -> Item {
    item(json!({"id": "a", "n": n}))
}

fn incoming(version: Option<u64>, item: Option<Item>) -> Incoming {
    Incoming { model: "Twin".into(), key: "a".into(), version, item }
}

/// From the index, which may be behind.
fn changes(items: Vec<Incoming>) -> Batch {
    Batch { items, ..Batch::default() }
}

/// From the table itself.
fn whole(items: Vec<Incoming>) -> Batch {
    let range = Some(Range { model: "Twin".into(), after: None, to: None });
    Batch { items, range, is_whole: true, ..Batch::default() }
}

fn apply(db: &Db, batch: Batch) -> u64 {
    block_on(db.apply(batch)).unwrap()
}

fn n(db: &Db) -> Option<u64> {
    block_on(db.get("Twin", "a")).unwrap()?["n"].as_u64()
}

/// The device changes the row, and the cloud stores it as `version`.
fn push(db: &Db, value: u64, version: u64) {
    block_on(db.upsert("Twin", twin(value))).unwrap();
    let sent = block_on(db.pending(1, &HashSet::new())).unwrap().remove(0);
    let (model, key) = (sent.model, sent.key);
    let settled =
        Settlement { model, key, n: sent.n, base: version, outcome: Outcome::Applied, conflict: None, known: None };
    block_on(db.settle(vec![settled])).unwrap();
}

#[test]
fn an_index_brings_newer_versions_only() {
    let scratch = Scratch::new();
    let db = scratch.open();
    assert_eq!(apply(&db, changes(vec![incoming(Some(4), Some(twin(4)))])), 1);
    for version in [3, 4, UNREADABLE] {
        assert_eq!(apply(&db, changes(vec![incoming(Some(version), Some(twin(9)))])), 0, "{version}");
    }
    assert_eq!(n(&db), Some(4));
    assert_eq!(apply(&db, changes(vec![incoming(Some(5), None)])), 1);
    assert_eq!(n(&db), None);
}

#[test]
fn a_whole_read_brings_what_is_there_under_whatever_version() {
    let scratch = Scratch::new();
    let db = scratch.open();
    apply(&db, changes(vec![incoming(Some(4), Some(twin(4)))]));
    assert_eq!(apply(&db, whole(vec![incoming(Some(4), Some(twin(4)))])), 0, "it is the row already");
    assert_eq!(apply(&db, whole(vec![incoming(Some(4), Some(twin(5)))])), 1, "a version that came twice");
    assert_eq!(apply(&db, whole(vec![incoming(Some(2), Some(twin(6)))])), 1, "a count that began anew");
    assert_eq!(apply(&db, whole(vec![incoming(None, Some(twin(7)))])), 1, "no count at all");
    assert_eq!(n(&db), Some(7));
    assert_eq!(apply(&db, whole(vec![incoming(Some(UNREADABLE), None)])), 0, "what cannot be read removes nothing");
    assert_eq!(apply(&db, whole(Vec::new())), 1);
    assert_eq!(n(&db), None);
}

#[test]
fn what_the_device_wrote_while_the_whole_was_read_stays() {
    let scratch = Scratch::new();
    let db = scratch.open();
    apply(&db, changes(vec![incoming(Some(4), Some(twin(4)))]));
    let reads = [Some(incoming(Some(4), Some(twin(4)))), Some(incoming(None, Some(twin(3)))), None];
    for (version, read) in (5..).zip(reads) {
        block_on(db.watch_range()).unwrap();
        push(&db, 10 * version, version);
        assert_eq!(apply(&db, whole(read.into_iter().collect())), 0);
        assert_eq!(n(&db), Some(10 * version));
    }
    block_on(db.watch_range()).unwrap();
    push(&db, 1, 8);
    assert_eq!(apply(&db, whole(vec![incoming(Some(9), Some(twin(9)))])), 1, "somebody wrote after the device");
    assert_eq!(n(&db), Some(9));
}

#[test]
fn a_change_that_waits_is_not_written_over() {
    let scratch = Scratch::new();
    let db = scratch.open();
    block_on(db.create("Twin", twin(1))).unwrap();
    for batch in
        [changes(vec![incoming(Some(4), None)]), whole(vec![incoming(Some(4), Some(twin(2)))]), whole(Vec::new())]
    {
        assert_eq!(apply(&db, batch), 0);
    }
    assert_eq!(n(&db), Some(1));
}

#[test]
fn what_is_gone_on_both_sides_is_forgotten_when_the_cloud_was_read_twice_as_planned() {
    let scratch = Scratch::new();
    let db = scratch.open();
    let planned = || Batch { is_planned: true, ..whole(Vec::new()) };
    let base = |value| {
        block_on(db.upsert("Twin", twin(value))).unwrap();
        let pending = block_on(db.pending(1, &HashSet::new())).unwrap().remove(0);
        (pending.base, pending.is_anew)
    };
    for (reads, expected) in [(0, (4, true)), (1, (4, true)), (2, (0, false))] {
        apply(&db, changes(vec![incoming(Some(4), Some(twin(4)))]));
        assert_eq!(apply(&db, whole(Vec::new())), 1);
        for _ in 0..reads {
            assert_eq!(apply(&db, planned()), 0);
            assert_eq!(apply(&db, whole(Vec::new())), 0, "hints do not count");
        }
        assert_eq!(base(reads), expected, "after {reads}");
        let sent = block_on(db.pending(1, &HashSet::new())).unwrap().remove(0);
        let outcome = Outcome::Theirs(None);
        let (model, key, n) = (sent.model, sent.key, sent.n);
        let settled = Settlement { model, key, n, base: 3, outcome, conflict: None, known: None };
        block_on(db.settle(vec![settled])).unwrap();
    }
}
