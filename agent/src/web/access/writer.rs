//! The one thread that writes, and the pots in which the threads of the server gather lines for it.
//!
//! A line costs its thread a lock that nobody else holds for long. Only the first line after a quiet time wakes the writer,
//! which then lets more of them come together.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::AccessSink;

/// How long lines gather before they are written.
const GATHER: Duration = Duration::from_millis(200);
/// Bytes that wait in one pot, at most; more lines are dropped and counted.
const POT: usize = 256 * 1024;
/// Bytes of a pot that is kept for the next lines.
const KEPT: usize = 32 * 1024;
/// How long the end waits for the last lines.
const FLUSH: Duration = Duration::from_millis(500);
/// Between two warnings about dropped lines.
const SAY: Duration = Duration::from_secs(60);

/// The access log. Its end waits a little for the last lines.
pub(in crate::web) struct Writer {
    inner: Arc<Inner>,
}

struct Inner {
    pots: Mutex<Vec<Arc<Pot>>>,
    /// The writer was woken and will look into all pots.
    awake: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    woken: bool,
    stop: bool,
    reopen: bool,
    ended: bool,
}

/// The lines of one thread.
pub(in crate::web) struct Pot {
    lines: Mutex<Lines>,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    dropped: u64,
}

impl Writer {
    /// Starts the thread.
    pub fn start(sink: Box<dyn AccessSink>) -> io::Result<Self> {
        let inner = Arc::new(Inner {
            pots: Mutex::default(),
            awake: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let (owned, mut work) = (inner.clone(), Work { sink, batch: Vec::new(), lost: 0, dropped: 0, said: None });
        let thread = thread::Builder::new().name("ioto-access".to_owned()).stack_size(256 * 1024);
        thread.spawn(move || work.run(&owned))?;
        Ok(Self { inner })
    }

    /// A pot for one more thread.
    pub fn pot(&self) -> Arc<Pot> {
        let pot = Arc::new(Pot { lines: Mutex::default(), inner: self.inner.clone() });
        let mut pots = lock(&self.inner.pots);
        // Those of threads that ended, once they are empty.
        pots.retain(|pot| Arc::strong_count(pot) > 1 || !lock(&pot.lines).bytes.is_empty());
        pots.push(pot.clone());
        pot
    }

    /// Has the sink opened again, before the next lines.
    pub fn reopen(&self) {
        lock(&self.inner.state).reopen = true;
        self.inner.changed.notify_all();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let deadline = Instant::now() + FLUSH;
        let mut state = lock(&self.inner.state);
        state.stop = true;
        self.inner.changed.notify_all();
        while !state.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return log::warn!("the last lines of the access log are not written");
            }
            state = self.inner.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Pot {
    /// Adds a line, which `write` appends.
    pub fn add(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut lines = lock(&self.lines);
        match lines.bytes.len() < POT {
            true => write(&mut lines.bytes),
            false => lines.dropped += 1,
        }
        drop(lines);
        if !self.inner.awake.swap(true, Ordering::SeqCst) {
            lock(&self.inner.state).woken = true;
            self.inner.changed.notify_all();
        }
    }
}

impl Inner {
    /// Waits until there is something to do. Whether this was the last time, and whether to open the sink again.
    fn wait(&self) -> (bool, bool) {
        let mut state = lock(&self.state);
        while !(state.woken || state.stop || state.reopen) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let deadline = Instant::now() + GATHER;
        while !(state.stop || state.reopen) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.woken = false;
        // What is added from here on wakes again.
        self.awake.store(false, Ordering::SeqCst);
        (state.stop, std::mem::take(&mut state.reopen))
    }
}

/// The thread's own.
struct Work {
    sink: Box<dyn AccessSink>,
    batch: Vec<u8>,
    /// Lines that the sink did not take, since it last took some.
    lost: u64,
    dropped: u64,
    said: Option<Instant>,
}

impl Work {
    fn run(&mut self, inner: &Inner) {
        loop {
            let (stop, reopen) = inner.wait();
            if reopen {
                self.sink.reopen();
            }
            // A sink may take its time: pots can still be added meanwhile.
            let pots = lock(&inner.pots).clone();
            for pot in pots {
                self.empty(&pot);
            }
            self.say_dropped();
            if stop {
                lock(&inner.state).ended = true;
                return inner.changed.notify_all();
            }
        }
    }

    fn empty(&mut self, pot: &Pot) {
        self.batch.clear();
        self.batch.shrink_to(KEPT);
        {
            let mut lines = lock(&pot.lines);
            std::mem::swap(&mut lines.bytes, &mut self.batch);
            self.dropped += std::mem::take(&mut lines.dropped);
        }
        if self.batch.is_empty() {
            return;
        }
        match self.sink.write(&self.batch) {
            Ok(()) if self.lost > 0 => {
                let lost = std::mem::take(&mut self.lost);
                log::warn!("the access log is written again; {lost} lines are lost");
            }
            Ok(()) => {}
            Err(error) => {
                if self.lost == 0 {
                    log::error!("the access log cannot be written, its lines are lost until it can: {error}");
                }
                self.lost += self.batch.iter().filter(|byte| **byte == b'\n').count() as u64;
            }
        }
    }

    fn say_dropped(&mut self) {
        if self.dropped > 0 && self.said.is_none_or(|said| said.elapsed() > SAY) {
            let dropped = std::mem::take(&mut self.dropped);
            self.said = Some(Instant::now());
            log::warn!("{dropped} lines of the access log were dropped: they came faster than they could be written");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use super::*;

    /// Keeps what it is given; fails or waits as it is told.
    struct Probe {
        lines: Arc<Mutex<Vec<u8>>>,
        full: Arc<AtomicBool>,
        gate: Option<mpsc::Receiver<()>>,
        writes: Arc<AtomicUsize>,
    }

    impl AccessSink for Probe {
        fn write(&mut self, lines: &[u8]) -> io::Result<()> {
            if let Some(gate) = &self.gate {
                let _ = gate.recv();
            }
            self.writes.fetch_add(1, Ordering::SeqCst);
            if self.full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            lock(&self.lines).extend_from_slice(lines);
            Ok(())
        }
    }

    type Start = (Writer, Arc<Mutex<Vec<u8>>>, Arc<AtomicBool>, Arc<AtomicUsize>);

    fn start(gate: Option<mpsc::Receiver<()>>) -> Start {
        let (lines, full, writes) = (Arc::default(), Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let probe = Probe { lines: Arc::clone(&lines), full: full.clone(), gate, writes: writes.clone() };
        (Writer::start(Box::new(probe)).unwrap(), lines, full, writes)
    }

    fn add(pot: &Pot, text: &str) {
        pot.add(|out| out.extend_from_slice(text.as_bytes()));
    }

    #[test]
    fn lines_of_many_threads_arrive_whole_and_in_few_writes() {
        let (writer, lines, _, writes) = start(None);
        thread::scope(|scope| {
            for thread in 0..4 {
                let pot = writer.pot();
                scope.spawn(move || (0..1000).for_each(|n| add(&pot, &format!("{thread} {n}\n"))));
            }
        });
        drop(writer);
        let text = String::from_utf8(lock(&lines).clone()).unwrap();
        for thread in 0..4 {
            let mine: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(&format!("{thread} "))).collect();
            let expected: Vec<_> = (0..1000).map(|n: i32| n.to_string()).collect();
            assert_eq!(mine, expected);
        }
        assert!(writes.load(Ordering::SeqCst) < 100);
    }

    #[test]
    fn a_sink_that_does_not_go_on_costs_lines_and_no_memory() {
        let (open, gate) = mpsc::channel();
        let (writer, lines, ..) = start(Some(gate));
        let pot = writer.pot();
        let long = format!("{}\n", "x".repeat(999));
        (0..2000).for_each(|_| add(&pot, &long));
        thread::sleep(GATHER * 2);
        (0..2000).for_each(|_| add(&pot, &long));
        assert!(lock(&pot.lines).bytes.len() <= POT + 1000);
        assert!(lock(&pot.lines).dropped >= 1000);
        drop(open);
        drop(writer);
        let written = lock(&lines).len() / 1000;
        assert!((500..600).contains(&written), "{written}");
    }

    #[test]
    fn a_full_disk_costs_the_lines_until_there_is_room() {
        let (writer, lines, full, writes) = start(None);
        let pot = writer.pot();
        let wait = |count| {
            while writes.load(Ordering::SeqCst) < count {
                thread::sleep(Duration::from_millis(5));
            }
        };
        full.store(true, Ordering::SeqCst);
        add(&pot, "one\n");
        wait(1);
        full.store(false, Ordering::SeqCst);
        add(&pot, "two\n");
        wait(2);
        drop(writer);
        assert_eq!(*lock(&lines), b"two\n");
    }
}
