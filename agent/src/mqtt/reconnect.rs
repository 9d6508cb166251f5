//! How long to wait before the next connection. No I/O: what became of the last one in, a time out.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::broken::{self, Defect};

/// A connection that lasted so long was a good one: the next attempt need not wait for what failed before it.
const STABLE: Duration = Duration::from_secs(5 * 60);

/// A broker that hangs up within this time of accepting us has probably been asked by somebody else with our client id:
/// it then closes the older connection [MQTT-3.1.4-2].
const TAKEOVER: Duration = Duration::from_secs(10);

/// Decorrelated jitter: each wait is a random time between the base and three times the last one, up to a cap.
///
/// It spreads a fleet, and one that was unlucky recovers sooner than with doubling
/// (AWS Architecture Blog, "Exponential Backoff And Jitter").
#[derive(Debug)]
pub(super) struct Reconnect {
    base: Duration,
    cap: Duration,
    after_takeover: Duration,
    last: Duration,
    random: fastrand::Rng,
}

/// How a connection or an attempt ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ended {
    /// How long it stood since the broker accepted us; nothing when it never did.
    pub lived: Option<Duration>,
    /// The other side closed it.
    pub by_broker: bool,
}

impl Reconnect {
    /// Waits from `base` to `cap`, and at least `after_takeover` when somebody else took our place.
    pub fn new(base: Duration, cap: Duration, after_takeover: Duration) -> Self {
        // The hasher's keys come from the operating system: devices of one image that start together still differ.
        Self::with_seed(base, cap, after_takeover, RandomState::new().hash_one(0))
    }

    fn with_seed(base: Duration, cap: Duration, after_takeover: Duration, seed: u64) -> Self {
        let base = base.min(cap);
        Self { base, cap, after_takeover: after_takeover.min(cap), last: base, random: fastrand::Rng::with_seed(seed) }
    }

    /// Whether this end looks as if another client uses our client id.
    pub fn is_takeover(ended: Ended) -> bool {
        ended.by_broker && ended.lived.is_some_and(|lived| lived < TAKEOVER)
    }

    /// What failed before is no reason to wait any more.
    pub fn restart(&mut self) {
        self.last = self.base;
    }

    /// The time to wait before the next attempt.
    pub fn wait(&mut self, ended: Ended) -> Duration {
        if broken::has(Defect::ReconnectAtOnce) {
            return Duration::ZERO;
        }
        if ended.lived.is_some_and(|lived| lived >= STABLE) {
            self.last = self.base;
        }
        let range = self.last.saturating_mul(3).min(self.cap).saturating_sub(self.base);
        self.last = self.base + range.mul_f64(self.random.f64());
        if Self::is_takeover(ended) {
            // Two clients that both come back at once would throw each other out for ever.
            return self.last.max(self.after_takeover + (self.after_takeover / 2).mul_f64(self.random.f64()));
        }
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const CAP: Duration = Duration::from_secs(15 * 60);
    const FAILED: Ended = Ended { lived: None, by_broker: false };

    fn reconnect(seed: u64) -> Reconnect {
        Reconnect::with_seed(SECOND, CAP, 10 * SECOND, seed)
    }

    #[test]
    fn waits_grow_from_a_second_up_to_a_quarter_of_an_hour_and_are_never_outside() {
        for seed in 0..100 {
            let mut reconnect = reconnect(seed);
            let waits: Vec<_> = (0..200).map(|_| reconnect.wait(FAILED)).collect();
            assert!(waits[0] >= SECOND && waits[0] <= 3 * SECOND, "{seed}: {:?}", waits[0]);
            for pair in waits.windows(2) {
                assert!(pair[1] >= SECOND && pair[1] <= CAP && pair[1] <= 3 * pair[0], "{seed}: {pair:?}");
            }
            assert!(waits.iter().any(|wait| *wait > CAP / 4), "{seed}");
        }
    }

    #[test]
    fn five_stable_minutes_make_the_next_wait_short_again_and_less_does_not() {
        for seed in 0..100 {
            let mut reconnect = reconnect(seed);
            reconnect.last = CAP;
            let ended = |seconds: u32| Ended { lived: Some(seconds * SECOND), by_broker: false };
            assert!(reconnect.wait(ended(300)) <= 3 * SECOND);
        }
        let mut reconnect = reconnect(1);
        reconnect.last = CAP;
        let short = Ended { lived: Some(299 * SECOND), by_broker: false };
        assert!((0..20).map(|_| reconnect.wait(short)).any(|wait| wait > 3 * SECOND));
    }

    #[test]
    fn after_a_takeover_the_wait_is_ten_seconds_or_more() {
        for seed in 0..100 {
            let taken = Ended { lived: Some(SECOND), by_broker: true };
            assert!(Reconnect::is_takeover(taken));
            assert!(reconnect(seed).wait(taken) >= 10 * SECOND);
            for other in [
                Ended { lived: Some(20 * SECOND), by_broker: true },
                Ended { lived: Some(SECOND), by_broker: false },
                Ended { lived: None, by_broker: true },
            ] {
                assert!(!Reconnect::is_takeover(other) && reconnect(seed).wait(other) <= 3 * SECOND, "{other:?}");
            }
        }
    }

    #[test]
    fn two_devices_do_not_wait_alike() {
        let waits = || {
            let mut reconnect = Reconnect::new(SECOND, CAP, SECOND);
            (reconnect.wait(FAILED), reconnect.wait(FAILED))
        };
        assert_ne!(waits(), waits());
    }
}
