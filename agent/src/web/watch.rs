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
    /// How many owed a head when it was last counted.
    owing: Cell<usize>,
}

#[derive(Default)]
struct Slots {
    entries: Vec<Option<Rc<Entry>>>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Entry {
    at: Cell<Option<Instant>>,
    claim: Cell<Claim>,
    is_evicted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// How well a connection deserves its place when others wait for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is at work.
    #[default]
    Busy,
    /// Since then the first byte is awaited. Goes first, as the next.
    Silent(Instant),
    /// Since then the end of a TLS handshake or of a request's head is awaited.
    Headless(Instant),
    /// Since then it waits for another request.
    Idle(Instant),
    /// An event stream or a WebSocket that waits for something to tell; it ends with the server only.
    Live,
}

/// What became of the search for a connection that makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eviction {
    /// One ends now.
    Evicted,
    /// There are some that owe a head or are idle, and are still given time.
    Later {
        /// Most owe a head.
        flood: bool,
    },
    /// All are at work.
    Nobody,
}

/// Connections of one sort, and the one that is so for the longest time.
#[derive(Default)]
struct Candidates<'a> {
    count: usize,
    first: Option<(Instant, &'a Entry)>,
}

impl<'a> Candidates<'a> {
    fn add(&mut self, since: Instant, entry: &'a Entry) {
        self.count += 1;
        if self.first.is_none_or(|(first, _)| since < first) {
            self.first = Some((since, entry));
        }
    }

    /// The first, if it is over this time.
    fn over(&self, now: Instant, grace: Duration) -> Option<&'a Entry> {
        self.first.filter(|(since, _)| now.saturating_duration_since(*since) >= grace).map(|(_, entry)| entry)
    }
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

    /// Ends the wait of all connections that wait for a request, and of event streams and WebSockets.
    pub fn expire_idle(&self) {
        let now = Instant::now();
        for entry in self.slots.borrow().entries.iter().flatten() {
            if matches!(entry.claim.get(), Claim::Silent(_) | Claim::Idle(_) | Claim::Live) {
                entry.expire(now);
            }
        }
    }

    /// Ends the wait of the connection with the weakest claim to its place: the one that owes the head of a request for the
    /// longest time, if that is at least `head`; else the one that is idle for the longest time, if that is at least `idle`.
    /// Where most of all connections owe a head there may be an attack, and the idle ones are left alone; `more` of them, of
    /// another thread, owe one, and so many are there in all.
    pub fn evict(&self, head: Duration, idle: Duration, (more, all): (usize, usize)) -> Eviction {
        let now = Instant::now();
        let slots = self.slots.borrow();
        let (mut owing, mut waiting) = (Candidates::default(), Candidates::default());
        for entry in slots.entries.iter().flatten() {
            match entry.claim.get() {
                Claim::Silent(since) | Claim::Headless(since) => owing.add(since, entry),
                Claim::Idle(since) => waiting.add(since, entry),
                Claim::Busy | Claim::Live => {}
            }
        }
        self.owing.set(owing.count);
        let flood = owing.count + more > all / 2;
        let found = owing.over(now, head).or_else(|| if flood { None } else { waiting.over(now, idle) });
        match found {
            Some(entry) => {
                entry.claim.set(Claim::Busy);
                entry.is_evicted.set(true);
                entry.expire(now);
                Eviction::Evicted
            }
            None if owing.count + waiting.count > 0 => Eviction::Later { flood },
            None => Eviction::Nobody,
        }
    }

    /// How many owed a head when [`Watch::evict`] last counted them.
    pub fn owing(&self) -> usize {
        self.owing.get()
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

    /// Says what the connection does.
    pub fn set_claim(&self, claim: Claim) {
        self.entry.claim.set(claim);
    }

    /// What the connection does.
    pub fn claim(&self) -> Claim {
        self.entry.claim.get()
    }

    /// Whether the connection has to make room for another.
    pub fn is_evicted(&self) -> bool {
        self.entry.is_evicted.get()
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
    fn those_that_owe_a_head_make_room_first_then_the_idle_the_longest_first() {
        run(async |watch| {
            let all: Vec<Deadline> = (0..6).map(|_| watch.deadline()).collect();
            let far = Instant::now() + Duration::from_secs(3600);
            all.iter().for_each(|deadline| deadline.set(far));
            let ago = |seconds| Instant::now() - Duration::from_secs(seconds);
            all[1].set_claim(Claim::Idle(ago(9)));
            all[2].set_claim(Claim::Headless(ago(1)));
            all[3].set_claim(Claim::Silent(ago(2)));
            all[4].set_claim(Claim::Idle(ago(8)));
            all[5].set_claim(Claim::Live);
            let over = || -> Vec<usize> { (0..6).filter(|at| all[*at].entry.at.get() != Some(far)).collect() };
            let (none, long) = (Duration::ZERO, Duration::from_secs(60));
            let later = |flood| Eviction::Later { flood };
            assert_eq!((watch.evict(long, long, (0, 5)), over()), (later(false), vec![]));
            assert_eq!((watch.evict(long, none, (0, 3)), over()), (later(true), vec![]), "most owe a head");
            assert_eq!((watch.evict(none, long, (0, 5)), over()), (Eviction::Evicted, vec![3]));
            assert_eq!((watch.evict(none, long, (0, 5)), over()), (Eviction::Evicted, vec![2, 3]));
            assert_eq!((watch.evict(none, long, (0, 5)), over()), (later(false), vec![2, 3]));
            assert_eq!((watch.evict(none, none, (0, 5)), over()), (Eviction::Evicted, vec![1, 2, 3]));
            assert!(all[1].is_evicted() && !all[4].is_evicted());
            assert_eq!(watch.evict(none, none, (4, 6)), later(true), "most of another thread owe a head");
            watch.expire_idle();
            assert_eq!(over(), [1, 2, 3, 4, 5]);
            assert_eq!(watch.evict(none, none, (0, 5)), Eviction::Evicted);
            assert_eq!(watch.evict(none, none, (0, 5)), Eviction::Nobody);
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
