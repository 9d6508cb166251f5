//! Whether a failed request is repeated, and when.
//!
//! The rules are those of botocore's standard mode (`retries/standard.py` and `retries/quota.py`), which AWS describes in
//! the SDKs and Tools Reference Guide, "Retry behavior".

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::net::Backoff;

/// Attempts of one request, the first included.
const ATTEMPTS: u32 = 3;

/// Waits between attempts: full jitter below a ceiling that doubles.
const BASE: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(20);

const CAPACITY: u32 = 500;
const COST: u32 = 5;
/// After a timeout: the service may be at its end, and each attempt holds a connection for long.
const TIMEOUT_COST: u32 = 10;
const REWARD: u32 = 1;

/// Tokens that retries cost and successes bring: when most calls fail, few are repeated, so that devices do not hold down
/// a service that tries to get up.
pub(super) struct RetryQuota(Mutex<u32>);

impl RetryQuota {
    pub(super) fn new() -> Self {
        Self(Mutex::new(CAPACITY))
    }

    /// Takes what a retry costs; false: do not retry.
    fn take(&self, cost: u32) -> bool {
        let mut tokens = self.lock();
        match tokens.checked_sub(cost) {
            Some(left) => {
                *tokens = left;
                true
            }
            None => false,
        }
    }

    fn give(&self, reward: u32) {
        let mut tokens = self.lock();
        *tokens = (*tokens + reward).min(CAPACITY);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, u32> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What is known about an attempt that failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fault {
    /// Another attempt can help.
    pub(super) transient: bool,
    /// There was no answer in time.
    pub(super) timeout: bool,
    /// The signature was refused for its time, and the right time is known by now.
    pub(super) clock: bool,
    /// The credentials were refused, and there can be others by now.
    pub(super) credentials: bool,
    /// When the service wants to be asked again.
    pub(super) retry_after: Option<Duration>,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Sign again, with the right time.
    Correct,
    /// Sign again, with new credentials.
    Renew,
    /// Try again after this time.
    Wait(Duration),
    /// It failed.
    GiveUp,
}

/// The attempts of one request. No I/O: what happened in, what to do out.
pub(super) struct Attempts<'a> {
    quota: &'a RetryQuota,
    backoff: Backoff,
    /// What the last retry cost.
    paid: u32,
    corrected: bool,
    renewed: bool,
    start: Instant,
    timeout: Duration,
}

impl<'a> Attempts<'a> {
    /// Begins; all attempts and waits together take at most `timeout`.
    pub(super) fn new(quota: &'a RetryQuota, timeout: Duration) -> Self {
        Self {
            quota,
            backoff: Backoff::new(BASE, CAP),
            paid: 0,
            corrected: false,
            renewed: false,
            start: Instant::now(),
            timeout,
        }
    }

    /// The time that is left.
    pub(super) fn left(&self) -> Duration {
        self.timeout.saturating_sub(self.start.elapsed())
    }

    /// The request succeeded: what its retry cost comes back.
    pub(super) fn succeeded(&self) {
        self.quota.give(if self.paid > 0 { self.paid } else { REWARD });
    }

