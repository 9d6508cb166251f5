//! Counts of what happened.

use std::collections::BTreeMap;

/// What happened in runs, to know that they try what they are meant to.
#[derive(Clone, Debug, Default)]
pub struct Seen(BTreeMap<&'static str, u64>);

impl Seen {
    pub fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub fn add(&mut self, run: &Self) {
        for (what, count) in &run.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    pub fn assert_everything_happened(&self) {
        let all = [
            "push",
            "stored",
            "lost",
            "repeated",
            "crash",
            "restart",
            "reset",
            "conflict",
            "taken",
            "refused",
            "throttled",
            "deleted",
            "unversioned",
            "read",
            "unread",
            "pulled",
            "two devices",
        ];
        for what in all {
            assert!(self.0.contains_key(what), "{what} never happened: {self:?}");
        }
    }
}
