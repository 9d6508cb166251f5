//! One connection's stream with its buffers and deadlines.

use std::cell::Cell;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use smol::io::{AsyncRead, AsyncWrite};

use super::duplex::Duplex;
use super::local::Local;
use super::pace::Pace;
use super::watch::{Claim, Deadline};
use crate::config::FOREVER;

/// Bytes that a connection moves before others get their turn although it need not wait.
const TURN: usize = 256 * 1024;
/// Bytes discarded, and the time for it, so that the client reads our last answer before the connection is reset. Programs on a
/// busy machine send megabytes before they look.
const LINGER_BYTES: usize = 16 * 1024 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// A stream that never waits longer than allowed. While it waits for a request it owns no buffer.
pub(super) struct Link {
    stream: Box<dyn Duplex>,
    local: Rc<Local>,
    input: Vec<u8>,
    used: usize,
    /// What is to be sent; the caller appends, [`Link::poll_flush`] sends.
    pub output: Vec<u8>,
    sent: usize,
    reading: Wait,
    writing: Wait,
    patience: Patience,
    pace: Pace,
    /// Bytes that were underway when the link last looked.
    underway: usize,
    whole: Rc<Whole>,
    turn: usize,
}

/// The request that is served.
pub(super) struct Whole {
    deadline: Deadline,
    /// What was answered.
    pub tally: Tally,
}

impl std::ops::Deref for Whole {
    type Target = Deadline;

    fn deref(&self) -> &Deadline {
        &self.deadline
    }
}

/// What was answered to a request, for the access log.
#[derive(Default)]
pub(super) struct Tally {
    status: Cell<u16>,
    sent: Cell<u64>,
    /// How many bytes are sent when the body begins.
    body: Cell<u64>,
}

impl Tally {
    /// The status, 0 when there was no answer, and the bytes of the body that were sent; and begins anew.
    pub fn take(&self) -> (u16, u64) {
        let bytes = self.sent.take().saturating_sub(self.body.take());
        match self.status.take() {
            0 => (0, 0),
            status => (status, bytes),
        }
    }

    fn add(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
    }
}

/// How long one read or write may take, and all of them together.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// Without a byte in either direction.
    pub stall: Duration,
    /// All that is done until the next change.
    pub until: Instant,
}

/// A direction that may be waiting.
struct Wait {
    deadline: Deadline,
    waiting: bool,
}

impl Link {
    /// A link with little patience, see [`Link::set_patience`], to a client that moves `rate` bytes a second when
    /// [`Link::set_pace`] asks for it.
    pub fn new(stream: impl Duplex + 'static, rate: u32, local: Rc<Local>) -> Box<Self> {
        let wait = || Wait { deadline: local.watch.deadline(), waiting: false };
        let now = local.reactor.now();
        let reading = wait();
        reading.deadline.set_claim(Claim::Silent(now));
        Box::new(Self {
            stream: Box::new(stream),
            reading,
            writing: wait(),
            whole: Rc::new(Whole { deadline: local.watch.deadline(), tally: Tally::default() }),
            local,
            input: Vec::new(),
            used: 0,
            output: Vec::new(),
            sent: 0,
            patience: Patience { stall: LINGER, until: now + LINGER },
            pace: Pace::new(rate),
            underway: 0,
            turn: TURN,
        })
    }

    /// A head with this status is the last that stands in the output: what is sent after it is the body.
    pub fn begin_body(&self, status: u16) {
        self.whole.tally.status.set(status);
        self.whole.tally.body.set(self.whole.tally.sent.get() + self.output.len().saturating_sub(self.sent) as u64);
    }

