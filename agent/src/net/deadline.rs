//! Timeouts: deadlines of which few are ever reached.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

static QUEUE: LazyLock<Arc<Queue>> = LazyLock::new(Arc::default);

/// A future that is ready at some time, as `smol::Timer` is, for work that mostly ends before.
///
/// Each timer of smol that is set wakes the thread that waits for all of them. Those here share one, which is moved only when a
/// nearer deadline comes. It stays where it stands when that deadline is given up, and looks for the next when it rings.
pub struct Deadline {
    /// Without, it never ends.
    at: Option<Instant>,
    /// Under which number it is waited for, and who is woken.
    waiting: Option<(u64, Waker)>,
}

impl Deadline {
    /// Ready at this time.
    #[cfg(any(test, feature = "fetch", feature = "mqtt", feature = "sync"))]
    pub fn at(at: Instant) -> Self {
        Self { at: Some(at), waiting: None }
    }

    /// Ready after this time.
    pub fn after(time: Duration) -> Self {
        Self { at: Instant::now().checked_add(time), waiting: None }
    }
}

impl Future for Deadline {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        if at <= Instant::now() {
            return Poll::Ready(());
        }
        let number = match &self.waiting {
            Some((_, waker)) if waker.will_wake(cx.waker()) => return Poll::Pending,
            Some((number, _)) => *number,
            None => QUEUE.number(),
        };
        self.waiting = Some((number, cx.waker().clone()));
        QUEUE.wait((at, number), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let (Some(at), Some((number, _))) = (self.at, &self.waiting) {
            QUEUE.give_up((at, *number));
        }
    }
}

/// All deadlines that are waited for.
#[derive(Default)]
struct Queue {
    numbers: AtomicU64,
    waiting: Mutex<Waiting>,
}

struct Waiting {
    deadlines: BTreeMap<(Instant, u64), Waker>,
    bell: smol::Timer,
    /// When the bell rings; without, it has rung.
    set_to: Option<Instant>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that no other deadline has.
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Has this task be woken at the deadline, and nobody else.
    fn wait(self: &Arc<Self>, deadline: (Instant, u64), waker: Waker) {
        let mut waiting = self.lock();
        let earlier = waiting.deadlines.insert(deadline, waker);
        let is_over = waiting.set_bell(self).is_ready();
        drop(waiting);
        drop(earlier);
        if is_over {
            self.wake_by_ref();
        }
    }

    /// Nobody waits for the deadline any more.
    fn give_up(&self, deadline: (Instant, u64)) {
        let waker = self.lock().deadlines.remove(&deadline);
        // Not while the lock is held: a waker may be the last hold on a task that has deadlines of its own.
        drop(waker);
    }
}

/// The bell rings.
impl Wake for Queue {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        loop {
            let mut waiting = self.lock();
            waiting.set_to = None;
            let due = waiting.take_due();
            let is_over = waiting.set_bell(self).is_ready();
            drop(waiting);
            due.into_values().for_each(Waker::wake);
            if !is_over {
                return;
            }
        }
    }
}

impl Waiting {
    fn take_due(&mut self) -> BTreeMap<(Instant, u64), Waker> {
        let later = self.deadlines.split_off(&(Instant::now(), u64::MAX));
        std::mem::replace(&mut self.deadlines, later)
    }

    /// Moves the bell to the nearest deadline, unless it rings before that anyway. Ready when that one is over.
    fn set_bell(&mut self, queue: &Arc<Queue>) -> Poll<()> {
        let Some((&(nearest, _), _)) = self.deadlines.first_key_value() else { return Poll::Pending };
        if self.set_to.is_some_and(|at| at <= nearest) {
            return Poll::Pending;
        }
        self.set_to = Some(nearest);
        self.bell.set_at(nearest);
        let waker = Waker::from(queue.clone());
        Pin::new(&mut self.bell).poll(&mut Context::from_waker(&waker)).map(drop)
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Self { deadlines: BTreeMap::new(), bell: smol::Timer::never(), set_to: None }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use smol::future::{FutureExt, poll_once};

    use super::*;

    #[test]
    fn it_is_ready_in_time_and_never_before() {
        let start = Instant::now();
        let times = [30, 10, 20, 10, 0, 40].map(Duration::from_millis);
        let threads = times.map(|time| {
            thread::spawn(move || {
                smol::block_on(Deadline::after(time));
                assert!(start.elapsed() >= time, "too early for {time:?}");
                smol::block_on(Deadline::at(start + time));
            })
        });
        threads.into_iter().for_each(|thread| assert!(thread.join().is_ok()));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn what_is_given_up_holds_up_nobody_and_leaves_nothing() {
        smol::block_on(async {
            let far = Deadline::after(Duration::from_secs(3600));
            let mut nearer = Deadline::after(Duration::from_millis(30));
            assert!(poll_once(far).await.is_none());
            assert!(poll_once(&mut nearer).await.is_none());
            drop(nearer);
            // Its bell rings for nobody, and the next is still heard.
            let start = Instant::now();
            Deadline::after(Duration::from_millis(60)).await;
            assert!(start.elapsed() < Duration::from_secs(10));
            assert!(poll_once(Deadline::after(Duration::MAX)).await.is_none());
        });
    }

    #[test]
    fn whoever_polled_last_is_woken() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let [first, second] = [0, 0].map(|_| Arc::new(Count(AtomicUsize::new(0))));
        let mut timer = Deadline::after(Duration::from_millis(20));
        for count in [&first, &second] {
            let waker = Waker::from(count.clone());
            assert!(timer.poll(&mut Context::from_waker(&waker)).is_pending());
        }
        thread::sleep(Duration::from_millis(20));
        let woken = async {
            while second.0.load(Ordering::SeqCst) == 0 {
                smol::Timer::after(Duration::from_millis(5)).await;
            }
        };
        let too_long = async {
            smol::Timer::after(Duration::from_secs(10)).await;
        };
        smol::block_on(woken.or(too_long));
        assert_eq!([first, second].map(|count| count.0.load(Ordering::SeqCst)), [0, 1]);
    }
}