    /// An attempt failed. A wrong clock is corrected once and beside the other attempts, as no load is the reason.
    pub(super) fn failed(&mut self, fault: Fault) -> Verdict {
        if fault.clock && !self.corrected {
            self.corrected = true;
            return Verdict::Correct;
        }
        if fault.credentials && !self.renewed {
            self.renewed = true;
            return Verdict::Renew;
        }
        if !fault.transient || self.backoff.attempts() + 1 >= ATTEMPTS {
            return Verdict::GiveUp;
        }
        let wait = self.backoff.next().max(fault.retry_after.unwrap_or_default());
        let cost = if fault.timeout { TIMEOUT_COST } else { COST };
        if wait >= self.left() || !self.quota.take(cost) {
            return Verdict::GiveUp;
        }
        self.paid = cost;
        Verdict::Wait(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);
    const BUSY: Fault = Fault { transient: true, timeout: false, clock: false, credentials: false, retry_after: None };
    const SILENT: Fault = Fault { timeout: true, ..BUSY };

    fn waits(attempts: &mut Attempts, fault: Fault) -> bool {
        matches!(attempts.failed(fault), Verdict::Wait(_))
    }

    #[test]
    fn a_request_is_tried_three_times() {
        let quota = RetryQuota::new();
        let mut attempts = Attempts::new(&quota, LONG);
        assert!(waits(&mut attempts, BUSY) && waits(&mut attempts, BUSY) && !waits(&mut attempts, BUSY));
    }

    #[test]
    fn waits_are_random_below_a_ceiling_that_doubles() {
        let quota = RetryQuota::new();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            let mut attempts = Attempts::new(&quota, LONG);
            for waits in [&mut first, &mut second] {
                match attempts.failed(BUSY) {
                    Verdict::Wait(wait) => waits.push(wait),
                    other => panic!("{other:?}"),
                }
            }
            (0..2).for_each(|_| quota.give(COST));
        }
        let range = |waits: &[Duration]| (waits.iter().min().copied(), waits.iter().max().copied());
        let millis = |ms| Some(Duration::from_millis(ms));
        assert!(range(&first).0 < millis(200) && range(&first).1 > millis(800) && range(&first).1 <= millis(1000));
        assert!(range(&second).0 < millis(400) && range(&second).1 > millis(1600) && range(&second).1 <= millis(2000));
    }

    #[test]
    fn retries_end_when_most_requests_fail() {
        for (fault, retries) in [(BUSY, 100), (SILENT, 50)] {
            let quota = RetryQuota::new();
            let count = (0..1000).filter(|_| waits(&mut Attempts::new(&quota, LONG), fault)).count();
            assert_eq!(count, retries);
            for _ in 0..COST {
                Attempts::new(&quota, LONG).succeeded();
            }
            assert!(waits(&mut Attempts::new(&quota, LONG), BUSY), "successes bring tokens");
            assert!(!waits(&mut Attempts::new(&quota, LONG), BUSY));
        }
    }

    #[test]
    fn success_brings_back_what_the_retry_cost_up_to_the_capacity() {
        let quota = RetryQuota::new();
        let mut attempts = Attempts::new(&quota, LONG);
        assert!(waits(&mut attempts, SILENT));
        assert_eq!(*quota.lock(), CAPACITY - TIMEOUT_COST);
        attempts.succeeded();
        attempts.succeeded();
        assert_eq!(*quota.lock(), CAPACITY);
    }

    #[test]
    fn a_wrong_clock_is_corrected_once_and_costs_nothing() {
        let quota = RetryQuota::new();
        let mut attempts = Attempts::new(&quota, LONG);
        let late = Fault { clock: true, ..Fault::default() };
        assert_eq!(attempts.failed(late), Verdict::Correct);
        assert_eq!(attempts.failed(late), Verdict::GiveUp);
        assert_eq!(*quota.lock(), CAPACITY);
    }

    #[test]
    fn refused_credentials_are_renewed_once_and_cost_nothing() {
        let quota = RetryQuota::new();
        let mut attempts = Attempts::new(&quota, LONG);
        let refused = Fault { credentials: true, ..Fault::default() };
        assert_eq!(attempts.failed(refused), Verdict::Renew);
        assert_eq!(attempts.failed(refused), Verdict::GiveUp);
        assert_eq!(*quota.lock(), CAPACITY);
    }

    #[test]
    fn the_service_may_ask_for_more_time_but_not_for_more_than_there_is() {
        let quota = RetryQuota::new();
        let after = |seconds| Fault { retry_after: Some(Duration::from_secs(seconds)), ..BUSY };
        let mut attempts = Attempts::new(&quota, Duration::from_secs(60));
        assert_eq!(attempts.failed(after(30)), Verdict::Wait(Duration::from_secs(30)));
        assert_eq!(attempts.failed(after(61)), Verdict::GiveUp);
    }
}
