//! The bounded queue between those who log and the one thread that writes. Logging never waits.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Line;

/// When it is full the oldest line goes and is counted: the newest lines tell why something fails.
pub struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct Inner {
    lines: VecDeque<Line>,
    dropped: u64,
    /// A line was taken and is not written yet.
    writing: bool,
}

impl Queue {
    /// A queue for `capacity` lines.
    pub fn new(capacity: usize) -> Self {
        Self { inner: Mutex::default(), changed: Condvar::new(), capacity: capacity.max(1) }
    }

    /// Adds a line, at the cost of the oldest when there is no room.
    pub fn push(&self, line: Line) {
        let mut inner = self.lock();
        if inner.lines.len() >= self.capacity {
            inner.lines.pop_front();
            inner.dropped += 1;
        }
        inner.lines.push_back(line);
        self.changed.notify_all();
    }

    /// Waits for the next line. The one before it counts as written.
    pub fn next(&self) -> Line {
        let mut inner = self.lock();
        inner.writing = false;
        self.changed.notify_all();
        loop {
            if inner.dropped > 0 {
                let count = std::mem::take(&mut inner.dropped);
                inner.writing = true;
                return Line::dropped(count, inner.lines.front().map_or(0, |line| line.at));
            }
            if let Some(line) = inner.lines.pop_front() {
                inner.writing = true;
                return line;
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until everything is written, but not longer than `limit`. Whether it is.
    pub fn flush(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut inner = self.lock();
        while inner.writing || !inner.lines.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            inner = self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use log::Level;

    use super::*;

    fn line(text: &str) -> Line {
        Line { level: Level::Info, room: "agent".into(), text: text.into(), at: 7 }
    }

    #[test]
    fn a_full_queue_drops_the_oldest_lines_and_says_how_many() {
        let queue = Queue::new(2);
        ["one", "two", "three", "four"].into_iter().for_each(|text| queue.push(line(text)));
        assert!(queue.next().text.starts_with("2 lines were dropped"));
        assert_eq!(queue.next().text, "three");
        assert_eq!(queue.next().text, "four");
    }

    #[test]
    fn flush_waits_for_the_line_that_is_being_written() {
        let queue = Queue::new(2);
        queue.push(line("one"));
        queue.next();
        assert!(!queue.flush(Duration::from_millis(1)));
        std::thread::scope(|scope| {
            scope.spawn(|| queue.next());
            assert!(queue.flush(Duration::from_secs(10)));
            queue.push(line("the end of the thread"));
        });
    }
}
