//! How often a failed call is repeated.

use std::sync::Mutex;

/// Attempts of one call, the first included (botocore `retries/standard.py`).
pub(super) const ATTEMPTS: u32 = 3;

const CAPACITY: u32 = 500;
const COST: u32 = 5;
const REWARD: u32 = 1;

/// Tokens that retries cost and successes bring: when most calls fail, few are repeated, so that devices do not hold down
/// a service that tries to get up (botocore `retries/quota.py`).
pub(super) struct RetryQuota(Mutex<u32>);

impl RetryQuota {
    pub(super) fn new() -> Self {
        Self(Mutex::new(CAPACITY))
    }

    /// Takes what a retry costs; false: do not retry.
    pub(super) fn take(&self) -> bool {
        let mut tokens = self.lock();
        match tokens.checked_sub(COST) {
            Some(left) => {
                *tokens = left;
                true
            }
            None => false,
        }
    }

    /// A call succeeded, perhaps by a retry, whose cost comes back.
    pub(super) fn succeeded(&self, retried: bool) {
        let mut tokens = self.lock();
        *tokens = (*tokens + if retried { COST } else { REWARD }).min(CAPACITY);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, u32> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_end_when_most_calls_fail() {
        let quota = RetryQuota::new();
        assert_eq!((0..1000).filter(|_| quota.take()).count(), 100);
        for _ in 0..COST {
            quota.succeeded(false);
        }
        assert!(quota.take() && !quota.take());
    }

    #[test]
    fn success_brings_back_the_cost_up_to_the_capacity() {
        let quota = RetryQuota::new();
        assert!(quota.take());
        for _ in 0..1000 {
            quota.succeeded(true);
        }
        assert_eq!(*quota.lock(), CAPACITY);
    }
}
