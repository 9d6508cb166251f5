//! A connection to a receiver that acknowledges nothing itself: what its kernel acknowledged is counted.
//!
//! Bytes that the other side's TCP has acknowledged may still wait there to be read. If the connection then ends in order
//! (FIN), they were: a kernel that closes a socket with unread bytes in it sends a reset instead. After a reset, or silence,
//! nobody knows, and what was acknowledged last has to be sent again.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::FutureExt;
use smol::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::net::Stream;

/// The kernel has no event for "all is acknowledged": it is asked again after this time, then after twice as long and so on.
const FIRST_LOOK: Duration = Duration::from_micros(300);
/// A receiver may hold its acknowledgement back for 40 ms.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The other side closed it, and had read what it had acknowledged.
    Closed,
    /// It broke, or was given up.
    Broken(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // TLS was not told of the end; TCP was.
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Broken(error),
        }
    }
}

/// The connection.
pub(super) struct Link {
    stream: Stream,
    /// Bytes of the messages accepted last, the latest at the end.
    frames: VecDeque<usize>,
    unconfirmed: usize,
    resend: usize,
}

impl Link {
    /// Bytes that were acknowledged count as read when `resend` bytes behind them were acknowledged too.
    pub fn new(stream: Stream, resend: usize) -> Self {
        Self { stream, frames: VecDeque::new(), unconfirmed: 0, resend }
    }

    /// So many messages may not have been read.
    pub fn unconfirmed(&self) -> usize {
        self.frames.len()
    }

    /// Writes messages and waits until they are acknowledged; `ends` is where each ends in `bytes`. An error when for `timeout`
    /// nothing was.
    pub async fn deliver(
        &mut self,
        bytes: &[u8],
        ends: &[usize],
        timeout: Duration,
        accepted: &mut dyn FnMut(usize),
    ) -> Result<(), End> {
        let mut delivery = Delivery { written: 0, is_flushed: false, known: 0, moved: Instant::now() };
        let (mut pause, mut looked) = (FIRST_LOOK, 0);
        loop {
            let mut timer = Timer::after(pause);
            let end = poll_fn(|cx| self.poll_deliver(cx, bytes, &mut delivery, &mut timer)).await;
            // Also at the end of the connection: what was acknowledged before counts.
            let acknowledged = self.acknowledged(&delivery);
            let count = ends.iter().skip(delivery.known).take_while(|end| **end <= acknowledged).count();
            for end in delivery.known..delivery.known + count {
                let begin = end.checked_sub(1).map_or(0, |last| ends[last]);
                self.accept(ends[end] - begin);
            }
            if count > 0 {
                delivery.known += count;
                accepted(count);
            }
            end?;
            if delivery.known == ends.len() {
                return Ok(());
            }
            if acknowledged > looked {
                (looked, delivery.moved) = (acknowledged, Instant::now());
            }
            if delivery.moved.elapsed() >= timeout {
                let error = io::Error::new(io::ErrorKind::TimedOut, "it acknowledges nothing any more");
                return Err(End::Broken(error));
            }
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    /// Writes what can be written, reads what there is, until it is time to look or the connection ends.
    fn poll_deliver(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        delivery: &mut Delivery,
        timer: &mut Timer,
    ) -> Poll<Result<(), End>> {
        if let Poll::Ready(end) = self.poll_end(cx) {
            return Poll::Ready(Err(end));
        }
        loop {
            let rest = bytes.get(delivery.written..).unwrap_or_default();
            let step = match (rest.is_empty(), delivery.is_flushed) {
                (false, _) => Pin::new(&mut self.stream).poll_write(cx, rest),
                (true, false) => Pin::new(&mut self.stream).poll_flush(cx).map_ok(|()| 0),
                (true, true) => break,
            };
            match step {
                Poll::Ready(Ok(count)) => {
                    delivery.is_flushed = rest.is_empty();
                    delivery.written += count;
                    delivery.moved = Instant::now();
                }
                // The end that was heard already says more than that nothing can be written.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Poll::Ready(Err(match self.poll_end(cx) {
                        Poll::Ready(end) => end,
                        Poll::Pending => End::Broken(error),
                    }));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(End::Broken(error))),
                Poll::Pending => break,
            }
        }
        ready!(Pin::new(timer).poll(cx));
        Poll::Ready(Ok(()))
    }

    /// How much of the bytes the other side has. What TLS makes of them is longer: there it is all or nothing.
    fn acknowledged(&self, delivery: &Delivery) -> usize {
        match self.stream.underway() {
            Ok(0) if delivery.is_flushed => delivery.written,
            Ok(underway) if !self.stream.is_tls() => delivery.written.saturating_sub(underway),
            _ => 0,
        }
    }

    fn accept(&mut self, length: usize) {
        self.frames.push_back(length);
        self.unconfirmed += length;
        while let Some(oldest) = self.frames.front().filter(|oldest| self.unconfirmed - **oldest >= self.resend) {
            self.unconfirmed -= oldest;
            self.frames.pop_front();
        }
    }

    /// Waits for the end.
    pub async fn ended(&mut self) -> End {
        poll_fn(|cx| self.poll_end(cx)).await
    }

    /// What the other side says is of no matter, but that nothing of it lies here unread is: else our own close would be a reset.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut scratch = [0; 512];
        loop {
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut scratch)) {
                Ok(0) => return Poll::Ready(End::Closed),
                Ok(_) => {}
                Err(error) => return Poll::Ready(error.into()),
            }
        }
    }

    /// Says that nothing more comes and waits for the other side to close too. Whether it did, and so has read everything.
    pub async fn close(&mut self, patience: Duration) -> bool {
        let closing = async { self.stream.close().await.is_ok() && matches!(self.ended().await, End::Closed) };
        let too_late = async {
            Timer::after(patience).await;
            false
        };
        closing.or(too_late).await
    }
}

/// How far a call of [`Link::deliver`] is.
struct Delivery {
    written: usize,
    is_flushed: bool,
    /// Messages that are known to be acknowledged.
    known: usize,
    moved: Instant,
}
