//! A database with a change log: every operation is one transaction, and what was done stays done.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::db::Item;
use crate::db::changelog::{Outcome, Pending, Settlement};
use crate::db::inbound::{Batch, Progress};
use crate::db::merge::{Basis, is_same_item, merge};
use crate::net;

use super::cloud::Foreign;
use super::invariants::same;
use super::mutant::Mutant;

#[derive(Default)]
pub struct Row {
    pub item: Option<Item>,
    pub base: u64,
    /// It was made anew after it had been removed.
    is_anew: bool,
    /// The cloud was read as a whole, as planned, since it is gone on both sides.
    is_long_gone: bool,
}

#[derive(Clone)]
struct Change {
    n: u64,
    op: [u8; 16],
    /// When, by the device's clock.
    changed: i64,
    /// What the row was when device and cloud were last the same, and the number of the last change that may be in that.
    basis: (Option<Item>, u64),
}

#[derive(Default)]
pub struct Store {
    pub site: String,
    pub rows: BTreeMap<String, Row>,
    log: BTreeMap<String, Change>,
    pub progress: Progress,
    /// Keys that were settled since a range was asked for.
    fresh: Option<BTreeSet<String>>,
    /// Whether rows come from the cloud as well.
    is_both: bool,
    n: u64,
    /// Changes of rows that are not in the log yet, of a mutant.
    unlogged: BTreeMap<String, Change>,
    mutant: Option<Mutant>,
}

/// What a settlement removed from the log, and whether it put the cloud's item in place of the row.
pub struct Removed {
    pub op: [u8; 16],
    pub taken: bool,
    /// The row was as the cloud's item already.
    pub was_same: bool,
}

/// What a batch did: what the rows are now that it changed, and the versions of rows that it removed because the cloud does not
/// have them.
pub type Applied = (Vec<Foreign>, Vec<(String, u64)>);

impl Store {
    pub fn new(site: String, is_both: bool, mutant: Option<Mutant>) -> Self {
        Self { site, is_both, mutant, ..Self::default() }
    }

    pub fn write(&mut self, key: &str, item: Option<Item>, now: i64, random: &mut fastrand::Rng) {
        let read = self.progress.watermark.as_deref().and_then(net::parse_iso8601).unwrap_or(0);
        let before = self.log.get(key).cloned();
        self.record(key, item, now.max(read + 1), random.u128(..).to_be_bytes());
        if self.mutant == Some(Mutant::LogLater) {
            self.unlogged.extend(self.log.remove_entry(key));
            self.log.extend(before.map(|before| (key.to_owned(), before)));
        }
    }

    fn record(&mut self, key: &str, item: Option<Item>, changed: i64, op: [u8; 16]) {
        self.n += 1;
        let row = self.rows.entry(key.to_owned()).or_default();
        row.is_anew = item.is_some() && (row.is_anew || row.item.is_none() && row.base > 0);
        row.is_long_gone = false;
        let before = std::mem::replace(&mut row.item, item);
        let basis = self.log.get(key).map_or((before, self.n - 1), |change| change.basis.clone());
        self.log.insert(key.to_owned(), Change { n: self.n, op, changed, basis });
    }

    /// The second transaction of a mutant, unless the power was cut before.
    pub fn log_later(&mut self, is_cut: bool) {
        let unlogged = std::mem::take(&mut self.unlogged);
        if !is_cut {
            self.log.extend(unlogged);
        }
    }

    pub fn pending(&self, limit: usize, exclude: &HashSet<(String, String)>) -> Vec<Pending> {
        let free = |key: &String| !exclude.contains(&("M".to_owned(), key.clone()));
        let mut changes: Vec<_> = self.log.iter().filter(|(key, _)| free(key)).collect();
        changes.sort_by_key(|(_, change)| change.n);
        let row = |(key, change): (&String, &Change)| {
            let row = &self.rows[key];
            let (model, key, n, op) = ("M".to_owned(), key.clone(), change.n, change.op);
            let (base, is_anew, item, changed) = (row.base, row.is_anew, row.item.clone(), change.changed);
            Pending { model, key, n, op, base, is_anew, item, changed, recorded: 0 }
        };
        changes.into_iter().take(limit).map(row).collect()
    }

