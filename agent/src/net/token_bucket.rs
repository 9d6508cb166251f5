//! How often something may happen: so often a second, and a few times more after a rest.

use std::time::{Duration, Instant};

/// A bucket that fills with tokens at a steady rate, up to a burst; what happens takes one out.
///
/// ```
/// use std::time::{Duration, Instant};
/// use ioto::net::TokenBucket;
///
/// let now = Instant::now();
/// let mut bucket = TokenBucket::new(10, 2, now);
/// assert!(bucket.take(now) && bucket.take(now) && !bucket.take(now));
/// assert!(bucket.take(now + Duration::from_millis(100)));
/// ```
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// The time of one token.
    interval: Duration,
    burst: u32,
    /// When the bucket would have been empty, had it been filled from then on without pause.
    empty_at: Instant,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens (at least 1) that gets `rate` a second (at least 1).
    pub fn new(rate: u32, burst: u32, now: Instant) -> Self {
        let (interval, burst) = (Duration::from_secs(1) / rate.max(1), burst.max(1));
        Self { interval, burst, empty_at: now.checked_sub(interval * burst).unwrap_or(now) }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let is_there = now >= self.ready_at();
        if is_there {
            let full = now.checked_sub(self.interval * self.burst).unwrap_or(self.empty_at);
            self.empty_at = self.empty_at.max(full) + self.interval;
        }
        is_there
    }

    /// When there is a token.
    pub fn ready_at(&self) -> Instant {
        self.empty_at + self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_second_holds_the_burst_and_the_rate_and_no_more() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(80, 10, start);
        let taken = (0..1000).filter(|ms| bucket.take(start + *ms * MS)).count();
        assert!((88..=90).contains(&taken), "{taken}");
    }

    #[test]
    fn a_rest_of_any_length_saves_no_more_than_the_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, 3, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| bucket.take(later)).count(), 3);
        assert!(!bucket.take(later + 99 * MS) && bucket.take(later + 100 * MS));
        assert_eq!(bucket.ready_at(), later + 200 * MS);
    }
}
