//! What hints say, gathered until the cloud is asked: however many come, the questions are bounded.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::hint::{Hint, Removed};

/// Hints begin a round no sooner than this after the round before began.
const PACE: Duration = Duration::from_millis(500);
/// When the cloud is asked again because the page did not have what a hint promised: the index was behind.
pub(super) const AGAIN: Duration = Duration::from_secs(5);
/// Hints have models read as a whole no sooner than this after a round ended.
const WHOLE_PACE: Duration = Duration::from_secs(10);

/// What was said and not asked for yet.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Something may have changed since the last round began.
    is_there: bool,
    /// The latest change that a hint told of, until a round ends.
    latest: Option<String>,
    /// One round more, whatever the next one brings.
    is_uncertain: bool,
    /// When to ask again.
    again: Option<Instant>,
    /// Models to be read as a whole.
    removed: BTreeSet<String>,
    begun: Option<Instant>,
    whole_ended: Option<Instant>,
    is_whole: bool,
}

impl News {
    /// A hint came; `models` are those that are read at all.
    pub fn hint(&mut self, hint: &Hint, models: &[String]) {
        if hint.latest.is_some() {
            self.is_there = true;
            self.latest = self.latest.take().max(hint.latest.clone());
        }
        let is_removed = |model: &&String| match &hint.removed {
            Removed::Models(removed) => removed.contains(model),
            Removed::All => true,
        };
        self.removed.extend(models.iter().filter(is_removed).cloned());
    }

    /// There may be anything: what was hinted at meanwhile is lost, and a hint on its way may be.
    pub fn anything(&mut self) {
        self.is_there = true;
        self.is_uncertain = true;
    }

    /// When the next round is to begin, because of what was said.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let after = |then: Option<Instant>, pause| then.map_or(now, |then| now.max(then + pause));
        let news = self.is_there.then(|| after(self.begun, PACE));
        let whole = (!self.removed.is_empty()).then(|| after(self.whole_ended, WHOLE_PACE));
        news.into_iter().chain(whole).chain(self.again).min()
    }

    /// A round begins. Gives the models that hints want read as a whole.
    pub fn begin(&mut self, now: Instant) -> BTreeSet<String> {
        self.is_there = false;
        self.begun = Some(now);
        self.again = self.again.filter(|again| *again > now);
        let is_early = self.whole_ended.is_some_and(|ended| now < ended + WHOLE_PACE);
        let removed = if is_early { BTreeSet::new() } else { std::mem::take(&mut self.removed) };
        self.is_whole = !removed.is_empty();
        removed
    }

    /// A round ended; `has` says whether it had what changed at a time.
    pub fn ended(&mut self, has: impl Fn(&String) -> bool, now: Instant) {
        let is_short = self.latest.take().is_some_and(|latest| !has(&latest));
        if is_short || self.is_uncertain {
            self.again = Some(now + AGAIN);
        }
        self.is_uncertain = false;
        if self.is_whole {
            self.whole_ended = Some(now);
        }
    }
}