    pub fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
        self.pace.free();
        self.reading.waiting = false;
        self.writing.waiting = false;
    }

    /// From now on, until the patience changes, a client that is slower than its rate over this time is too slow.
    pub fn set_pace(&mut self, span: Duration) {
        self.pace.restart(span);
    }

    /// The time, as the last events came.
    pub fn now(&self) -> Instant {
        self.local.reactor.now()
    }

    /// Says what the connection does.
    pub fn set_claim(&self, claim: Claim) {
        self.reading.deadline.set_claim(claim);
    }

    /// Part of a request's head came, and the rest is awaited.
    pub fn owes_head(&self) {
        self.set_claim(match self.reading.deadline.claim() {
            Claim::Silent(since) | Claim::Headless(since) => Claim::Headless(since),
            Claim::Busy | Claim::Idle(_) | Claim::Live => Claim::Headless(self.now()),
        });
    }

    /// Whether the connection has to make room for another.
    pub fn is_evicted(&self) -> bool {
        self.reading.deadline.is_evicted()
    }

    /// The deadline of the request that is served.
    pub fn whole(&self) -> Rc<Whole> {
        self.whole.clone()
    }

    /// From now on this is no longer a request that has to end some time: only a peer that stalls ends it, or an action
    /// that does not move [`Link::whole`].
    pub fn live(&mut self, stall: Duration) {
        self.set_patience(Patience { stall, until: self.local.reactor.now() + FOREVER });
    }

    /// What was received and not used.
    pub fn received(&self) -> &[u8] {
        self.input.get(self.used..).unwrap_or_default()
    }

    /// Drops so many received bytes.
    pub fn consume(&mut self, bytes: usize) {
        self.used = (self.used + bytes).min(self.input.len());
        if self.used == self.input.len() {
            self.input.clear();
            self.used = 0;
        }
    }

    /// Waits for the first bytes of a request, the first or another one. Meanwhile the server may end the wait, see
    /// `Watch::evict` and `Watch::expire_idle`.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] or [`io::ErrorKind::ConnectionAborted`] when the wait was ended.
    pub async fn idle(&mut self, is_first: bool) -> io::Result<usize> {
        let mut waited = false;
        let result = poll_fn(|cx| {
            let result = self.poll_fill(cx);
            if result.is_pending() && !waited {
                waited = true;
                self.local.give_spare(std::mem::take(&mut self.input));
                self.local.give_spare(std::mem::take(&mut self.output));
                if !is_first {
                    self.set_claim(Claim::Idle(self.now()));
                }
            }
            result
        })
        .await;
        if waited && !is_first {
            self.set_claim(Claim::Busy);
        }
        result
    }

    /// Receives more. 0: the peer sends nothing more.
    pub async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Receives more. 0: the peer sends nothing more.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx));
        let local = self.local.clone();
        let mut scratch = local.scratch.borrow_mut();
        let result = Pin::new(&mut self.stream).poll_read(cx, &mut scratch);
        let received = ready!(self.guard(Direction::Read, cx, result))?;
        if self.used > 0 {
            self.input.drain(..self.used);
            self.used = 0;
        }
        if self.input.capacity() == 0 {
            self.input = local.take_spare();
        }
        self.input.extend_from_slice(scratch.get(..received).unwrap_or_default());
        self.moved(received);
        Poll::Ready(Ok(received))
    }

    /// Receives right into `buf`, for when nothing is left in [`Link::received`].
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx));
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        let received = ready!(self.guard(Direction::Read, cx, result))?;
        self.moved(received);
        Poll::Ready(Ok(received))
    }

    /// Sends all of `output`.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.output.len() {
            let output = std::mem::take(&mut self.output);
            let result = self.poll_write(cx, output.get(self.sent..).unwrap_or_default());
            self.output = output;
            self.sent += ready!(result)?;
        }
        self.output.clear();
        self.sent = 0;
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.guard(Direction::Write, cx, result)
    }

    /// As [`Link::poll_flush`], where more follows at once: the kernel may wait for it.
    pub fn poll_flush_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.output.len() {
            ready!(self.poll_turn(cx));
            let result = self.stream.poll_write_more(cx, self.output.get(self.sent..).unwrap_or_default());
            let sent = ready!(self.guard(Direction::Write, cx, result))?;
            self.moved(sent);
            self.whole.tally.add(sent);
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.output.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Sends all of `output`.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Sends some of `data` without a copy, for when `output` is empty. Never 0 bytes.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx));
        let result = Pin::new(&mut self.stream).poll_write(cx, data);
        let sent = ready!(self.guard(Direction::Write, cx, result))?;
        self.moved(sent);
        self.whole.tally.add(sent);
        match sent {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            _ => Poll::Ready(Ok(sent)),
        }
    }

    /// Whether [`Link::poll_send_file`] goes.
    pub fn sends_files(&self) -> bool {
        self.stream.sends_files()
    }

    /// Sends some of the file, see [`Duplex::poll_send_file`], for when `output` is empty.
    pub fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &File,
        at: u64,
        bytes: usize,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx));
        let result = self.stream.poll_send_file(cx, file, at, bytes.min(TURN));
        let sent = ready!(self.guard(Direction::Write, cx, result))?;
        self.moved(sent);
        self.whole.tally.add(sent);
        Poll::Ready(Ok(sent))
    }

    /// Counts bytes that are not sent: even so others get their turn.
    pub fn poll_skip(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<()> {
        ready!(self.poll_turn(cx));
        self.turn = self.turn.saturating_sub(bytes);
        Poll::Ready(())
    }

    /// Ready when the peer closed, or with why the connection broke, while we wait for something else. What it sends instead
    /// is kept, and then there is nothing more to see. No time runs.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.received().is_empty() {
            return Poll::Pending;
        }
        let local = self.local.clone();
        let mut scratch = local.scratch.borrow_mut();
        match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut scratch))? {
            0 => Poll::Ready(Ok(())),
            received => {
                self.input.extend_from_slice(scratch.get(..received).unwrap_or_default());
                Poll::Pending
            }
        }
    }

    /// Whether the peer neither closed a connection that nobody uses nor sent anything on it.
    pub fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.received().is_empty() && self.poll_gone(&mut cx).is_pending() && self.received().is_empty()
    }

    /// Tells the peer that nothing more comes, for when `output` is empty.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_close(cx);
        self.guard(Direction::Write, cx, result)
    }

    /// Ends the connection after everything was received and sent. Where the kernel waits with the last bytes, they go with
    /// the end. (Closing alone would drop them if the client sent more than its last request.)
    pub async fn close(mut self: Box<Self>) {
        self.set_patience(Patience { stall: LINGER, until: self.local.reactor.now() + LINGER });
        let _ = poll_fn(|cx| {
            let result = Pin::new(&mut self.stream).poll_close(cx);
            self.guard(Direction::Write, cx, result)
        })
        .await;
    }

    /// Ends the connection while the client may still be sending. Closing at once would reset it, and the client could lose
    /// the answer (RFC 9112 §9.6); so it is half closed, and what comes is discarded for a while.
    pub async fn linger(mut self: Box<Self>) {
        self.set_patience(Patience { stall: LINGER, until: self.local.reactor.now() + LINGER });
        let closed = poll_fn(|cx| {
            let result = Pin::new(&mut self.stream).poll_close(cx);
            self.guard(Direction::Write, cx, result)
        })
        .await;
        let mut discarded = 0;
        while closed.is_ok() && discarded < LINGER_BYTES {
            let length = self.received().len();
            self.consume(length);
            match self.fill().await {
                Ok(0) | Err(_) => break,
                Ok(received) => discarded += received,
            }
        }
    }

    /// So many bytes were received or sent.
    fn moved(&mut self, bytes: usize) {
        self.turn = self.turn.saturating_sub(bytes);
        self.pace.moved(bytes, Instant::now);
    }

    /// Passes a result on. While the stream waits, its deadline runs; any progress starts it anew.
    fn guard<T>(
        &mut self,
        direction: Direction,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.reading.waiting = false;
            self.writing.waiting = false;
            self.pace.moved(0, Instant::now);
            return result;
        }
        self.turn = TURN;
        let is_waiting = self.wait(direction).waiting;
        if !is_waiting {
            if direction == Direction::Write {
                self.underway = self.stream.underway();
            }
            self.begin_wait(direction);
        }
        ready!(self.wait(direction).deadline.poll_over(cx));
        if direction == Direction::Write && self.has_arrived() {
            self.begin_wait(direction);
            ready!(self.wait(direction).deadline.poll_over(cx));
        }
        Poll::Ready(Err(match self.reading.deadline.is_evicted() {
            true => io::ErrorKind::ConnectionAborted.into(),
            false => io::ErrorKind::TimedOut.into(),
        }))
    }

    fn begin_wait(&mut self, direction: Direction) {
        let now = self.now();
        let over = self.patience.until.min(now + self.patience.stall);
        let over = self.pace.waits(now).map_or(over, |too_slow| over.min(too_slow));
        let wait = self.wait(direction);
        wait.waiting = true;
        wait.deadline.set(over);
    }

    /// Whether something of what was sent arrived meanwhile. The kernel takes more only when a good part of its buffer is
    /// free; a client that is slow, and not too slow, may need longer for that than the stall allows.
    fn has_arrived(&mut self) -> bool {
        let before = std::mem::replace(&mut self.underway, self.stream.underway());
        let arrived = before.saturating_sub(self.underway);
        if arrived > 0 {
            self.pace.moved(arrived, Instant::now);
        }
        arrived > 0
    }

    fn wait(&mut self, direction: Direction) -> &mut Wait {
        match direction {
            Direction::Read => &mut self.reading,
            Direction::Write => &mut self.writing,
        }
    }

    /// Lets others run when this connection had its turn.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.turn > 0 {
            return Poll::Ready(());
        }
        self.turn = TURN;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}
