//! What is recorded for the cloud, and what settling does.

use std::collections::HashSet;

use ioto::db::changelog::{Conflict, Outcome, Pending, Settlement};
use ioto::db::{Db, Error, Schema};
use serde_json::json;
use smol::block_on;

use super::{SCHEMA, Scratch, item};

fn pending(db: &Db) -> Vec<Pending> {
    block_on(db.pending(100, &HashSet::new())).unwrap()
}

fn settle(db: &Db, sent: &Pending, base: u64, outcome: Outcome, conflict: Option<Conflict>) {
    let (model, key, n) = (sent.model.clone(), sent.key.clone(), sent.n);
    block_on(db.settle(vec![Settlement { model, key, n, base, outcome, conflict, known: None }])).unwrap();
}

fn put(db: &Db, key: &str, n: u64) {
    let fields = item(json!({"id": key, "n": n}));
    match block_on(db.create("Twin", fields.clone())) {
        Err(Error::Exists { .. }) => drop(block_on(db.update("Twin", key, fields)).unwrap()),
        other => drop(other.unwrap()),
    }
}

#[test]
fn only_models_that_go_up_are_recorded_one_change_a_row_oldest_first() {
    let scratch = Scratch::new();
    let db = scratch.open();
    block_on(db.create("Plain", item(json!({"id": "p"})))).unwrap();
    put(&db, "a", 1);
    put(&db, "b", 1);
    put(&db, "a", 2);
    let changes = pending(&db);
    assert_eq!(changes.iter().map(|change| change.key.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(changes[1].item, Some(item(json!({"id": "a", "n": 2}))));
    assert!(changes[0].n < changes[1].n && changes[0].op != changes[1].op && changes[0].base == 0);
    let exclude = HashSet::from([("Twin".to_owned(), "b".to_owned())]);
    assert_eq!(block_on(db.pending(1, &exclude)).unwrap()[0].key, "a");
    let backlog = block_on(db.backlog()).unwrap();
    assert_eq!((backlog.rows, backlog.conflicts), (2, 0));
    assert!(backlog.oldest.is_some());
}

#[test]
fn an_acknowledgement_clears_only_the_change_that_was_sent() {
    let scratch = Scratch::new();
    let db = scratch.open();
    put(&db, "a", 1);
    let sent = pending(&db).remove(0);
    put(&db, "a", 2);
    settle(&db, &sent, 7, Outcome::Applied, None);
    let newer = pending(&db).remove(0);
    assert_eq!((newer.base, newer.n > sent.n), (7, true));
    settle(&db, &newer, 8, Outcome::Applied, None);
    assert_eq!(pending(&db), []);
}

#[test]
fn a_removal_is_pending_until_it_is_settled() {
    let scratch = Scratch::new();
    let db = scratch.open();
    put(&db, "a", 1);
    settle(&db, &pending(&db)[0], 1, Outcome::Applied, None);
    block_on(db.remove("Twin", "a")).unwrap();
    let removal = pending(&db).remove(0);
    assert_eq!((removal.item.as_ref(), removal.base), (None, 1));
    settle(&db, &removal, 2, Outcome::Applied, None);
    assert_eq!(pending(&db), []);
}

#[test]
fn rebasing_keeps_the_change_with_its_new_base() {
    let scratch = Scratch::new();
    let db = scratch.open();
    put(&db, "a", 1);
    let sent = pending(&db).remove(0);
    settle(&db, &sent, 9, Outcome::Rebase, None);
    assert_eq!(pending(&db), [Pending { base: 9, ..sent }]);
}

#[test]
fn the_clouds_item_wins_unless_a_newer_change_is_queued_and_both_sides_are_logged() {
    let scratch = Scratch::new();
    let db = scratch.open();
    let theirs = item(json!({"id": "a", "n": 100, "unknown": "kept"}));
    put(&db, "a", 1);
    let sent = pending(&db).remove(0);
    let conflict = Conflict { mine: sent.item.clone(), theirs: Some(theirs.clone()) };
    settle(&db, &sent, 5, Outcome::Theirs(Some(theirs.clone())), Some(conflict.clone()));
    assert_eq!(block_on(db.get("Twin", "a")).unwrap(), Some(theirs));
    assert_eq!(pending(&db), [], "what came from the cloud does not go back");
    let logged = block_on(db.conflicts(10)).unwrap().remove(0);
    assert_eq!((logged.conflict, logged.resolution.as_str()), (conflict, "theirs"));

    put(&db, "a", 2);
    let sent = pending(&db).remove(0);
    put(&db, "a", 3);
    settle(&db, &sent, 6, Outcome::Theirs(None), None);
    assert_eq!(block_on(db.get("Twin", "a")).unwrap().unwrap()["n"], json!(3));
    let newer = pending(&db).remove(0);
    assert_eq!(newer.base, 5, "it was made without knowing theirs, and its push has to notice");
    settle(&db, &newer, 7, Outcome::Theirs(None), None);
    assert_eq!(block_on(db.get("Twin", "a")).unwrap(), None);
    put(&db, "a", 4);
    assert_eq!(pending(&db)[0].base, 7, "a new row does not pass for one the cloud never had");
}

#[test]
fn numbers_are_not_used_twice_and_the_site_stays_with_the_file() {
    let scratch = Scratch::new();
    let db = scratch.open();
    let site = db.site();
    put(&db, "a", 1);
    let sent = pending(&db).remove(0);
    settle(&db, &sent, 1, Outcome::Applied, None);
    drop(db);
    let db = scratch.open();
    assert_eq!(db.site(), site);
    put(&db, "a", 2);
    assert!(pending(&db)[0].n > sent.n);
    assert_ne!(Scratch::new().open().site(), site);
}

#[test]
fn changes_are_announced() {
    let scratch = Scratch::new();
    let db = scratch.open();
    let changes = db.changes();
    assert!(changes.try_recv().is_err());
    block_on(db.create("Plain", item(json!({"id": "a"})))).unwrap();
    assert!(changes.try_recv().is_err());
    put(&db, "a", 1);
    put(&db, "b", 1);
    assert!(changes.try_recv().is_ok());
    assert!(changes.try_recv().is_err());
}

#[test]
fn a_model_that_comes_down_is_not_changed_here() {
    let scratch = Scratch::new();
    let db = scratch.open();
    let refused = block_on(db.create("Order", item(json!({"id": "a"}))));
    assert!(matches!(refused, Err(Error::Invalid { .. })));
}

#[test]
fn rows_that_are_there_when_a_model_begins_to_replicate_are_pending() {
    let scratch = Scratch::new();
    let db = scratch.open();
    put(&db, "t", 1);
    for key in ["x", "y"] {
        block_on(db.create("Plain", item(json!({"id": key})))).unwrap();
    }
    drop(db);
    let schema = SCHEMA.replace(r#""process": {"#, r#""process": {"Plain": {"sync": "up"},"#);
    let options = ioto::config::Database { path: scratch.file(), ..Default::default() };
    let db = Db::open(&options, Schema::parse(&schema, "schema").unwrap()).unwrap();
    let keys: Vec<_> = pending(&db).into_iter().map(|change| change.key).collect();
    assert_eq!(keys, ["t", "x", "y"]);
    put(&db, "t", 2);
    assert_eq!(pending(&db).last().unwrap().key, "t");
}

#[test]
fn settlements_are_carried_out_together_or_not_at_all() {
    let scratch = Scratch::new();
    let db = scratch.open();
    put(&db, "a", 1);
    let before = pending(&db);
    let Pending { model, key, n, .. } = before[0].clone();
    let good = Settlement { model, key, n, base: 5, outcome: Outcome::Theirs(None), conflict: None, known: None };
    let bad = Settlement { model: "Nothing".into(), ..good.clone() };
    // One that fails must not take along what others queued with it.
    let executor = smol::LocalExecutor::new();
    let settled = executor.spawn(db.settle(vec![good, bad]));
    let created = executor.spawn(db.create("Twin", item(json!({"id": "b"}))));
    assert!(matches!(block_on(executor.run(settled)), Err(Error::Model { .. })));
    block_on(executor.run(created)).unwrap();
    assert_eq!(pending(&db)[0], before[0]);
    assert_eq!(pending(&db).len(), 2);
    assert!(block_on(db.get("Twin", "a")).unwrap().is_some());
}
