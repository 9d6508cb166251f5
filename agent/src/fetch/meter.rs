//! How far a request has come, and how fast it may go.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::Future;

/// The share of a second for which unused rate is kept: a pause is not made up for by a flood.
const BURST: u32 = 8;

/// How far a request has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the request's body that were handed to the connection.
    pub sent: u64,
    /// Bytes of the request's body in all, if that is known.
    pub to_send: Option<u64>,
    /// Bytes of the response's body that have arrived, with those of the file that a [`Download`](super::Download) goes on with.
    pub received: u64,
    /// Bytes of the response's body in all, if the server said so.
    pub to_receive: Option<u64>,
}

/// Who wants to know; the attempts of a request share it.
pub(super) type Hook = Arc<Mutex<dyn FnMut(Progress) + Send>>;

/// Counts, tells, and slows down. It begins anew with each exchange.
#[derive(Default)]
pub(super) struct Meter {
    hook: Option<Hook>,
    progress: Progress,
    pace: Option<Pace>,
}

impl Meter {
    pub fn new(hook: Option<Hook>, rate: Option<u64>) -> Self {
        Self { hook, progress: Progress::default(), pace: rate.map(Pace::new) }
    }

    /// An exchange begins.
    pub fn begin(&mut self, to_send: Option<u64>) {
        self.progress = Progress { to_send, ..Progress::default() };
    }

    /// The head of the response told how much will come, after `before` bytes that are here already.
    pub fn expect(&mut self, to_receive: Option<u64>, before: u64) {
        self.progress.received = before;
        self.progress.to_receive = to_receive.map(|left| left + before);
        self.tell();
    }

    pub fn sent(&mut self, bytes: usize) {
        self.progress.sent += bytes as u64;
        self.moved(bytes);
    }

    pub fn received(&mut self, bytes: usize) {
        self.progress.received += bytes as u64;
        self.moved(bytes);
    }

    /// Ready with the bytes that may move now, at most `wanted`.
    pub fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<usize> {
        match &mut self.pace {
            None => Poll::Ready(wanted),
            Some(pace) => pace.poll_room(cx, wanted),
        }
    }

    fn moved(&mut self, bytes: usize) {
        if let Some(pace) = &mut self.pace {
            pace.spend(bytes);
        }
        self.tell();
    }

    fn tell(&mut self) {
        if let Some(hook) = &self.hook {
            let mut hook = hook.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            hook(self.progress);
        }
    }
}

/// So many bytes a second.
struct Pace {
    rate: f64,
    room: f64,
    since: Instant,
    timer: Option<Timer>,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self { rate: rate.max(1) as f64, room: 0.0, since: Instant::now(), timer: None }
    }

    fn most(&self) -> f64 {
        (self.rate / f64::from(BURST)).max(1.0)
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<usize> {
        loop {
            let now = Instant::now();
            self.room = (self.room + now.duration_since(self.since).as_secs_f64() * self.rate).min(self.most());
            self.since = now;
            // Not byte by byte: so many that a wait is worth it.
            let step = (self.most() / 2.0).max(1.0).min(wanted as f64);
            if self.room >= step {
                self.timer = None;
                return Poll::Ready(wanted.min(self.room as usize));
            }
            let wait = Duration::from_secs_f64((step - self.room) / self.rate).max(Duration::from_millis(1));
            let timer = self.timer.get_or_insert_with(|| Timer::after(wait));
            if Pin::new(timer).poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
    }

    fn spend(&mut self, bytes: usize) {
        self.room -= bytes as f64;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn the_rate_is_kept_and_a_pause_is_not_made_up_for() {
        smol::block_on(async {
            let mut pace = Pace::new(100_000);
            Timer::after(Duration::from_millis(500)).await;
            let start = Instant::now();
            let mut moved = 0;
            while moved < 40_000 {
                let room = poll_fn(|cx| pace.poll_room(cx, 64 * 1024)).await;
                assert!((1..=12_500).contains(&room), "{room}");
                pace.spend(room);
                moved += room;
            }
            let took = start.elapsed();
            assert!(took >= Duration::from_millis(250), "{took:?}");
        });
    }
}
