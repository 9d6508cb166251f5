//! When the connection is to stand: always, in the minutes of a schedule, or while there is something to send. No I/O: times
//! and needs in, a decision out.

use std::time::{Duration, Instant};

use crate::config::MqttSchedule;

/// A clock that is set, and a schedule far away, are looked at after so long at the latest.
const LOOK: Duration = Duration::from_secs(15 * 60);

/// What the owner wants.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    pub schedule: MqttSchedule,
    pub on_demand: bool,
    /// How long a connection that nobody needs stays.
    pub idle: Duration,
    pub delay: Duration,
    pub jitter: Duration,
}

/// What is known at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub now: Instant,
    pub utc_ms: i64,
    /// Something waits to be sent or to be acknowledged.
    pub has_work: bool,
    /// Messages sent and received so far: when it grows, the connection was of use.
    pub moved: u64,
    /// Until then the client is to keep away from the broker.
    pub paused: Option<Instant>,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Connect, or stay; to be asked again then at the latest, if ever.
    Up(Option<Instant>),
    /// Stay away, or leave; to be asked again then, and when there is something to send.
    Down(Instant),
}

/// Decides whether the connection is to stand.
#[derive(Debug)]
pub(super) struct Presence {
    wishes: Wishes,
    /// When the present window lets us in; nothing while there is none.
    opens: Option<Instant>,
    used: Option<(u64, Instant)>,
    random: fastrand::Rng,
}

impl Presence {
    pub fn new(wishes: Wishes) -> Self {
        Self { wishes, opens: None, used: None, random: fastrand::Rng::new() }
    }

    /// Whether the connection is to stand now.
    pub fn decide(&mut self, moment: Moment) -> Decision {
        let Moment { now, utc_ms, .. } = moment;
        if let Some(paused) = moment.paused.filter(|paused| *paused > now) {
            return Decision::Down(paused);
        }
        let (is_open, change) = match &self.wishes.schedule {
            MqttSchedule::Always => (true, None),
            MqttSchedule::Never => (false, None),
            MqttSchedule::Cron(cron) => {
                let left = Duration::from_millis(cron.changes(utc_ms).saturating_sub(utc_ms).max(1).unsigned_abs());
                (cron.matches(utc_ms), Some(now + left.min(LOOK)))
            }
        };
        let mut soonest = change;
        if is_open {
            let random = self.wishes.jitter.mul_f64(self.random.f64());
            let opens = *self.opens.get_or_insert(now + self.wishes.delay + random);
            if now >= opens {
                self.used = Some((moment.moved, now));
                return Decision::Up(change);
            }
            soonest = Some(soonest.map_or(opens, |change| change.min(opens)));
        } else {
            self.opens = None;
        }
        match self.needed_until(moment) {
            Some(until) if until > now => Decision::Up(Some(soonest.map_or(until, |soonest| soonest.min(until)))),
            _ => Decision::Down(soonest.unwrap_or(now + LOOK)),
        }
    }

