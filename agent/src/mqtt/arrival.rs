//! Waiting for the connection.

use std::future::poll_fn;
use std::task::{Poll, Waker};

use super::shared::{Core, End};
use super::{Client, Error};

impl Client {
    /// Resolves once the broker has accepted us more than `known` times, with how often it has: with 0 at the first connection
    /// or at once, with what it gave last time at the next one.
    ///
    /// # Errors
    /// [`Closed`](Error::Closed) if the connection ended for good.
    pub async fn connected(&self, known: u64) -> Result<u64, Error> {
        poll_fn(|cx| {
            let mut core = self.shared.lock();
            if core.end == End::Closed {
                return Poll::Ready(Err(Error::Closed));
            }
            if core.figures.connects > known {
                return Poll::Ready(Ok(core.figures.connects));
            }
            if !core.arrivals.iter().any(|waker| waker.will_wake(cx.waker())) {
                core.arrivals.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Whether the broker has accepted us, and the connection stands as far as is known.
    pub fn is_connected(&self) -> bool {
        self.shared.lock().figures.connected
    }
}

impl Core {
    /// Has those look who wait for the connection.
    pub fn call_arrivals(&mut self) {
        self.arrivals.drain(..).for_each(Waker::wake);
    }
}
