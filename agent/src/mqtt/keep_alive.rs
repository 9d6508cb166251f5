//! When to ping, and when the connection is dead. MQTT 3.1.1, section 3.1.2.10.

use std::time::{Duration, Instant};

/// Pings when nothing was sent for an interval, as the broker expects, and also when nothing was received for one: a
/// client that sends all the time into a dead connection would otherwise never notice. Without an answer within
/// half an interval the connection is dead.
#[derive(Debug)]
pub(super) struct KeepAlive {
    /// Zero: never ping.
    interval: Duration,
    last_sent: Instant,
    last_received: Instant,
    pinged: Option<Instant>,
}

impl KeepAlive {
    pub fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, last_sent: now, last_received: now, pinged: None }
    }

    /// The connection is up, or reading goes on after it rested.
    pub fn restart(&mut self, now: Instant) {
        self.last_received = now;
        self.pinged = None;
    }

    /// A packet goes out.
    pub fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// A PINGREQ goes out.
    pub fn pinged(&mut self, now: Instant) {
        self.last_sent = now;
        self.pinged = Some(now);
    }

    /// A packet came in; any one proves that the other side lives.
    pub fn received(&mut self, now: Instant) {
        self.last_received = now;
        self.pinged = None;
    }

    /// When to ping. While nothing is read (`reading`), only the broker's expectation counts.
    pub fn ping_due(&self, reading: bool) -> Option<Instant> {
        match (reading, self.pinged) {
            _ if self.interval.is_zero() => None,
            (true, None) => Some(self.last_sent.min(self.last_received) + self.interval),
            (true, Some(_)) | (false, _) => Some(self.last_sent + self.interval),
        }
    }

    /// When the connection is dead unless something is heard: half an interval after a ping, or after a ping was due
    /// that could not even be sent.
    pub fn dead_at(&self, reading: bool) -> Option<Instant> {
        let patience = self.interval / 2;
        let unsent = self.ping_due(reading)? + patience;
        match self.pinged {
            Some(pinged) if reading => Some(unsent.min(pinged + patience)),
            _ => Some(unsent),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_interval_counts_from_the_last_packet_sent() {
        let start = Instant::now();
        let mut alive = KeepAlive::new(INTERVAL, start);
        alive.sent(start + 40 * SECOND);
        alive.received(start + 41 * SECOND);
        assert_eq!(alive.ping_due(true), Some(start + 100 * SECOND));
    }

    #[test]
    fn a_dead_connection_is_found_within_one_and_a_half_intervals_of_the_last_packet_heard() {
        let start = Instant::now();
        let mut alive = KeepAlive::new(INTERVAL, start);
        for second in 0..60 {
            alive.sent(start + second * SECOND);
            assert_eq!(alive.ping_due(true), Some(start + INTERVAL), "sending alone proves nothing");
        }
        alive.pinged(start + INTERVAL);
        alive.sent(start + INTERVAL + SECOND);
        assert_eq!(alive.dead_at(true), Some(start + INTERVAL + INTERVAL / 2));
        alive.received(start + INTERVAL + SECOND);
        assert!(alive.dead_at(true).unwrap() > start + INTERVAL * 2);
    }

    #[test]
    fn a_ping_that_cannot_be_sent_is_a_dead_connection_too() {
        let start = Instant::now();
        let alive = KeepAlive::new(INTERVAL, start);
        assert_eq!(alive.dead_at(true), Some(start + INTERVAL + INTERVAL / 2));
        assert_eq!(alive.dead_at(false), Some(start + INTERVAL + INTERVAL / 2));
    }

    #[test]
    fn while_reading_rests_pings_go_on_and_no_answer_is_expected() {
        let start = Instant::now();
        let mut alive = KeepAlive::new(INTERVAL, start);
        alive.pinged(start + INTERVAL);
        assert_eq!(alive.ping_due(false), Some(start + 2 * INTERVAL));
        assert_eq!(alive.dead_at(false), Some(start + 2 * INTERVAL + INTERVAL / 2));
        alive.restart(start + 2 * INTERVAL);
        assert_eq!(alive.dead_at(true), Some(start + 2 * INTERVAL + INTERVAL / 2));
    }

    #[test]
    fn an_interval_of_zero_means_no_pings() {
        let alive = KeepAlive::new(Duration::ZERO, Instant::now());
        assert_eq!((alive.ping_due(true), alive.dead_at(true)), (None, None));
    }
}
