//! By how much the device's clock is wrong, learnt from the `Date` of answers.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use crate::http1::Headers;
use crate::net;

/// Endpoints of which the skew is remembered.
const ENDPOINTS: usize = 32;

/// A signature is refused when its time is 5 minutes off; a new one helps only if the time changes noticeably.
const NOTICEABLE_MS: i64 = 60_000;

/// The skew of each endpoint, in milliseconds to add to the device's clock.
#[derive(Default)]
pub(super) struct Skews(Mutex<HashMap<String, i64>>);

impl Skews {
    /// What is known about an endpoint; without knowledge the clock is taken to be right.
    pub(super) fn of(&self, endpoint: &str) -> i64 {
        self.lock().get(endpoint).copied().unwrap_or(0)
    }

    /// Learns from an answer to a request sent at `sent` and received at `received`, both by the uncorrected clock of the
    /// device: computed from corrected times the skew would swing. A cached answer (`Age`) has an old `Date`.
    ///
    /// Returns whether the time of a signature made with the skew `used` was noticeably wrong.
    pub(super) fn learn(&self, endpoint: &str, headers: &Headers, sent: i64, received: i64, used: i64) -> bool {
        if headers.get("age").is_some() {
            return false;
        }
        let date = headers.get("date").and_then(net::parse_http_date).and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let Some(date) = date.and_then(|since| i64::try_from(since.as_millis()).ok()) else { return false };
        let skew = date.saturating_sub(sent.saturating_add(received) / 2);
        let mut skews = self.lock();
        if skews.len() < ENDPOINTS || skews.contains_key(endpoint) {
            skews.insert(endpoint.into(), skew);
        }
        skew.abs_diff(used) > NOTICEABLE_MS.unsigned_abs()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, i64>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const DATE_MS: i64 = 784_111_777_000;

    #[test]
    fn the_skew_is_the_date_less_the_middle_of_the_exchange() {
        let skews = Skews::default();
        let three_hours = 3 * 3_600_000;
        let sent = DATE_MS - three_hours - 500;
        assert!(skews.learn("a", &Headers::of(&[("Date", DATE)]), sent, sent + 1000, 0));
        assert_eq!((skews.of("a"), skews.of("b")), (three_hours, 0));
        assert!(!skews.learn("a", &Headers::of(&[("Date", DATE)]), sent, sent + 1000, skews.of("a")));
        assert_eq!(skews.of("a"), three_hours, "it does not swing");
    }

    #[test]
    fn cached_and_undated_answers_teach_nothing() {
        let skews = Skews::default();
        for fields in [&[("Date", DATE), ("Age", "1")][..], &[("Date", "soon")], &[]] {
            assert!(!skews.learn("a", &Headers::of(fields), 0, 0, 0));
        }
        assert_eq!(skews.of("a"), 0);
    }

    #[test]
    fn the_number_of_endpoints_is_bounded() {
        let skews = Skews::default();
        for n in 0..100 {
            skews.learn(&n.to_string(), &Headers::of(&[("Date", DATE)]), 0, 0, 0);
        }
        assert_eq!(skews.lock().len(), ENDPOINTS);
    }
}
