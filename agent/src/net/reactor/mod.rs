//! One thread's wait for sockets and deadlines, for servers that answer many small requests.
//!
//! A socket is registered once in its life and remembers whether it is ready, so a request costs one wait, one read and one
//! write. [`block_on`] waits right here: no other thread, timer or descriptor takes part in that. What runs on smol's own
//! reactor (`smol::Timer`, `Async`, `unblock`) is driven by its background thread meanwhile and wakes this one.
//!
//! Where the futures run under `smol::block_on` instead, [`Reactor::drive`] passes the events on: dearer, and otherwise the
//! same.

mod notice;
mod source;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod timer;

use std::cell::{Cell, OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use smol::Async;

use self::notice::Notice;
pub use self::source::Source;
use self::source::Sources;
pub use self::timer::Timer;
use self::timer::Timers;

/// Events taken from the kernel at once.
const EVENTS: usize = 256;
/// Seconds that one wait takes at most.
const LONGEST: u64 = 24 * 60 * 60;
/// The key of what is no socket.
const NOTICE: u64 = u64::MAX;

thread_local! {
    static CURRENT: OnceCell<Rc<Reactor>> = const { OnceCell::new() };
}

/// The sockets and deadlines that one thread waits for.
pub struct Reactor {
    epoll: OwnedFd,
    sources: RefCell<Sources>,
    timers: RefCell<Timers>,
    notice: Arc<Notice>,
    /// [`block_on`] runs on this thread.
    driven: Cell<bool>,
    /// When events were last taken.
    now: Cell<Instant>,
    events: RefCell<Vec<Event>>,
}

impl Reactor {
    /// The one of this thread; it is made when it is first asked for.
    ///
    /// # Errors
    /// The system gives no more descriptors.
    pub fn current() -> io::Result<Rc<Self>> {
        CURRENT.with(|current| match current.get() {
            Some(reactor) => Ok(reactor.clone()),
            None => {
                let reactor = Rc::new(Self::new()?);
                Ok(current.get_or_init(|| reactor).clone())
            }
        })
    }

    fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let notice = Arc::new(Notice::new()?);
        // Each write is an event of its own, so what is written is never read.
        epoll::add(&epoll, notice.descriptor(), EventData::new_u64(NOTICE), EventFlags::IN | EventFlags::ET)?;
        Ok(Self {
            epoll,
            sources: RefCell::default(),
            timers: RefCell::default(),
            notice,
            driven: Cell::new(false),
            now: Cell::new(Instant::now()),
            events: RefCell::new(Vec::with_capacity(EVENTS)),
        })
    }

    /// The time. Under [`block_on`] that of the last events, which is old only while a task keeps the thread.
    pub fn now(&self) -> Instant {
        match self.driven.get() {
            true => self.now.get(),
            false => Instant::now(),
        }
    }

    /// Passes events on where nobody else does: futures that use the reactor under `smol::block_on` need this beside them.
    /// Never ends, unless the system refuses.
    pub async fn drive(&self) {
        let Ok(watched) = self.epoll.try_clone().and_then(Async::new_nonblocking) else {
            log::error!("the web server cannot wait for its sockets");
            return;
        };
        let mut timer = smol::Timer::never();
        poll_fn(|cx| self.poll_drive(cx, &watched, &mut timer)).await;
    }

    fn poll_drive(&self, cx: &mut Context<'_>, watched: &Async<OwnedFd>, timer: &mut smol::Timer) -> Poll<()> {
        if self.driven.get() {
            return Poll::Pending;
        }
        loop {
            self.turn(Some(Duration::ZERO));
            match self.timers.borrow().first() {
                Some(at) => timer.set_at(at),
                None => *timer = smol::Timer::never(),
            }
            let is_late = Pin::new(&mut *timer).poll(cx).is_ready();
            if !is_late && watched.poll_readable(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Waits for something to happen and wakes whom it concerns.
    fn wait(&self) {
        // Someone may have woken us in the meantime.
        let limit = match self.notice.park() {
            true => self.timers.borrow().first().map(|at| at.saturating_duration_since(Instant::now())),
            false => Some(Duration::ZERO),
        };
        self.turn(limit);
    }

    /// Takes events, waiting so long for the first, and wakes whom they concern.
    fn turn(&self, limit: Option<Duration>) {
        // The kernel counts milliseconds in 32 bits; whoever is woken too early waits again.
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs().min(LONGEST) as i64,
            tv_nsec: limit.subsec_nanos().into(),
        });
        let mut events = std::mem::take(&mut *self.events.borrow_mut());
        events.clear();
        // An error is an interruption: the caller turns again.
        let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), limit.as_ref());
        // Before anyone is woken here: that is no reason to write.
        self.notice.unpark();
        self.now.set(Instant::now());
        for event in &events {
            let (key, flags) = (event.data.u64(), event.flags);
            let state = self.sources.borrow().get(key);
            if let Some(state) = state {
                state.happened(flags);
            }
        }
        *self.events.borrow_mut() = events;
        if self.timers.borrow().first().is_some_and(|at| at <= self.now.get()) {
            let due = self.timers.borrow_mut().take_due(self.now.get());
            due.into_iter().for_each(Waker::wake);
        }
    }

    /// The nearest deadline may be nearer now: whoever drives looks again.
    fn timers_changed(&self) {
        if !self.driven.get() {
            self.notice.write();
        }
    }
}

/// Runs a future on this thread and waits where it waits, with this thread's [`Reactor`].
///
/// Inside of another such call it is `smol::block_on`.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let reactor = match Reactor::current() {
        Ok(reactor) if !reactor.driven.replace(true) => reactor,
        _ => return smol::block_on(future),
    };
    let _driven = Driven(&reactor);
    let waker = Waker::from(reactor.notice.clone());
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        reactor.notice.forget();
        if let Poll::Ready(result) = future.as_mut().poll(&mut cx) {
            return result;
        }
        reactor.wait();
    }
}

/// Marks the reactor as driven.
struct Driven<'a>(&'a Reactor);

impl Drop for Driven<'_> {
    fn drop(&mut self) {
        self.0.driven.set(false);
    }
}
