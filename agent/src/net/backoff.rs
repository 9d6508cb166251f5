//! How long to wait before the next attempt.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Exponential backoff with full jitter: a random time between nothing and a ceiling that doubles up to a cap.
///
/// Full jitter spreads a fleet that lost the same server best
/// (AWS Architecture Blog, "Exponential Backoff And Jitter").
///
/// ```
/// use std::time::Duration;
/// use ioto::net::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// assert!(backoff.next() <= Duration::from_secs(1));
/// assert!(backoff.next() <= Duration::from_secs(2));
/// backoff.reset();
/// assert!(backoff.next() <= Duration::from_secs(1));
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempts: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// The first wait is at most `base`, no wait is longer than `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        // The hasher's keys come from the operating system: devices of one image that start together still differ.
        Self::with_seed(base, cap, RandomState::new().hash_one(0))
    }

    /// The same waits for the same seed, for tests.
    pub fn with_seed(base: Duration, cap: Duration, seed: u64) -> Self {
        Self { base: base.min(cap), cap, attempts: 0, random: fastrand::Rng::with_seed(seed) }
    }

    /// The time to wait before the next attempt.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.attempts = self.attempts.saturating_add(1);
        ceiling.mul_f64(self.random.f64())
    }

    /// An attempt succeeded: the next wait is short again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Attempts since the start or the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    fn ceiling(&self) -> Duration {
        let factor = 1u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_secs(1);
    const CAP: Duration = Duration::from_secs(300);

    #[test]
    fn the_ceiling_doubles_up_to_the_cap_and_stays_there() {
        let mut backoff = Backoff::with_seed(BASE, CAP, 1);
        let mut ceilings = Vec::new();
        for _ in 0..100 {
            ceilings.push(backoff.ceiling());
            assert!(backoff.next() <= ceilings[ceilings.len() - 1]);
        }
        let seconds: Vec<_> = ceilings.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert!(seconds[10..].iter().all(|s| *s == 300));
    }

    #[test]
    fn the_waits_fill_the_whole_range() {
        let mut backoff = Backoff::with_seed(CAP, CAP, 7);
        let waits: Vec<_> = (0..1000).map(|_| backoff.next()).collect();
        assert!(waits.iter().any(|w| *w < CAP / 10) && waits.iter().any(|w| *w > CAP * 9 / 10));
        assert!(waits.iter().all(|w| *w <= CAP));
    }

    #[test]
    fn success_makes_the_next_wait_short_again() {
        let mut backoff = Backoff::with_seed(BASE, CAP, 3);
        for _ in 0..20 {
            backoff.next();
        }
        assert_eq!(backoff.attempts(), 20);
        backoff.reset();
        assert!(backoff.next() <= BASE);
    }

    #[test]
    fn two_devices_do_not_wait_alike() {
        let mut one = Backoff::new(CAP, CAP);
        let mut two = Backoff::new(CAP, CAP);
        assert_ne!((one.next(), one.next()), (two.next(), two.next()));
    }

    #[test]
    fn a_cap_below_the_base_wins() {
        assert!(Backoff::with_seed(CAP, BASE, 1).next() <= BASE);
    }
}
