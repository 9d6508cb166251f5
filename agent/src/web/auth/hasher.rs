//! Hashes passwords, one at a time, on a thread that gives way to all others.
//!
//! A hash is slow on purpose and takes 19 MiB. So one is made at a time, by a thread of low priority that lives while there is
//! work. The queue is short, and not first come, first served: who failed less often goes first, among equals who came last,
//! and when it is full the last leaves. So a flood of guesses delays those who guess, and hardly who logs in.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smol::channel::{self, Sender};

/// Verifications that wait for their turn.
pub const QUEUE: usize = 64;
/// How nice the thread is to others, as in nice(1): under load it gets a tenth of a processor.
const NICE: i32 = 10;

type Work = Box<dyn FnOnce() -> bool + Send>;

/// The queue. Clones share it.
#[derive(Clone, Default)]
pub struct Hasher(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    /// Jobs so far.
    count: u64,
    is_running: bool,
}

struct Job {
    /// Who has the lowest goes first.
    rank: (u32, Reverse<u64>),
    work: Work,
    answer: Sender<bool>,
}

impl Hasher {
    /// What the work says, when its turn came; `None`: too many wait who failed less often.
    pub async fn run(&self, failures: u32, work: impl FnOnce() -> bool + Send + 'static) -> Option<bool> {
        let (answer, answered) = channel::bounded(1);
        if !self.push(failures, Box::new(work), answer) {
            return None;
        }
        answered.recv().await.ok()
    }

    fn push(&self, failures: u32, work: Work, answer: Sender<bool>) -> bool {
        let mut queue = self.queue();
        // Nobody waits for the answer to those.
        queue.jobs.retain(|job| !job.answer.is_closed());
        let rank = (failures, Reverse(queue.count));
        if queue.jobs.len() >= QUEUE {
            let last = queue.jobs.iter().enumerate().max_by_key(|(_, job)| job.rank);
            match last.filter(|(_, job)| job.rank > rank).map(|(at, _)| at) {
                Some(at) => drop(queue.jobs.swap_remove(at)),
                None => return false,
            }
        }
        queue.count += 1;
        queue.jobs.push(Job { rank, work, answer });
        if !queue.is_running {
            let hasher = self.clone();
            let thread = std::thread::Builder::new().name("ioto-hash".into()).stack_size(256 * 1024);
            queue.is_running = thread.spawn(move || hasher.work()).is_ok();
            if !queue.is_running {
                log::error!("no password can be verified: the system starts no thread");
                queue.jobs.clear();
            }
        }
        queue.is_running
    }

    /// Works until there is nothing to do.
    fn work(&self) {
        // In Linux it is a matter of the thread. Should it fail, the hashes are made at the priority of all.
        let _ = rustix::process::setpriority_process(None, NICE);
        while let Some(job) = self.next() {
            if !job.answer.is_closed() {
                let _ = job.answer.try_send((job.work)());
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        let first = queue.jobs.iter().enumerate().min_by_key(|(_, job)| job.rank).map(|(at, _)| at);
        queue.is_running = first.is_some();
        first.map(|at| queue.jobs.swap_remove(at))
    }

    /// A panic aborts: no lock is poisoned.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;

    use smol::future::poll_once;

    use super::*;

    #[test]
    fn who_failed_least_goes_first_and_who_failed_most_leaves_a_full_queue() {
        let (hasher, order) = (Hasher::default(), Arc::new(Mutex::new(Vec::new())));
        let (go, wait) = mpsc::channel::<()>();
        smol::block_on(async {
            let mut first = Box::pin(hasher.run(0, move || wait.recv().is_ok()));
            assert!(poll_once(&mut first).await.is_none());
            while !hasher.queue().jobs.is_empty() {
                std::thread::yield_now();
            }
            let ask = |failures: u32, name: u32| {
                let order = order.clone();
                let work = move || {
                    order.lock().unwrap().push(name);
                    true
                };
                let hasher = hasher.clone();
                Box::pin(async move { hasher.run(failures, work).await })
            };
            let mut guesses: Vec<_> = (0..QUEUE as u32).map(|number| ask(1 + number, number)).collect();
            for guess in &mut guesses {
                assert!(poll_once(guess).await.is_none());
            }
            assert_eq!(ask(QUEUE as u32 + 1, 99).await, None, "worse than the last");
            let mut login = ask(0, 100);
            assert!(poll_once(&mut login).await.is_none());
            assert_eq!(guesses.pop().unwrap().await, None, "the worst has left");
            drop(guesses.remove(1));
            go.send(()).unwrap();
            assert_eq!((first.await, login.await), (Some(true), Some(true)));
            for guess in guesses {
                assert_eq!(guess.await, Some(true));
            }
        });
        let order = order.lock().unwrap();
        assert_eq!((order[0], order[1], order[2], order.len()), (100, 0, 2, QUEUE - 1));
    }
}
