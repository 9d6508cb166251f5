//! A deadline that moves while there is progress.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use smol::Timer;
use smol::future::Future;

/// Ready when nothing moved for some time.
///
/// Moving a timer of the executor costs a lock, and a fast transfer has no time for it: so only a transfer that waits does.
pub(super) struct IdleTimer {
    after: Duration,
    timer: Option<Timer>,
}

impl IdleTimer {
    pub(super) fn new(after: Duration) -> Self {
        Self { after, timer: None }
    }

    pub(super) fn after(&self) -> Duration {
        self.after
    }

    /// Something moved.
    pub(super) fn progress(&mut self) {
        self.timer = None;
    }

    /// Waits; the time runs from the first call after progress.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Timer::after(self.after));
        Pin::new(timer).poll(cx).map(|_| ())
    }
}

/// The time that a request as a whole may take.
pub(super) struct TotalTimer(Option<(Duration, Timer)>);

impl TotalTimer {
    /// Runs from now; nothing: unlimited.
    pub(super) fn new(after: Option<Duration>) -> Self {
        Self(after.map(|after| (after, Timer::after(after))))
    }

    /// Ready with the time allowed when it is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        match &mut self.0 {
            None => Poll::Pending,
            Some((after, timer)) => Pin::new(timer).poll(cx).map(|_| *after),
        }
    }
}
