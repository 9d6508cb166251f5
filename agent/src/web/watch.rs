//! The deadlines of all connections, kept by one timer.
//!
//! A timer for each read would cost more system calls than the read: most deadlines are set, and passed in time, thousands of
//! times a second. Here setting one is a store to a cell; the sweep sleeps until the nearest deadline that it knows of and
//! looks again. An idle server wakes for nothing.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::net::reactor::Timer;

/// The sweep never runs more often than this, so deadlines may be late by as much.
const RESOLUTION: Duration = Duration::from_millis(20);

/// All deadlines of one thread.
#[derive(Default)]
pub(super) struct Watch {
    slots: RefCell<Slots>,
    /// When the sweep wakes next.
    next: Cell<Option<Instant>>,
    sweep: RefCell<Option<Waker>>,
}

#[derive(Default)]
struct Slots {
    entries: Vec<Option<Rc<Entry>>>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Entry {
    at: Cell<Option<Instant>>,
    /// Since when the connection waits for a request.
    idle_since: Cell<Option<Instant>>,
    waker: RefCell<Option<Waker>>,
}

/// One deadline; its place is freed when it is dropped.
pub(super) struct Deadline {
    watch: Rc<Watch>,
    entry: Rc<Entry>,
    slot: usize,
}

impl Watch {
    /// A new deadline, not set.
    pub fn deadline(self: &Rc<Self>) -> Deadline {
        let entry = Rc::new(Entry::default());
        let mut slots = self.slots.borrow_mut();
        let slot = match slots.free.pop() {
            Some(slot) => slot,
            None => {
                slots.entries.push(None);
                slots.entries.len() - 1
            }
        };
        if let Some(place) = slots.entries.get_mut(slot) {
            *place = Some(entry.clone());
        }
        Deadline { watch: self.clone(), entry, slot }
    }

    /// Wakes whoever is over its deadline, for ever.
    ///
    /// # Errors
    /// The system gives no more descriptors.
    pub async fn run(&self) -> io::Result<()> {
        let mut timer = Timer::new(None)?;
        loop {
            let nearest = self.sweep(Instant::now());
            self.next.set(nearest);
            self.wait(nearest, &mut timer).await;
        }
    }

    /// Ends the wait of all connections that wait for a request.
    pub fn expire_idle(&self) {
        let now = Instant::now();
        for entry in self.slots.borrow().entries.iter().flatten() {
            if entry.idle_since.get().is_some() {
                entry.expire(now);
            }
        }
    }

    /// Ends the wait of the connection that waits longest for a request, if that is longer than `grace`. `false`: there is none.
    pub fn expire_longest_idle(&self, grace: Duration) -> bool {
        let now = Instant::now();
        let slots = self.slots.borrow();
        let longest = slots.entries.iter().flatten().filter(|entry| entry.idle_since.get().is_some());
        match longest.min_by_key(|entry| entry.idle_since.get()) {
            Some(entry)
                if entry.idle_since.get().is_some_and(|since| now.saturating_duration_since(since) >= grace) =>
            {
                entry.idle_since.set(None);
                entry.expire(now);
                true
            }
            _ => false,
        }
    }

    /// Wakes the expired; the nearest deadline of the others.
    fn sweep(&self, now: Instant) -> Option<Instant> {
        let mut nearest = None;
        for entry in self.slots.borrow().entries.iter().flatten() {
            match entry.at.get() {
                Some(at) if at <= now => entry.wake(),
                Some(at) => nearest = Some(nearest.map_or(at, |nearest: Instant| nearest.min(at))),
                None => {}
            }
        }
        nearest
    }

    async fn wait(&self, planned: Option<Instant>, timer: &mut Timer) {
        let earliest = Instant::now() + RESOLUTION;
        let mut planned = planned;
        timer.set(planned.map(|at| at.max(earliest)));
        poll_fn(|cx| {
            *self.sweep.borrow_mut() = Some(cx.waker().clone());
            if self.next.get() != planned {
                planned = self.next.get();
                timer.set(Some(planned.map_or(earliest, |at| at.max(earliest))));
            }
            Pin::new(&mut *timer).poll(cx)
        })
        .await;
    }

    fn announce(&self, at: Instant) {
        if self.next.get().is_none_or(|next| at < next) {
            self.next.set(Some(at));
            if let Some(waker) = self.sweep.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
    }
}

impl Entry {
    fn expire(&self, now: Instant) {
        self.at.set(Some(now));
        self.wake();
    }

