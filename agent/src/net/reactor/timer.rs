//! Deadlines that the wait for events keeps itself: they need no descriptor and no system call.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::Reactor;

/// Deadlines with who waits for them.
#[derive(Default)]
pub(super) struct Timers {
    waiting: BTreeMap<(Instant, u64), Waker>,
    last: u64,
}

impl Timers {
    /// The nearest.
    pub fn first(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// Those that are over, taken out.
    pub fn take_due(&mut self, now: Instant) -> Vec<Waker> {
        let later = self.waiting.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.waiting, later).into_values().collect()
    }
}

/// A future that is ready at some time. It may be a moment late, never early.
pub struct Timer {
    reactor: Rc<Reactor>,
    at: Option<Instant>,
    key: Option<(Instant, u64)>,
}

impl Timer {
    /// A timer for this thread; `None` never ends.
    ///
    /// # Errors
    /// As [`Reactor::current`].
    pub fn new(at: Option<Instant>) -> io::Result<Self> {
        Ok(Self { reactor: Reactor::current()?, at, key: None })
    }

    /// Ends at another time.
    pub fn set(&mut self, at: Option<Instant>) {
        self.withdraw();
        self.at = at;
    }

    fn withdraw(&mut self) {
        if let Some(key) = self.key.take() {
            self.reactor.timers.borrow_mut().waiting.remove(&key);
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        if at <= Instant::now() {
            self.withdraw();
            return Poll::Ready(());
        }
        let key = match self.key {
            Some(key) => key,
            None => {
                let mut timers = self.reactor.timers.borrow_mut();
                timers.last += 1;
                (at, timers.last)
            }
        };
        let was = self.reactor.timers.borrow().first();
        self.reactor.timers.borrow_mut().waiting.insert(key, cx.waker().clone());
        self.key = Some(key);
        if was.is_none_or(|was| at < was) {
            self.reactor.timers_changed();
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.withdraw();
    }
}
