//! Descriptors that remember whether they are ready.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use rustix::event::epoll::{self, EventData, EventFlags};

use super::Reactor;

/// A socket of one thread. It must not block.
///
/// It is registered when it is first waited for, and then for its life; closing it ends that.
pub struct Source {
    io: OwnedFd,
    state: Rc<State>,
    key: Cell<Option<u64>>,
    reactor: Rc<Reactor>,
}

/// What is known of a source.
pub(super) struct State {
    reading: Direction,
    writing: Direction,
    /// The peer sends no more, or there is an error: reading never has to wait again.
    ended: Cell<bool>,
}

struct Direction {
    /// Perhaps it goes without waiting.
    ready: Cell<bool>,
    /// The task is to be woken.
    waiting: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

impl Source {
    /// A source of this thread.
    pub fn new(io: OwnedFd, reactor: Rc<Reactor>) -> Self {
        let state = State { reading: Direction::new(), writing: Direction::new(), ended: Cell::new(false) };
        Self { io, state: Rc::new(state), key: Cell::new(None), reactor }
    }

    /// The descriptor.
    pub fn get_ref(&self) -> &OwnedFd {
        &self.io
    }

    /// Does what reads, when it may succeed; otherwise the task is woken when that is so. For one task at a time.
    ///
    /// # Errors
    /// Those of the operation, and of [`Source`] being registered.
    pub fn poll_read<T>(
        &self,
        cx: &mut Context<'_>,
        operation: impl FnMut(&OwnedFd) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        self.poll(&self.state.reading, cx, operation)
    }

    /// As [`Source::poll_read`], for what writes.
    ///
    /// # Errors
    /// As [`Source::poll_read`].
    pub fn poll_write<T>(
        &self,
        cx: &mut Context<'_>,
        operation: impl FnMut(&OwnedFd) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        self.poll(&self.state.writing, cx, operation)
    }

    /// Nothing is there to be read any more, so that trying would be in vain until the kernel says otherwise: for streams of
    /// which less was received than asked for.
    pub fn is_drained(&self) {
        if !self.state.ended.get() {
            self.state.reading.ready.set(false);
        }
    }

    fn poll<T>(
        &self,
        direction: &Direction,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&OwnedFd) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        while direction.ready.get() {
            match operation(&self.io) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => direction.ready.set(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
        direction.wait(cx);
        match self.register() {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Has the kernel tell what happens from now on, and what is there already.
    fn register(&self) -> io::Result<()> {
        if self.key.get().is_some() {
            return Ok(());
        }
        let key = self.reactor.sources.borrow_mut().add(self.state.clone());
        self.key.set(Some(key));
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.reactor.epoll, &self.io, EventData::new_u64(key), flags)?)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Closing the descriptor ends the registration in the kernel. Where a child process has it still for a moment, events
        // come that nobody knows any more.
        if let Some(key) = self.key.get() {
            self.reactor.sources.borrow_mut().remove(key);
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl State {
    /// Notes what the kernel told, and wakes who waits for it.
    pub fn happened(&self, flags: EventFlags) {
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        if broken || flags.contains(EventFlags::RDHUP) {
            self.ended.set(true);
        }
        if broken || flags.intersects(EventFlags::IN | EventFlags::RDHUP) {
            self.reading.wake();
        }
        if broken || flags.contains(EventFlags::OUT) {
            self.writing.wake();
        }
    }
}

impl Direction {
    /// A new socket may be ready: trying costs less than asking.
    fn new() -> Self {
        Self { ready: Cell::new(true), waiting: Cell::new(false), task: RefCell::default() }
    }

    fn wait(&self, cx: &Context<'_>) {
        self.waiting.set(true);
        let mut task = self.task.borrow_mut();
        match task.as_mut() {
            Some(known) => known.clone_from(cx.waker()),
            None => *task = Some(cx.waker().clone()),
        }
    }

    fn wake(&self) {
        self.ready.set(true);
        if self.waiting.replace(false) {
            // The waker stays for the next time. It does not run the task, it only puts it into the executor's queue.
            if let Some(task) = self.task.borrow().as_ref() {
                task.wake_by_ref();
            }
        }
    }
}

/// The registered sources of a thread. A key is a place with the number of its use, so that an event of a source that is gone
/// reaches nobody.
#[derive(Default)]
pub(super) struct Sources {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Place {
    uses: u32,
    state: Option<Rc<State>>,
}

impl Sources {
    fn add(&mut self, state: Rc<State>) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() as u32 - 1
        });
        let Some(place) = self.places.get_mut(index as usize) else { return u64::MAX };
        // Never the last number: that is the key of what is no source.
        place.uses = place.uses.wrapping_add(1) & (u32::MAX >> 1);
        place.state = Some(state);
        u64::from(place.uses) << 32 | u64::from(index)
    }

    fn remove(&mut self, key: u64) {
        let index = key as u32;
        if let Some(place) = self.places.get_mut(index as usize) {
            place.state = None;
            self.free.push(index);
        }
    }

    pub(super) fn get(&self, key: u64) -> Option<Rc<State>> {
        let place = self.places.get(key as u32 as usize)?;
        place.state.clone().filter(|_| u64::from(place.uses) == key >> 32)
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.places.iter().filter(|place| place.state.is_some()).count()
    }
}
