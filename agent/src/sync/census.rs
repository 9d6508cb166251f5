//! When to count the backlog.

use std::time::{Duration, Instant};

/// The pause between two counts of the backlog, at least, …
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// … and so many times what the last one took: the thread that counts also reads for everybody else.
const COUNT_SHARE: u32 = 20;

/// When to count the backlog: at once at the beginning, and soon after a change. One count at a time, for a million rows
/// take long.
#[derive(Default)]
pub(super) struct Census {
    /// Nothing changed since the last count began.
    is_fresh: bool,
    /// When the count began that is going on.
    begun: Option<Instant>,
    not_before: Option<Instant>,
}

impl Census {
    pub fn changed(&mut self) {
        self.is_fresh = false;
    }

    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = !self.is_fresh && self.begun.is_none() && self.not_before.is_none_or(|after| after <= now);
        if is_due {
            self.is_fresh = true;
            self.begun = Some(now);
        }
        is_due
    }

    pub fn counted(&mut self, now: Instant) {
        let took = self.begun.take().map_or(Duration::ZERO, |begun| now.saturating_duration_since(begun));
        self.not_before = Some(now + COUNT_EVERY.max(took * COUNT_SHARE));
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.not_before.filter(|_| !self.is_fresh && self.begun.is_none())
    }
}