    /// On demand: how long the connection is of use.
    fn needed_until(&mut self, moment: Moment) -> Option<Instant> {
        if !self.wishes.on_demand {
            return None;
        }
        let moved = self.used.is_none_or(|(moved, _)| moved != moment.moved);
        // The beginning is no use: nothing was sent or received yet.
        if moment.has_work || moved && moment.moved > 0 {
            self.used = Some((moment.moved, moment.now));
        }
        self.used.map(|(_, at)| at + self.wishes.idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    /// Monday, 23 November 2026, 00:00 UTC.
    const MONDAY: i64 = 1_795_392_000_000;

    /// A clock that is moved by hand.
    struct Clock {
        start: Instant,
        passed: Duration,
    }

    impl Clock {
        fn new() -> Self {
            Self { start: Instant::now(), passed: Duration::ZERO }
        }

        fn moment(&self, has_work: bool, moved: u64) -> Moment {
            let utc_ms = MONDAY + self.passed.as_millis() as i64;
            Moment { now: self.start + self.passed, utc_ms, has_work, moved, paused: None }
        }

        fn after(&self, time: Duration) -> Instant {
            self.start + time
        }
    }

    fn night() -> MqttSchedule {
        "0-29 2 * * *".parse().map(MqttSchedule::Cron).unwrap_or_default()
    }

    #[test]
    fn without_a_schedule_the_connection_always_stands() {
        let mut presence = Presence::new(Wishes::default());
        assert_eq!(presence.decide(Clock::new().moment(false, 0)), Decision::Up(None));
    }

    #[test]
    fn a_schedule_is_followed_to_the_minute_whatever_waits_to_be_sent() {
        let mut presence = Presence::new(Wishes { schedule: night(), idle: MINUTE, ..Default::default() });
        let mut clock = Clock::new();
        let mut up = Vec::new();
        while clock.passed < 24 * 60 * MINUTE {
            match presence.decide(clock.moment(true, 1)) {
                Decision::Up(next) => {
                    up.push(clock.passed);
                    assert!(next.is_some_and(|next| next > clock.after(clock.passed)));
                }
                Decision::Down(next) => assert!(next > clock.after(clock.passed)),
            }
            clock.passed += MINUTE;
        }
        assert_eq!((up.first(), up.last(), up.len()), (Some(&(120 * MINUTE)), Some(&(149 * MINUTE)), 30));
    }

    #[test]
    fn the_next_look_is_at_the_change_and_never_far_away() {
        let mut presence = Presence::new(Wishes { schedule: night(), ..Default::default() });
        let mut clock = Clock::new();
        assert_eq!(presence.decide(clock.moment(false, 0)), Decision::Down(clock.after(LOOK)));
        clock.passed = 119 * MINUTE;
        assert_eq!(presence.decide(clock.moment(false, 0)), Decision::Down(clock.after(120 * MINUTE)));
        clock.passed = 120 * MINUTE;
        assert_eq!(presence.decide(clock.moment(false, 0)), Decision::Up(Some(clock.after(120 * MINUTE + LOOK))));
    }

    #[test]
    fn on_demand_it_stands_from_the_first_need_until_it_was_idle() {
        let never = MqttSchedule::Never;
        let mut presence =
            Presence::new(Wishes { schedule: never, on_demand: true, idle: MINUTE, ..Default::default() });
        let mut clock = Clock::new();
        assert!(matches!(presence.decide(clock.moment(false, 0)), Decision::Down(_)));
        clock.passed = 10 * SECOND;
        assert_eq!(presence.decide(clock.moment(true, 0)), Decision::Up(Some(clock.after(70 * SECOND))));
        clock.passed = 20 * SECOND;
        assert_eq!(presence.decide(clock.moment(false, 1)), Decision::Up(Some(clock.after(80 * SECOND))));
        clock.passed = 79 * SECOND;
        assert_eq!(presence.decide(clock.moment(false, 1)), Decision::Up(Some(clock.after(80 * SECOND))));
        clock.passed = 80 * SECOND;
        assert!(matches!(presence.decide(clock.moment(false, 1)), Decision::Down(_)));
        clock.passed = 500 * SECOND;
        assert!(matches!(presence.decide(clock.moment(false, 1)), Decision::Down(_)));
        assert!(matches!(presence.decide(clock.moment(true, 1)), Decision::Up(_)));
    }

    #[test]
    fn the_start_waits_for_the_delay_and_a_random_time_and_a_need_does_not() {
        let wishes =
            Wishes { delay: 10 * SECOND, jitter: 20 * SECOND, idle: SECOND, on_demand: true, ..Default::default() };
        for _ in 0..50 {
            let (mut presence, mut clock) = (Presence::new(wishes.clone()), Clock::new());
            let Decision::Down(opens) = presence.decide(clock.moment(false, 0)) else { panic!("connected at once") };
            assert!(opens >= clock.after(10 * SECOND) && opens <= clock.after(30 * SECOND));
            assert!(matches!(presence.decide(clock.moment(true, 0)), Decision::Up(Some(_))));
            clock.passed = 31 * SECOND;
            assert_eq!(presence.decide(clock.moment(false, 0)), Decision::Up(None));
        }
    }

    #[test]
    fn a_pause_counts_more_than_all_else() {
        let (mut presence, mut clock) = (Presence::new(Wishes::default()), Clock::new());
        let paused = Some(clock.after(MINUTE));
        assert_eq!(presence.decide(Moment { paused, ..clock.moment(true, 1) }), Decision::Down(clock.after(MINUTE)));
        clock.passed = MINUTE;
        assert_eq!(presence.decide(Moment { paused, ..clock.moment(true, 1) }), Decision::Up(None));
    }
}
