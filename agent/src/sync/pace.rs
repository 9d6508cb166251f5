//! How fast to go: how many requests at a time, and when to pause.
//!
//! The window shrinks by half when the cloud throttles and grows by one each time it was filled with success. When the
//! cloud is out of reach everything pauses, and one row at a time is sent to see whether it is back. Pauses are random
//! up to a bound that doubles ("full jitter"), so that a fleet does not come back as one.

use std::time::{Duration, Instant};

/// The first pause is at most this long, …
const BASE: Duration = Duration::from_secs(1);
/// … and none is longer than this.
const CAP: Duration = Duration::from_secs(5 * 60);

/// A random time up to `base`, twice that for the second try, and so on, and never more than `cap`.
pub(super) fn jitter(base: Duration, cap: Duration, tries: u32, random: &mut fastrand::Rng) -> Duration {
    let doubled = base.saturating_mul(1 << tries.saturating_sub(1).min(20));
    doubled.min(cap).mul_f64(random.f64())
}

#[derive(Debug)]
pub(super) struct Pace {
    most: usize,
    window: usize,
    /// Rows stored since the window last changed.
    stored: usize,
    is_down: bool,
    setbacks: u32,
    paused_until: Option<Instant>,
    /// Requests before this were sent before the last setback; they say nothing new about it.
    since: u64,
}

impl Pace {
    pub fn new(window: usize) -> Self {
        let most = window.max(1);
        Self { most, window: most, stored: 0, is_down: false, setbacks: 0, paused_until: None, since: 0 }
    }

    /// Requests at a time.
    pub fn window(&self) -> usize {
        if self.is_down { 1 } else { self.window }
    }

    pub fn is_down(&self) -> bool {
        self.is_down
    }

    pub fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// The end of the pause, also when it is over.
    pub fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// The request `id` was answered with success.
    pub fn stored(&mut self, id: u64) {
        self.reached();
        if id < self.since {
            return;
        }
        self.setbacks = 0;
        self.stored += 1;
        if self.stored >= self.window && self.window < self.most {
            self.window += 1;
            self.stored = 0;
        }
    }

    /// The cloud answered something: it is there.
    pub fn reached(&mut self) {
        if self.is_down {
            self.is_down = false;
            self.setbacks = 0;
            self.paused_until = None;
        }
    }

    /// There is reason to believe that the cloud is back: one more request than those of which nothing is heard.
    pub fn try_now(&mut self, sent: usize) {
        if self.is_down {
            self.is_down = false;
            self.window = (sent + 1).min(self.most);
            self.stored = 0;
        }
        self.paused_until = None;
    }

    /// The request `id` was one too many; `next` is the id that the next request will exceed.
    pub fn throttled(&mut self, id: u64, next: u64, now: Instant, random: &mut fastrand::Rng) {
        self.reached();
        if id >= self.since {
            self.window = (self.window / 2).max(1);
            self.stored = 0;
            self.pause(next, now, random);
        }
    }

    /// The request `id` did not reach the cloud, or its answer not us.
    pub fn failed(&mut self, id: u64, next: u64, now: Instant, random: &mut fastrand::Rng) {
        if id >= self.since {
            self.is_down = true;
            self.pause(next, now, random);
        }
    }

    fn pause(&mut self, next: u64, now: Instant, random: &mut fastrand::Rng) {
        self.since = next + 1;
        self.setbacks = self.setbacks.saturating_add(1);
        self.paused_until = Some(now + jitter(BASE, CAP, self.setbacks, random));
    }
}
