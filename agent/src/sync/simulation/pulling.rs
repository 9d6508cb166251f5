//! The half of a run that reads from the cloud.

use crate::db::inbound::Batch;
use crate::sync::hint::{Hint, Removed};
use crate::sync::pull::{Action, Page, Puller, Query, Scope, Settings};

use std::time::Duration;

use super::mutant::Mutant;
use super::world::{Event, World};

/// 2026 in milliseconds: the cloud's clock is right.
pub(super) const CLOUD_TIME: u64 = 1_790_000_000_000;
/// Ten years in milliseconds.
const TEN_YEARS: i64 = 315_576_000_000;

impl World {
    /// A puller as the program makes one at its start, on a device whose clock is anywhere within twenty years.
    pub(super) fn new_puller(&mut self, is_whole_due: bool) -> Puller {
        let settings = Settings {
            models: if self.setup.is_both { vec!["M".to_owned()] } else { Vec::new() },
            has_index: true,
            every: Duration::from_secs(self.random.u64(2..15)),
            overlap: Duration::from_secs(25),
            whole_every: Duration::from_secs(60 * 60),
        };
        let mut progress = self.device.store.progress.clone();
        let now_ms = CLOUD_TIME as i64 + self.random.i64(-TEN_YEARS..TEN_YEARS);
        if is_whole_due {
            progress.whole.clear();
        } else if !progress.whole.is_empty() && self.random.bool() {
            progress.whole.insert("M".to_owned(), now_ms);
        }
        let mut puller = Puller::new(settings, &progress, self.now, now_ms, self.random.u64(..));
        puller.mutant = self.setup.mutant;
        puller
    }

    /// The device's clock, which is right or ten years off.
    pub(super) fn device_ms(&mut self) -> i64 {
        let off = *self.random.choice([0, 0, TEN_YEARS, -TEN_YEARS].iter()).unwrap();
        (CLOUD_TIME + self.elapsed_ms()) as i64 + off
    }

    /// From when on the index shows a change of now.
    pub(super) fn shown_from(&mut self) -> u64 {
        let behind = if self.random.u8(..) < 100 { self.random.u64(..10_000) } else { self.random.u64(..500) };
        self.elapsed_ms() + behind
    }

    /// Does what the puller wants.
    pub(super) fn turn_pull(&mut self) {
        self.hear();
        while let Some(action) = self.device.puller.poll(self.now) {
            let generation = self.device.generation;
            match action {
                Action::Query(query) => {
                    self.device.store.watch_range();
                    let arrives = self.latency();
                    if self.trouble && matches!(query.scope, Scope::Model(_)) && self.random.u8(..) < 100 {
                        self.after(arrives, Event::Write(None));
                    }
                    self.after(arrives, Event::Asked { generation, query });
                }
                Action::Apply(batch) => {
                    if self.setup.mutant == Some(Mutant::ProgressFirst) {
                        self.device.store.keep_progress(&batch);
                    }
                    let after = self.short();
                    if self.trouble && self.random.u8(..) < if batch.is_whole { 60 } else { 16 } {
                        self.after(after / 2, Event::Crash);
                    }
                    self.after(after, Event::Apply { generation, batch });
                }
            }
        }
        if let Some(at) = self.device.puller.deadline() {
            let at = at.max(self.now + Duration::from_micros(1));
            if self.device.pull_wake != Some(at) {
                self.device.pull_wake = Some(at);
                self.after(at - self.now, Event::Wake);
            }
        }
    }

    /// Hints come when they like, true or not, and connections.
    fn hear(&mut self) {
        match self.random.u16(..) {
            0..600 => {
                let latest = self.random.bool().then(|| self.stamp());
                let models = if self.random.u8(..5) == 0 { vec!["M".to_owned()] } else { Vec::new() };
                self.device.puller.hint(&Hint { latest, removed: Removed::Models(models) }, self.now);
            }
            600..700 => {
                self.device.puller.connected(self.now);
                self.device.engine.try_now();
            }
            _ => {}
        }
    }

    /// The question reaches the cloud.
    pub(super) fn asked(&mut self, generation: u64, query: &Query) {
        let answer: Result<Page, String> = if self.loses() {
            self.seen.count("unread");
            Err("no answer".to_owned())
        } else {
            self.seen.count("read");
            Ok(self.cloud.query(&query.scope, 2, query.start.as_ref(), self.elapsed_ms()))
        };
        let after = self.latency() * if self.random.u8(..) < 80 { 8 } else { 1 };
        self.after(after, Event::Read { generation, id: query.id, answer });
    }

    /// What was read is committed.
    pub(super) fn apply(&mut self, batch: &Batch) -> Result<(), String> {
        let (taken, removed) = self.device.store.apply(batch)?;
        for (key, base) in removed {
            let current = self.cloud.current(&key);
            if current.is_some_and(|current| current.version == Some(base) && current.item.is_some()) {
                return Err(format!("I1 {key} was removed, and the cloud has its version {base}"));
            }
        }
        for row in taken {
            self.seen.count("pulled");
            self.device.knows(&row);
        }
        Ok(())
    }

    /// I1 for what the index has: whatever others wrote by the rules is on the device, unless a newer change waits there.
    pub(super) fn check_pulled(&self, with_all: bool) -> Result<(), String> {
        for (key, current) in self.cloud.all() {
            let is_counted = with_all || self.cloud.is_indexed(&key) && !self.cloud.lost_count(&key);
            let is_counted = is_counted && current.version.is_some();
            if !is_counted || self.device.store.is_pending(&key) {
                continue;
            }
            let mine = self.device.store.rows.get(&key).and_then(|row| row.item.clone());
            let mut theirs = current.item;
            // Attributes that a device's write left alone are only in the cloud.
            if let (Some(theirs), Some(mine)) = (&mut theirs, &mine) {
                theirs.retain(|name, _| super::world::FIELDS.contains(&name.as_str()) || mine.contains_key(name));
            }
            if !super::invariants::same(theirs.as_ref(), mine.as_ref()) {
                return Err(format!("I1 {key} is {mine:?} on the device and {theirs:?} in the cloud, which was read"));
            }
        }
        if with_all {
            let is_left = |key: &&String| {
                let row = &self.device.store.rows[*key];
                // What the cloud never counted is not taken for deleted.
                row.item.is_some()
                    && row.base > 0
                    && !self.device.store.is_pending(key)
                    && self.cloud.current(key).is_none()
            };
            if let Some(key) = self.device.store.rows.keys().find(is_left) {
                return Err(format!("I1 {key} was deleted from the cloud, which was read as a whole"));
            }
        }
        Ok(())
    }
}