    fn wake(&self) {
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Deadline {
    /// Sets it, or moves it.
    pub fn set(&self, at: Instant) {
        self.entry.at.set(Some(at));
        self.watch.announce(at);
    }

    /// It has no meaning until it is set again.
    pub fn clear(&self) {
        self.entry.at.set(None);
    }

    /// Marks the connection as waiting for a request, or not.
    pub fn set_idle(&self, idle: bool) {
        self.entry.idle_since.set(idle.then(Instant::now));
    }

    /// Ready once it is over; otherwise the task is woken then.
    pub fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.entry.at.get().is_some_and(|at| at <= Instant::now()) {
            return Poll::Ready(());
        }
        let mut waker = self.entry.waker.borrow_mut();
        match waker.as_mut() {
            Some(known) => known.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// The future's result, or `None` when it is not ready by `at`, or by what was [`Deadline::set`] meanwhile.
    pub async fn limit<T>(&self, at: Instant, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut set = false;
        self.clear();
        let result = poll_fn(|cx| {
            if let Poll::Ready(result) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(result));
            }
            if !set {
                set = true;
                if self.entry.at.get().is_none() {
                    self.set(at);
                }
            }
            self.poll_over(cx).map(|()| None)
        })
        .await;
        self.clear();
        result
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut slots = self.watch.slots.borrow_mut();
        if let Some(place) = slots.entries.get_mut(self.slot) {
            *place = None;
        }
        slots.free.push(self.slot);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use smol::{LocalExecutor, Timer};

    use super::*;
    use crate::net::reactor::block_on;

    fn run(test: impl AsyncFnOnce(Rc<Watch>)) {
        let executor = LocalExecutor::new();
        let watch = Rc::new(Watch::default());
        block_on(executor.run(async {
            let sweeping = watch.clone();
            let _sweep = executor.spawn(async move { sweeping.run().await });
            test(watch).await;
        }));
    }

    #[test]
    fn a_deadline_ends_what_is_late_and_not_what_is_in_time() {
        run(async |watch| {
            let deadline = watch.deadline();
            let start = Instant::now();
            let late = deadline.limit(start + Duration::from_millis(60), std::future::pending::<()>()).await;
            assert_eq!(late, None);
            let passed = start.elapsed();
            assert!(passed >= Duration::from_millis(60) && passed < Duration::from_secs(2), "{passed:?}");
            let in_time = deadline.limit(Instant::now() + Duration::from_secs(60), async { 7 }).await;
            assert_eq!(in_time, Some(7));
        });
    }

    #[test]
    fn a_limit_can_be_moved_by_what_it_limits() {
        run(async |watch| {
            let deadline = Rc::new(watch.deadline());
            let start = Instant::now();
            let moving = deadline.clone();
            let work = async move {
                for _ in 0..4 {
                    moving.set(Instant::now() + Duration::from_secs(5));
                    Timer::after(Duration::from_millis(30)).await;
                }
                moving.set(Instant::now() + Duration::from_millis(50));
                std::future::pending::<()>().await
            };
            assert_eq!(deadline.limit(start + Duration::from_millis(40), work).await, None);
            let passed = start.elapsed();
            assert!(passed >= Duration::from_millis(170) && passed < Duration::from_secs(3), "{passed:?}");
        });
    }

    #[test]
    fn a_nearer_deadline_shortens_the_sleep_of_the_sweep() {
        run(async |watch| {
            let (far, near) = (watch.deadline(), watch.deadline());
            far.set(Instant::now() + Duration::from_secs(3600));
            Timer::after(Duration::from_millis(50)).await;
            let start = Instant::now();
            near.limit(start + Duration::from_millis(60), std::future::pending::<()>()).await;
            assert!(start.elapsed() < Duration::from_secs(2));
        });
    }

    #[test]
    fn only_those_that_are_idle_are_ended_the_longest_first() {
        run(async |watch| {
            let all: Vec<Deadline> = (0..3).map(|_| watch.deadline()).collect();
            let far = Instant::now() + Duration::from_secs(3600);
            all.iter().for_each(|deadline| deadline.set(far));
            all[1].set_idle(true);
            Timer::after(Duration::from_millis(5)).await;
            all[2].set_idle(true);
            let over = |deadline: &Deadline| deadline.entry.at.get() != Some(far);
            watch.expire_longest_idle(Duration::from_secs(10));
            assert!(!all.iter().any(over));
            watch.expire_longest_idle(Duration::ZERO);
            assert_eq!(all.iter().map(over).collect::<Vec<_>>(), [false, true, false]);
            watch.expire_idle();
            assert_eq!(all.iter().map(over).collect::<Vec<_>>(), [false, true, true]);
        });
    }

    #[test]
    fn places_are_used_again() {
        let watch = Rc::new(Watch::default());
        for _ in 0..100 {
            let _pair = (watch.deadline(), watch.deadline());
        }
        assert_eq!(watch.slots.borrow().entries.len(), 2);
    }
}
