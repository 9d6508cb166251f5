//! What the connections of one thread share without locks.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use smol::Task;
use smol::channel::Sender;

use super::access::Pot;
use super::date::DateCache;
use super::open_files::OpenFiles;
use super::proxy::Pools;
use super::root::OpenRoot;
use super::validators::EtagCache;
use super::watch::Watch;
use crate::net::reactor::Reactor;

/// Bytes that one read takes from a socket.
const SCRATCH: usize = 16 * 1024;
/// Bytes of a new buffer for a response: its head, or a little more.
const HEAD: usize = 1024;
/// Buffers that are kept for responses, and the most bytes of one.
const SPARES: usize = 8;
const MAX_SPARE: usize = 20 * 1024;

/// One thread's part of the server.
pub(super) struct Local {
    pub reactor: Rc<Reactor>,
    pub watch: Rc<Watch>,
    pub date: DateCache,
    pub etags: EtagCache,
    pub root: OpenRoot,
    pub files: OpenFiles,
    /// Where all connections receive: one that waits owns no buffer.
    pub scratch: RefCell<Box<[u8]>>,
    /// Buffers of responses that were sent, for the next ones.
    spare: RefCell<Vec<Vec<u8>>>,
    pub connections: Connections,
    /// Asks the other threads for places.
    pub neighbours: Vec<Sender<()>>,
    /// Where lines of the access log gather.
    pub access: OnceCell<Arc<Pot>>,
    /// Connections to programs behind this server.
    pub programs: Pools,
    /// The server is full, others wait, and all connections are at work.
    pub crowded: Cell<bool>,
    /// Connections without a place that are being refused.
    pub lingering: Cell<usize>,
}

impl Local {
    /// # Errors
    /// The system gives no more descriptors.
    pub fn new(neighbours: Vec<Sender<()>>) -> io::Result<Self> {
        Ok(Self {
            reactor: Reactor::current()?,
            watch: Rc::default(),
            date: DateCache::default(),
            etags: EtagCache::default(),
            root: OpenRoot::default(),
            files: OpenFiles::default(),
            scratch: RefCell::new(vec![0; SCRATCH].into()),
            spare: RefCell::default(),
            connections: Connections::default(),
            programs: Pools::default(),
            access: OnceCell::new(),
            neighbours,
            crowded: Cell::default(),
            lingering: Cell::default(),
        })
    }

    /// An empty buffer for a response.
    pub fn take_spare(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(HEAD))
    }

    /// Takes a buffer back. Few are kept, and no large ones.
    pub fn give_spare(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if (1..=MAX_SPARE).contains(&buffer.capacity()) && spare.len() < SPARES {
            buffer.clear();
            spare.push(buffer);
        }
    }

    /// Asks the other threads for a place.
    pub fn ask_neighbours(&self) {
        for neighbour in &self.neighbours {
            // One that was not answered yet is as good as two.
            let _ = neighbour.try_send(());
        }
    }
}

/// The tasks of the open connections. Dropping a task ends its connection.
#[derive(Default)]
pub(super) struct Connections {
    inner: RefCell<(u64, HashMap<u64, Task<()>>)>,
}

impl Connections {
    /// A number for the next connection.
    pub fn number(&self) -> u64 {
        let mut inner = self.inner.borrow_mut();
        inner.0 += 1;
        inner.0
    }

    /// Keeps the task until [`Connections::ended`].
    pub fn keep(&self, number: u64, task: Task<()>) {
        self.inner.borrow_mut().1.insert(number, task);
    }

    /// The task of that connection comes to its end by itself.
    pub fn ended(&self, number: u64) {
        let task = self.inner.borrow_mut().1.remove(&number);
        if let Some(task) = task {
            task.detach();
        }
    }

    pub fn count(&self) -> usize {
        self.inner.borrow().1.len()
    }

    /// Ends all connections at once.
    pub fn abort(&self) {
        let tasks = std::mem::take(&mut self.inner.borrow_mut().1);
        drop(tasks);
    }
}
