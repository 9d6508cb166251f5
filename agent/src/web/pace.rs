//! The least pace of a client: who moves a byte now and then would pass every timer for silence. No I/O, no clock.

use std::time::{Duration, Instant};

/// An account in time. Waiting for the client spends it, each byte that moves pays in `1 / rate` seconds, and never more than
/// `span` is kept: so over any such span the client moves `rate` bytes a second, or it is too slow. What the server itself
/// takes costs the client nothing.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes per second; 0: as slow as it likes.
    rate: u32,
    span: Duration,
    left: Duration,
    /// Since when the server waits for the client.
    since: Option<Instant>,
}

impl Pace {
    /// A pace that is not measured before [`Pace::restart`].
    pub fn new(rate: u32) -> Self {
        Self { rate, span: Duration::MAX, left: Duration::MAX, since: None }
    }

    /// Measures anew, over this span.
    pub fn restart(&mut self, span: Duration) {
        self.span = span;
        self.left = span;
        self.since = None;
    }

    /// Measures no more.
    pub fn free(&mut self) {
        self.restart(Duration::MAX);
    }

    /// The server waits for the client from now on, unless it does already; when the account is used up.
    pub fn waits(&mut self, now: Instant) -> Option<Instant> {
        if self.rate == 0 || self.span == Duration::MAX {
            return None;
        }
        self.since.get_or_insert(now).checked_add(self.left)
    }

    /// So many bytes moved, and nobody waits now.
    #[inline]
    pub fn moved(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(now().saturating_duration_since(since));
        }
        if self.left < self.span && self.rate > 0 {
            let micros = (bytes as u64).saturating_mul(1_000_000) / u64::from(self.rate);
            self.left = self.left.saturating_add(Duration::from_micros(micros)).min(self.span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(30);

    /// Seconds until a client that sends so many bytes every so many seconds is too slow.
    fn lasts(pace: &mut Pace, bytes: usize, every: u64) -> Option<u64> {
        let start = Instant::now();
        let mut now = start;
        for _ in 0..1000 {
            let next = now + Duration::from_secs(every);
            match pace.waits(now) {
                Some(over) if over <= next => return Some((over - start).as_secs()),
                _ => now = next,
            }
            pace.moved(bytes, || now);
        }
        None
    }

    fn pace(rate: u32) -> Pace {
        let mut pace = Pace::new(rate);
        pace.restart(SPAN);
        pace
    }

    #[test]
    fn a_client_at_the_rate_goes_on_and_a_slower_one_is_ended() {
        assert_eq!(lasts(&mut pace(100), 100, 1), None);
        assert_eq!(lasts(&mut pace(100), 1, 1), Some(30));
        assert_eq!(lasts(&mut pace(100), 50, 1), Some(59));
        assert_eq!(lasts(&mut pace(100), 2900, 29), None, "a pause that the average allows");
        assert_eq!(lasts(&mut pace(100), 0, 1), Some(30), "silence");
    }

    #[test]
    fn what_was_fast_before_buys_no_more_than_the_span() {
        let mut pace = pace(100);
        pace.moved(100_000_000, Instant::now);
        assert_eq!(lasts(&mut pace, 1, 1), Some(30));
    }

    #[test]
    fn what_the_server_takes_costs_the_client_nothing() {
        let mut pace = pace(100);
        let start = Instant::now();
        for hour in 0..10 {
            let now = start + Duration::from_secs(3600 * hour);
            assert_eq!(pace.waits(now), Some(now + SPAN));
            pace.moved(1000, || now + Duration::from_secs(10));
        }
    }

    #[test]
    fn without_a_rate_or_a_span_all_is_allowed() {
        assert_eq!(lasts(&mut pace(0), 0, 100), None);
        let mut free = pace(100);
        free.free();
        assert_eq!(lasts(&mut free, 0, 100), None);
    }
}
