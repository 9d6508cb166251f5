//! More connections than a server takes at a time: who waits, and how long?
//!
//! wrk notes that an answer came late, but not that none came at all.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::idle;

#[derive(Debug, Default)]
pub struct Crowd {
    /// Clients that had no answer in all the time.
    pub unanswered: usize,
    /// New connections whose first request failed.
    pub failed: usize,
    /// The longest that a client waited for an answer, or waits still.
    pub longest: Duration,
}

/// So many clients ask again and again, each over a connection of its own that is kept as long as the server keeps it.
pub fn watch(address: SocketAddr, clients: usize, time: Duration) -> Crowd {
    let end = Instant::now() + time;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(move || client(address, end))).collect();
        threads.into_iter().fold(Crowd::default(), |all, thread| {
            let one = thread.join().expect("no thread panics");
            Crowd {
                unanswered: all.unanswered + one.unanswered,
                failed: all.failed + one.failed,
                longest: all.longest.max(one.longest),
            }
        })
    })
}

fn client(address: SocketAddr, end: Instant) -> Crowd {
    let mut crowd = Crowd { unanswered: 1, ..Crowd::default() };
    let mut since = Instant::now();
    while Instant::now() < end {
        let mut is_new = true;
        let wrong = converse(address, end, || {
            (is_new, crowd.unanswered) = (false, 0);
            crowd.longest = crowd.longest.max(since.elapsed());
            since = Instant::now();
        });
        // That a kept connection is closed between two requests is the server's right.
        if wrong.is_err() && is_new && Instant::now() < end {
            crowd.failed += 1;
        }
    }
    crowd.longest = crowd.longest.max(since.elapsed());
    crowd
}

/// Asks over one connection until it or the time ends.
fn converse(address: SocketAddr, end: Instant, mut answered: impl FnMut()) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        idle::request(&mut stream)?;
        answered();
    }
}
