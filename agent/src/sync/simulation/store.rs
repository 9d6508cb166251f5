//! A database with a change log: every operation is one transaction, and what was done stays done.

use std::collections::{BTreeMap, HashSet};

use crate::db::Item;
use crate::db::changelog::{Outcome, Pending, Settlement};

use super::mutant::Mutant;

#[derive(Default)]
pub struct Row {
    pub item: Option<Item>,
    base: u64,
}

struct Change {
    n: u64,
    op: [u8; 16],
}

pub struct Store {
    pub site: String,
    pub rows: BTreeMap<String, Row>,
    log: BTreeMap<String, Change>,
    n: u64,
    mutant: Option<Mutant>,
}

/// What a settlement removed from the log, and whether it put the cloud's item in place of the row.
pub struct Removed {
    pub op: [u8; 16],
    pub taken: bool,
}

impl Store {
    pub fn new(site: String, mutant: Option<Mutant>) -> Self {
        Self { site, rows: BTreeMap::new(), log: BTreeMap::new(), n: 0, mutant }
    }

    pub fn write(&mut self, key: &str, item: Option<Item>, random: &mut fastrand::Rng) {
        self.n += 1;
        self.rows.entry(key.to_owned()).or_default().item = item;
        self.log.insert(key.to_owned(), Change { n: self.n, op: random.u128(..).to_be_bytes() });
    }

    pub fn pending(&self, limit: usize, exclude: &HashSet<(String, String)>) -> Vec<Pending> {
        let free = |key: &String| !exclude.contains(&("M".to_owned(), key.clone()));
        let mut changes: Vec<_> = self.log.iter().filter(|(key, _)| free(key)).collect();
        changes.sort_by_key(|(_, change)| change.n);
        let row = |(key, change): (&String, &Change)| {
            let row = &self.rows[key];
            let (model, key, n, op) = ("M".to_owned(), key.clone(), change.n, change.op);
            Pending { model, key, n, op, base: row.base, item: row.item.clone(), recorded: 0 }
        };
        changes.into_iter().take(limit).map(row).collect()
    }

    pub fn settle(&mut self, settled: &Settlement) -> Option<Removed> {
        let row = self.rows.get_mut(&settled.key)?;
        let is_newest = self.log.get(&settled.key).is_none_or(|change| change.n == settled.n);
        match &settled.outcome {
            Outcome::Rebase => {
                row.base = settled.base;
                return None;
            }
            Outcome::Applied => row.base = settled.base,
            Outcome::Theirs(item) if is_newest => {
                row.item = item.clone();
                row.base = settled.base;
            }
            // The base stays: the newer change then meets their item, and that conflict is recorded.
            Outcome::Theirs(_) if self.mutant != Some(Mutant::TheirsMovesBase) => {}
            Outcome::Theirs(_) => row.base = settled.base,
        }
        if !is_newest && self.mutant != Some(Mutant::AnyN) {
            return None;
        }
        if row.item.is_none() {
            // Nothing is kept of a row that is gone on both sides.
            row.base = 0;
        }
        let change = self.log.remove(&settled.key)?;
        Some(Removed { op: change.op, taken: matches!(settled.outcome, Outcome::Theirs(_)) })
    }

    pub fn backlog(&self) -> usize {
        self.log.len()
    }

    pub fn is_pending(&self, key: &str) -> bool {
        self.log.contains_key(key)
    }
}
