//! Wakes a thread that waits, from any thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Wake;

use rustix::event::{EventfdFlags, eventfd};

/// The thread runs, and nobody woke it since it looked last.
const RUNNING: u8 = 0;
/// The thread waits, or is about to: a wake must write.
const PARKED: u8 = 1;
/// Someone woke it; it looks again before it waits.
const WOKEN: u8 = 2;

/// The waker of a thread. It costs a system call only when the thread really waits.
pub(super) struct Notice {
    state: AtomicU8,
    descriptor: OwnedFd,
}

impl Notice {
    pub fn new() -> io::Result<Self> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { state: AtomicU8::new(RUNNING), descriptor })
    }

    /// What the thread waits for.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// What was woken until now is about to be done.
    pub fn forget(&self) {
        self.state.swap(RUNNING, Ordering::AcqRel);
    }

    /// From now on a wake writes. `false`: someone woke the thread since [`Notice::forget`], so it must not wait.
    pub fn park(&self) -> bool {
        self.state.compare_exchange(RUNNING, PARKED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The thread waits no more.
    pub fn unpark(&self) {
        // Woken or not, it looks now.
        self.state.store(RUNNING, Ordering::Release);
    }

    /// Ends the wait.
    pub fn write(&self) {
        // It fails only when the counter is full, and then it is an event all the same.
        let _ = rustix::io::write(&self.descriptor, &1u64.to_ne_bytes());
    }
}

impl Wake for Notice {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == PARKED {
            self.write();
        }
    }
}
