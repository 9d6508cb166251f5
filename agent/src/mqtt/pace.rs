//! How fast messages go out: no faster than the broker takes them, and slower when the cloud asks for it.

use std::time::{Duration, Instant};

use super::profile::Profile;
use crate::net::TokenBucket;

/// The gap between two messages after the first demand; each further one doubles it.
const FIRST_GAP: Duration = Duration::from_secs(2);

/// No demand makes the gap longer.
const MAX_GAP: Duration = Duration::from_secs(30);

/// Without a further demand the gap is halved after so long.
const EASE: Duration = Duration::from_secs(60);

/// Says when the next message may go out.
#[derive(Debug, Default)]
pub(super) struct Pace {
    bucket: Option<TokenBucket>,
    throttle: Option<Throttle>,
}

#[derive(Debug)]
struct Throttle {
    gap: Duration,
    changed: Instant,
    last: Instant,
}

impl Pace {
    pub fn new(profile: &Profile, now: Instant) -> Self {
        Self { bucket: profile.rate.map(|(rate, burst)| TokenBucket::new(rate, burst, now)), throttle: None }
    }

    /// Somebody wants us to be slower.
    pub fn throttle(&mut self, now: Instant) {
        self.ease(now);
        let gap = self.throttle.as_ref().map_or(FIRST_GAP, |throttle| (throttle.gap * 2).min(MAX_GAP));
        self.throttle = Some(Throttle { gap, changed: now, last: now });
    }

    /// When the next message may go out, if not now.
    pub fn held_until(&mut self, now: Instant) -> Option<Instant> {
        if self.bucket.is_none() && self.throttle.is_none() {
            return None;
        }
        self.ease(now);
        let bucket = self.bucket.as_ref().map(TokenBucket::ready_at);
        let throttle = self.throttle.as_ref().map(|throttle| throttle.last + throttle.gap);
        bucket.into_iter().chain(throttle).max().filter(|ready| *ready > now)
    }

    /// A message goes out.
    pub fn published(&mut self, now: Instant) {
        if let Some(bucket) = &mut self.bucket {
            bucket.take(now);
        }
        if let Some(throttle) = &mut self.throttle {
            throttle.last = now;
        }
    }

    fn ease(&mut self, now: Instant) {
        while let Some(throttle) = self.throttle.as_mut().filter(|throttle| throttle.changed + EASE <= now) {
            throttle.gap /= 2;
            throttle.changed += EASE;
            if throttle.gap < FIRST_GAP {
                self.throttle = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::profile::{AWS, GENERIC};

    const MS: Duration = Duration::from_millis(1);

    /// Messages sent within a time by one who always has more.
    fn sent(pace: &mut Pace, start: Instant, time: Duration) -> u32 {
        let (mut now, mut count) = (start, 0);
        while now < start + time {
            match pace.held_until(now) {
                Some(until) => now = until,
                None if count > 100_000 => return count,
                None => {
                    pace.published(now);
                    count += 1;
                }
            }
        }
        count
    }

    #[test]
    fn aws_gets_80_messages_a_second_and_others_what_they_take() {
        let start = Instant::now();
        let count = sent(&mut Pace::new(&AWS, start), start, Duration::from_secs(10));
        assert!((800..=811).contains(&count), "{count}");
        assert!(sent(&mut Pace::new(&GENERIC, start), start, MS) > 100_000);
    }

    #[test]
    fn a_demand_slows_down_a_second_one_more_and_both_are_forgotten() {
        let start = Instant::now();
        let mut pace = Pace::new(&AWS, start);
        pace.throttle(start);
        assert!((28..=31).contains(&sent(&mut pace, start, 59_000 * MS)));
        let mut pace = Pace::new(&AWS, start);
        for _ in 0..10 {
            pace.throttle(start);
        }
        assert_eq!(pace.held_until(start), Some(start + MAX_GAP));
        // 30, 15, 7.5, 3.75 and then none: after four minutes nothing is left of it.
        let later = start + 4 * EASE;
        assert_eq!(pace.held_until(later), None);
        assert!(sent(&mut pace, later, Duration::from_secs(1)) >= 80);
    }
}
