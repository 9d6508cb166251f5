//! When to look for what the broker has answered: at once, or in a moment.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::Future;

/// With fewer messages in flight nothing is to be gained: each answer is looked for at once.
const FEW: usize = 8;

/// What each message in flight adds to the moment. It is less than brokers take for a message, so that they never wait
/// for us with nothing left to do.
const EACH: Duration = Duration::from_micros(5);

/// No answer is looked for later than this.
const LONGEST: Duration = Duration::from_millis(1);

/// A moment in which nothing is read.
///
/// A broker acknowledges messages one by one, each with a packet of four bytes. Who waits for a hundred of them and
/// reads whenever there is something to read is woken for each, to send one message in its place, and waking up costs
/// many times what a message does. So who has read all there was, and waits for many more, looks again in a moment; by
/// then there is more to read at once, and room for more to write at once.
#[derive(Default)]
pub(super) struct Lull {
    until: Option<(Instant, Timer)>,
}

impl Lull {
    /// All was read that was there; so many messages wait for their acknowledgement.
    pub fn begin(&mut self, in_flight: usize, now: Instant) {
        if in_flight >= FEW && self.until.is_none() {
            let moment = EACH.saturating_mul(u32::try_from(in_flight).unwrap_or(u32::MAX));
            let until = now + moment.min(LONGEST);
            self.until = Some((until, Timer::at(until)));
        }
    }

    /// Whether to read now.
    pub fn is_over(&mut self, now: Instant) -> bool {
        if self.until.as_ref().is_some_and(|(until, _)| now >= *until) {
            self.until = None;
        }
        self.until.is_none()
    }

    /// Ready at the end of the moment; never without one.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((_, timer)) = &mut self.until else { return Poll::Pending };
        let rung = Pin::new(timer).poll(cx);
        if rung.is_ready() {
            self.until = None;
        }
        rung.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_messages_in_flight_make_a_moment_and_few_make_none() {
        let start = Instant::now();
        for (in_flight, moment) in [(0, 0), (7, 0), (8, 40), (100, 500), (65_535, 1000)] {
            let mut lull = Lull::default();
            assert!(lull.is_over(start));
            lull.begin(in_flight, start);
            let moment = Duration::from_micros(moment);
            assert_eq!(lull.is_over(start), moment.is_zero(), "{in_flight} in flight");
            assert!(lull.is_over(start + moment), "{in_flight} in flight");
        }
    }

    #[test]
    fn a_moment_is_not_made_longer_by_a_second_beginning_and_ends_by_itself() {
        let start = Instant::now();
        let mut lull = Lull::default();
        lull.begin(100, start);
        lull.begin(100, start + Duration::from_micros(400));
        assert!(lull.is_over(start + Duration::from_micros(500)));
        lull.begin(100, start);
        smol::block_on(std::future::poll_fn(|cx| lull.poll(cx)));
        assert!(lull.is_over(start));
    }
}
