//! Deadlines that move.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use super::Deadline;

/// A deadline that lives as long as what waits for it, a connection or a loop.
///
/// Setting one costs a lock, and a fast transfer has no time for that. So it stands where it was set, even for a request that has
/// ended long ago, and what it rings for is looked up when it rings.
#[derive(Default)]
pub struct Alarm(Option<(Instant, Deadline)>);

impl Alarm {
    /// Ready when the deadline has passed.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        loop {
            let (at, set) = self.0.get_or_insert_with(|| (deadline, Deadline::at(deadline)));
            if *at <= deadline && Pin::new(set).poll(cx).is_pending() {
                return Poll::Pending;
            }
            // It is nearer, or has moved on by the time it rings.
            self.0 = None;
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_rings_at_the_deadline_that_is_asked_for_last() {
        smol::block_on(async {
            let (start, mut alarm) = (Instant::now(), Alarm::default());
            let at = |millis| start + Duration::from_millis(millis);
            let mut polls = 0;
            poll_fn(|cx| {
                polls += 1;
                // The first deadline moves away, as with a transfer that goes on.
                alarm.poll(cx, if polls == 1 { at(50) } else { at(200) })
            })
            .await;
            assert!(start.elapsed() >= Duration::from_millis(200));
            assert!(polls <= 3, "{polls}");
            let soon = Instant::now() + Duration::from_millis(20);
            let mut far = true;
            poll_fn(|cx| {
                let deadline = if std::mem::take(&mut far) { soon + Duration::from_secs(60) } else { soon };
                match alarm.poll(cx, deadline) {
                    Poll::Pending if deadline != soon => alarm.poll(cx, soon),
                    other => other,
                }
            })
            .await;
            assert!(soon.elapsed() < Duration::from_secs(5));
        });
    }
}