    pub fn settle(&mut self, settled: &Settlement) -> Option<Removed> {
        if let Some(fresh) = &mut self.fresh {
            fresh.insert(settled.key.clone());
        }
        match &settled.outcome {
            Outcome::Merge { theirs, counter } => return self.settle_merge(settled, theirs, *counter),
            Outcome::Both(theirs) => return self.settle_both(settled, theirs),
            _ => {}
        }
        let row = self.rows.get_mut(&settled.key)?;
        let was_same = matches!(&settled.outcome, Outcome::Theirs(item) if same(item.as_ref(), row.item.as_ref()));
        let is_newest = self.log.get(&settled.key).is_none_or(|change| change.n == settled.n);
        match &settled.outcome {
            Outcome::Rebase => {
                row.base = settled.base;
                self.know(settled);
                return None;
            }
            Outcome::Applied => {
                row.base = settled.base;
                row.is_anew = false;
            }
            Outcome::Theirs(item) if is_newest => {
                row.item = item.clone();
                row.base = settled.base;
            }
            // The base stays: the newer change then meets their item, and that conflict is recorded.
            Outcome::Theirs(_) if self.mutant != Some(Mutant::TheirsMovesBase) => {}
            Outcome::Theirs(_) => row.base = settled.base,
            Outcome::Merge { .. } | Outcome::Both(_) => {}
        }
        if !is_newest && self.mutant != Some(Mutant::AnyN) {
            if settled.outcome == Outcome::Applied {
                self.know(settled);
            }
            return None;
        }
        let row = self.rows.get_mut(&settled.key)?;
        if row.item.is_none() && (!self.is_both || self.mutant == Some(Mutant::ForgetRemoved)) {
            // Nothing is kept of a row that is gone on both sides, where nothing can bring it back.
            row.base = 0;
        }
        let change = self.log.remove(&settled.key)?;
        Some(Removed { op: change.op, taken: matches!(settled.outcome, Outcome::Theirs(_)), was_same })
    }

    /// The next merge begins with this.
    fn know(&mut self, settled: &Settlement) {
        if let (Some(known), Some(change)) = (&settled.known, self.log.get_mut(&settled.key)) {
            let n = if settled.outcome == Outcome::Applied { settled.n } else { settled.n - 1 };
            change.basis = (Some(known.clone()), n);
        }
    }

    fn settle_merge(&mut self, settled: &Settlement, theirs: &Item, counter: u64) -> Option<Removed> {
        let key = &settled.key;
        let Some(mine) = self.rows[key].item.clone() else { return self.take(settled, theirs) };
        let change = self.log.get_mut(key)?;
        let basis = match (&settled.known, change.basis.0.as_ref()) {
            (Some(known), _) => Basis::Certain(Some(known)),
            (None, basis) if counter > change.basis.1 => Basis::Doubtful(basis),
            (None, basis) => Basis::Certain(basis),
        };
        let merged = merge(basis, &mine, theirs).item;
        if is_same_item(&merged, theirs) {
            return self.take(settled, theirs);
        }
        change.basis = (Some(theirs.clone()), settled.n - 1);
        let row = self.rows.get_mut(key)?;
        (row.item, row.base, row.is_anew) = (Some(merged), settled.base, false);
        None
    }

    fn settle_both(&mut self, settled: &Settlement, theirs: &Item) -> Option<Removed> {
        let key = &settled.key;
        if let (Some(mine), Some(change)) = (self.rows[key].item.clone(), self.log.get(key)) {
            let (beside, changed) = (format!("{key}~{}{}", self.site, change.n), change.changed);
            let op = (u128::from(self.n) << 64 | u128::from(self.site[4..].parse::<u32>().unwrap())).to_be_bytes();
            self.record(&beside, Some(mine), changed, op);
        }
        self.take(settled, theirs)
    }

