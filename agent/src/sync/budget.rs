//! The byte budget: what replication may send and receive in 24 hours.

use std::time::{Duration, Instant};

use crate::config::UNLIMITED;
use crate::db::inbound::Usage;

/// What is counted together.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// What was counted is kept when so much came to it, …
const KEPT_EVERY: u64 = 64 * 1024;
/// … or this part of the budget.
const KEPT_PART: u64 = 20;

/// Counts bytes, and says when there are too many. By the device's clock, which may be wrong: one that jumps begins a new day.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    usage: Usage,
    /// When the day ends, if the clock does not say so before.
    ends: Instant,
    /// What the transport had counted.
    seen: u64,
    kept: u64,
}

impl Budget {
    /// A budget of `limit` bytes, of which some may be used; `seen`: what the transport counted until now.
    pub fn new(limit: u64, kept: Option<Usage>, seen: u64, now: Instant, now_ms: i64) -> Self {
        let usage = kept.unwrap_or(Usage { begun: now_ms, bytes: 0 });
        let passed = Duration::from_millis(u64::try_from(now_ms - usage.begun).unwrap_or(0));
        let mut budget = Self { limit, usage, ends: now + DAY.saturating_sub(passed), seen, kept: usage.bytes };
        budget.renew(now, now_ms);
        budget
    }

    /// The transport has counted so many bytes since it was made. Returns what is to be kept now, if anything is.
    pub fn count(&mut self, seen: u64, now: Instant, now_ms: i64) -> Option<Usage> {
        let was_spent = self.is_spent();
        self.renew(now, now_ms);
        self.usage.bytes += seen.saturating_sub(self.seen);
        self.seen = seen;
        let is_due = self.usage.bytes.abs_diff(self.kept) >= KEPT_EVERY.min(self.limit / KEPT_PART).max(1);
        if self.limit >= UNLIMITED || !is_due && was_spent == self.is_spent() {
            return None;
        }
        self.kept = self.usage.bytes;
        Some(self.usage)
    }

    /// A day that is over makes room for the next.
    fn renew(&mut self, now: Instant, now_ms: i64) {
        let day = i64::try_from(DAY.as_millis()).unwrap_or(i64::MAX);
        let is_within = (self.usage.begun..self.usage.begun.saturating_add(day)).contains(&now_ms);
        if now >= self.ends || !is_within {
            self.usage = Usage { begun: now_ms, bytes: 0 };
            self.ends = now + DAY;
        }
    }

    /// Whether all of it is used.
    pub fn is_spent(&self) -> bool {
        self.limit < UNLIMITED && self.usage.bytes >= self.limit
    }

    /// When there is some again, if there is none.
    pub fn deadline(&self) -> Option<Instant> {
        self.is_spent().then_some(self.ends)
    }

    pub fn usage(&self) -> Usage {
        self.usage
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn what_is_spent_is_there_again_a_day_after_the_first_byte() {
        let begin = Instant::now();
        let at = |hours: u64| begin + Duration::from_secs(3600 * hours);
        let mut budget = Budget::new(1000, None, 500, begin, HOUR);
        assert_eq!(budget.count(500, at(1), 2 * HOUR), None);
        budget.count(1400, at(2), 3 * HOUR);
        assert!(!budget.is_spent() && budget.deadline().is_none());
        assert_eq!(budget.count(1500, at(3), 4 * HOUR), Some(Usage { begun: HOUR, bytes: 1000 }));
        assert_eq!(budget.deadline(), Some(at(24)));
        assert_eq!(budget.count(1500, at(23), 24 * HOUR), None);
        assert!(budget.is_spent());
        assert_eq!(budget.count(1500, at(24), 25 * HOUR), Some(Usage { begun: 25 * HOUR, bytes: 0 }));
        assert!(!budget.is_spent());
    }

    #[test]
    fn a_restart_goes_on_counting_and_a_clock_that_jumps_begins_anew() {
        let now = Instant::now();
        let kept = Some(Usage { begun: 10 * HOUR, bytes: 990 });
        let mut budget = Budget::new(1000, kept, 0, now, 12 * HOUR);
        budget.count(10, now, 12 * HOUR);
        assert_eq!((budget.is_spent(), budget.deadline()), (true, Some(now + Duration::from_secs(22 * 3600))));
        for clock in [9 * HOUR, 1_000_000 * HOUR] {
            assert!(!Budget::new(1000, Some(Usage { begun: 10 * HOUR, bytes: 1000 }), 0, now, clock).is_spent());
        }
    }

    #[test]
    fn it_is_kept_now_and_then_and_never_without_a_limit() {
        let now = Instant::now();
        let mut budget = Budget::new(10 << 20, None, 0, now, HOUR);
        let kept = (1..=1000).filter(|n| budget.count(n * 1000, now, HOUR).is_some()).count();
        assert_eq!(kept, 15, "every 64 KB of 1 MB");
        let mut free = Budget::new(UNLIMITED, None, 0, now, HOUR);
        assert_eq!((free.count(1 << 40, now, HOUR), free.is_spent()), (None, false));
    }
}
