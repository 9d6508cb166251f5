//! Answers that callers wait for.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::task::{Context, Poll, Waker};

use super::Error;

/// What came of each request, kept until its caller fetches it or loses interest.
#[derive(Debug)]
pub(super) struct Answers<K, T> {
    open: HashMap<K, Slot<T>, BuildHasherDefault<ByNumber>>,
}

/// A set of what has a number.
pub(super) type Numbered<K> = HashSet<K, BuildHasherDefault<ByNumber>>;

/// Hashes the numbers that we give out ourselves, and each once: nobody can choose them so that they collide, and what is
/// awaited is looked up several times for each message.
#[derive(Debug, Default)]
pub(super) struct ByNumber(u64);

impl Hasher for ByNumber {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        /// 2^64 divided by the golden ratio: numbers in a row end far from each other.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0 ^ number).wrapping_mul(SPREAD);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
enum Slot<T> {
    Awaited(Option<Waker>),
    Answered(Result<T, Error>),
}

impl<K, T> Default for Answers<K, T> {
    fn default() -> Self {
        Self { open: HashMap::default() }
    }
}

impl<K: Hash + Eq, T> Answers<K, T> {
    /// Someone will ask for this answer.
    pub fn expect(&mut self, key: K) {
        self.open.insert(key, Slot::Awaited(None));
    }

    /// The answer; it is dropped when nobody asks for it.
    pub fn answer(&mut self, key: K, answer: Result<T, Error>) {
        let Some(slot) = self.open.get_mut(&key) else { return };
        if let Slot::Awaited(Some(waker)) = std::mem::replace(slot, Slot::Answered(answer)) {
            waker.wake();
        }
    }

    /// Fetches the answer.
    pub fn poll(&mut self, key: &K, cx: &mut Context<'_>) -> Poll<Result<T, Error>> {
        match self.open.get_mut(key) {
            Some(Slot::Awaited(waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => match self.open.remove(key) {
                Some(Slot::Answered(answer)) => Poll::Ready(answer),
                _ => Poll::Ready(Err(Error::Closed)),
            },
        }
    }

    /// Nobody will ask for this answer any more.
    pub fn forget(&mut self, key: &K) {
        self.open.remove(key);
    }

    /// No answer will come: who still waits gets [`Error::Closed`].
    pub fn close(&mut self) {
        for slot in self.open.values_mut() {
            if let Slot::Awaited(waker) = slot {
                let waker = waker.take();
                *slot = Slot::Answered(Err(Error::Closed));
                waker.into_iter().for_each(Waker::wake);
            }
        }
    }
}