    /// The row becomes theirs, whatever waits.
    fn take(&mut self, settled: &Settlement, theirs: &Item) -> Option<Removed> {
        let row = self.rows.get_mut(&settled.key)?;
        (row.item, row.base, row.is_anew) = (Some(theirs.clone()), settled.base, false);
        let change = self.log.remove(&settled.key)?;
        Some(Removed { op: change.op, taken: true, was_same: false })
    }

    pub fn watch_range(&mut self) {
        self.fresh = Some(BTreeSet::new());
    }

    /// Applies what was read from the cloud, by the rules of the database.
    pub fn apply(&mut self, batch: &Batch) -> Result<Applied, String> {
        let (mut taken, mut removed) = (Vec::new(), Vec::new());
        let fresh = batch.range.as_ref().map(|_| self.fresh.take().unwrap_or_default());
        for incoming in &batch.items {
            let key = &incoming.key;
            if self.log.contains_key(key) {
                if self.mutant != Some(Mutant::ApplyOverPending) {
                    continue;
                }
                return Err(format!("I2 the change of {key} that waits was overwritten"));
            }
            let row = self.rows.entry(key.clone()).or_default();
            match incoming.version {
                Some(version) if version <= row.base && self.mutant != Some(Mutant::ApplyOlder) => match &fresh {
                    Some(fresh) if !fresh.contains(key) => {}
                    _ => continue,
                },
                None if fresh.as_ref().is_some_and(|fresh| fresh.contains(key)) => continue,
                _ => {}
            }
            match incoming.version {
                Some(version) if version == row.base && row.item == incoming.item => continue,
                None if row.item == incoming.item => continue,
                _ => {}
            }
            row.is_long_gone = false;
            row.item = incoming.item.clone();
            row.base = incoming.version.unwrap_or(row.base);
            taken.push((key.clone(), incoming.version.unwrap_or(0), incoming.item.clone()));
        }
        if let Some(range) = &batch.range {
            let mut present = fresh.unwrap_or_default();
            if self.mutant == Some(Mutant::SweepFresh) {
                present.clear();
            }
            present.extend(batch.items.iter().map(|item| item.key.clone()));
            for (key, row) in &mut self.rows {
                let is_within = range.after.as_ref().is_none_or(|after| key > after)
                    && range.to.as_ref().is_none_or(|to| key <= to);
                if !is_within || present.contains(key) {
                    continue;
                }
                if self.log.contains_key(key) {
                    if self.mutant == Some(Mutant::SweepPending) {
                        return Err(format!("I2 {key} was removed while its change waits"));
                    }
                } else if row.base > 0 && row.item.is_some() {
                    removed.push((key.clone(), row.base));
                    (row.item, row.is_long_gone) = (None, false);
                } else if row.base > 0 && batch.is_planned {
                    if row.is_long_gone {
                        row.base = 0;
                    }
                    row.is_long_gone = !row.is_long_gone;
                }
            }
        }
        self.keep_progress(batch);
        Ok((taken, removed))
    }

    /// How far the cloud was read with this.
    pub fn keep_progress(&mut self, batch: &Batch) {
        if let Some(range) = batch.range.as_ref().filter(|_| batch.is_whole) {
            self.progress.whole.insert(range.model.clone(), 0);
        }
        if batch.watermark.is_some() {
            self.progress.watermark.clone_from(&batch.watermark);
        }
    }

    pub fn backlog(&self) -> usize {
        self.log.len() + self.unlogged.len()
    }

    /// How many of those that wait are refused as they are.
    pub fn poisoned(&self) -> usize {
        let is_poisoned = |key: &&String| {
            let item = self.rows[*key].item.as_ref();
            item.is_some_and(|item| item.contains_key("poison"))
        };
        self.log.keys().filter(is_poisoned).count()
    }

    pub fn is_pending(&self, key: &str) -> bool {
        self.log.contains_key(key)
    }
}
