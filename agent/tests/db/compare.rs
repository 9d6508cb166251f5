//! Random operations, against a map.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ioto::db::changelog::{Outcome, Settlement};
use ioto::db::{Db, Error, Item, Query};
use serde_json::{Value, json};
use smol::{LocalExecutor, block_on};

use super::{Scratch, item, seed};

const RUNS: usize = 2000;

/// What the database is to do, as simply as it can be said.
#[derive(Default)]
struct Naive {
    rows: BTreeMap<String, Item>,
    dirty: BTreeSet<String>,
}

#[derive(Clone, Debug)]
enum Operation {
    Create(String, Item),
    Update(String, Item),
    Remove(String),
}

#[derive(Debug, PartialEq)]
enum Outcomes {
    Item(Item),
    Removed(bool),
    Exists,
    Missing,
    Invalid,
}

impl Naive {
    fn apply(&mut self, operation: Operation) -> Outcomes {
        match operation {
            Operation::Create(key, mut fields) => {
                fields.retain(|_, value| !value.is_null());
                if fields.get("n").is_some_and(|n| !n.is_number()) {
                    return Outcomes::Invalid;
                }
                if self.rows.contains_key(&key) {
                    return Outcomes::Exists;
                }
                fields.insert("id".into(), key.clone().into());
                self.rows.insert(key.clone(), fields.clone());
                self.dirty.insert(key);
                Outcomes::Item(fields)
            }
            Operation::Update(key, changes) => {
                let Some(row) = self.rows.get_mut(&key) else { return Outcomes::Missing };
                if changes.get("n").is_some_and(|n| !n.is_number() && !n.is_null()) {
                    return Outcomes::Invalid;
                }
                let before = row.clone();
                for (name, value) in changes {
                    match value {
                        Value::Null => drop(row.remove(&name)),
                        value => drop(row.insert(name, value)),
                    }
                }
                if *row != before {
                    self.dirty.insert(key);
                }
                Outcomes::Item(row.clone())
            }
            Operation::Remove(key) => {
                let removed = self.rows.remove(&key).is_some();
                if removed {
                    self.dirty.insert(key);
                }
                Outcomes::Removed(removed)
            }
        }
    }
}

async fn apply(db: &Db, operation: Operation) -> Outcomes {
    let result = match operation {
        Operation::Create(key, mut fields) => {
            fields.insert("id".into(), key.into());
            db.create("Twin", fields).await
        }
        Operation::Update(key, changes) => db.update("Twin", &key, changes).await,
        Operation::Remove(key) => return Outcomes::Removed(db.remove("Twin", &key).await.unwrap()),
    };
    match result {
        Ok(item) => Outcomes::Item(item),
        Err(Error::Exists { .. }) => Outcomes::Exists,
        Err(Error::Missing { .. }) => Outcomes::Missing,
        Err(Error::Invalid { .. }) => Outcomes::Invalid,
        Err(other) => panic!("{other}"),
    }
}

fn random(rng: &mut fastrand::Rng) -> Operation {
    let key = ["a", "b", "c", "ä", "z'; --", "\"", "%", "日本", "a b", "0"][rng.usize(..10)].to_owned();
    let fields = match rng.u8(..8) {
        0 => json!({}),
        1 => json!({"n": null}),
        2 => json!({"n": "wrong"}),
        3 => json!({"n": f64::from(rng.i16(..)) / 64.0}),
        4 => json!({"n": i64::MIN}),
        _ => json!({"n": rng.u8(..3)}),
    };
    match rng.u8(..5) {
        0 | 1 => Operation::Create(key, item(fields)),
        2 | 3 => Operation::Update(key, item(fields)),
        _ => Operation::Remove(key),
    }
}

#[test]
fn the_database_does_what_a_map_does() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let scratch = Scratch::new();
    let mut db = scratch.open();
    let mut naive = Naive::default();
    for run in 0..RUNS {
        // Those of one run are queued together, so they share a commit and fail, where they fail, alone.
        let operations: Vec<_> = (0..rng.usize(1..12)).map(|_| random(&mut rng)).collect();
        let executor = LocalExecutor::new();
        let tasks: Vec<_> = operations.iter().map(|operation| executor.spawn(apply(&db, operation.clone()))).collect();
        for (task, operation) in tasks.into_iter().zip(operations) {
            let outcome = block_on(executor.run(task));
            assert_eq!(outcome, naive.apply(operation.clone()), "run {run}: {operation:?}");
        }
        drop(executor);
        compare(&db, &naive, &mut rng, run);
        settle_some(&db, &mut naive, &mut rng);
        if rng.u8(..100) == 0 {
            drop(db);
            db = scratch.open();
        }
    }
}

fn compare(db: &Db, naive: &Naive, rng: &mut fastrand::Rng, run: usize) {
    let (mut found, mut next, descending) = (Vec::new(), None, rng.bool());
    loop {
        let query = Query { limit: Some(rng.usize(1..5)), next, descending, ..Query::default() };
        let page = block_on(db.find("Twin", query)).unwrap();
        found.extend(page.items);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    if descending {
        found.reverse();
    }
    assert_eq!(found, naive.rows.values().cloned().collect::<Vec<_>>(), "run {run}");
    assert_eq!(block_on(db.count("Twin")).unwrap(), naive.rows.len() as u64, "run {run}");
    let ones = block_on(db.find("Twin", Query::new().filter("n", 1))).unwrap().items;
    let expected: Vec<_> = naive.rows.values().filter(|row| row.get("n") == Some(&json!(1))).cloned().collect();
    assert_eq!(ones, expected, "run {run}");
    if let Some(key) = rng.choice(naive.rows.keys()) {
        assert_eq!(block_on(db.get("Twin", key)).unwrap().as_ref(), naive.rows.get(key), "run {run}");
    }
    let pending = block_on(db.pending(100, &HashSet::new())).unwrap();
    assert!(pending.windows(2).all(|pair| pair[0].n < pair[1].n), "run {run}");
    assert_eq!(pending.iter().map(|change| change.key.clone()).collect::<BTreeSet<_>>(), naive.dirty, "run {run}");
    for change in pending {
        assert_eq!(change.item.as_ref(), naive.rows.get(&change.key), "run {run}");
    }
}

fn settle_some(db: &Db, naive: &mut Naive, rng: &mut fastrand::Rng) {
    let mut settlements = Vec::new();
    for change in block_on(db.pending(3, &HashSet::new())).unwrap() {
        let theirs = item(json!({"id": change.key, "n": 50}));
        let (sent, outcome) = match rng.u8(..6) {
            0 => (change.n, Outcome::Rebase),
            1 => (change.n - 1, Outcome::Applied),
            2 => (change.n - 1, Outcome::Theirs(Some(theirs))),
            3 => {
                naive.rows.insert(change.key.clone(), theirs.clone());
                naive.dirty.remove(&change.key);
                (change.n, Outcome::Theirs(Some(theirs)))
            }
            4 => {
                naive.rows.remove(&change.key);
                naive.dirty.remove(&change.key);
                (change.n, Outcome::Theirs(None))
            }
            _ => {
                naive.dirty.remove(&change.key);
                (change.n, Outcome::Applied)
            }
        };
        let (model, key, base) = (change.model, change.key, change.base + 1);
        settlements.push(Settlement { model, key, n: sent, base, outcome, conflict: None, known: None });
    }
    block_on(db.settle(settlements)).unwrap();
}
