//! A connection with what was received on it and not used yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use smol::io::AsyncRead;

use crate::http1::{Error, Limits, ResponseHead, parse_response};
use crate::net::{Alarm, Stream};

/// Bytes that are received at once while it is not known where they belong.
const BUFFER: usize = 8 * 1024;

/// And when as many came again and again: a large body in chunks.
const MAX_BUFFER: usize = 64 * 1024;

/// A connection to a server.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) alarm: Alarm,
    /// Received and not used: `buffer[used..end]`.
    buffer: Vec<u8>,
    used: usize,
    end: usize,
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, alarm: Alarm::default(), buffer: Vec::new(), used: 0, end: 0 }
    }

    /// What was received and not used.
    pub(super) fn buffered(&self) -> &[u8] {
        self.buffer.get(self.used..self.end).unwrap_or_default()
    }

    /// Marks the first bytes of the buffer as used.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.used += bytes;
        if self.used >= self.end {
            self.used = 0;
            self.end = 0;
        }
    }

    /// Receives more into the buffer, as much as the server has sent; 0 when it closed.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.used > 0 {
            self.buffer.copy_within(self.used..self.end, 0);
            self.end -= self.used;
            self.used = 0;
        }
        if self.buffer.is_empty() {
            self.buffer.resize(BUFFER, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.resize(self.end + BUFFER, 0);
        }
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let (result, full) = (ready!(Pin::new(&mut self.stream).poll_read(cx, room)), room.len());
        let got = *result.as_ref().unwrap_or(&0);
        self.end += got;
        if got == full && self.buffer.len() < MAX_BUFFER {
            self.buffer.resize((self.buffer.len() * 2).min(MAX_BUFFER), 0);
        }
        Poll::Ready(result)
    }

    /// The next head of a response. An end of the connection is [`Error::Truncated`].
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
    ) -> Poll<io::Result<Result<ResponseHead, Error>>> {
        loop {
            if !self.buffered().is_empty() {
                match parse_response(self.buffered(), limits) {
                    Ok(Some((head, length))) => {
                        self.consume(length);
                        return Poll::Ready(Ok(Ok(head)));
                    }
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Ok(Err(error))),
                }
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(Err(Error::Truncated)));
            }
        }
    }

    /// It waits for its next request: what it needs no more is given back.
    pub(super) fn rest(&mut self) {
        if self.buffer.len() > BUFFER {
            self.buffer = Vec::new();
        }
    }

    /// Whether the server neither closed an idle connection nor sent anything on it.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut byte = [0];
        self.buffered().is_empty() && Pin::new(&mut self.stream).poll_read(&mut cx, &mut byte).is_pending()
    }

    /// The connection for another protocol, and what was received of it already.
    pub(super) fn into_parts(self) -> (Stream, Vec<u8>) {
        let received = self.buffered().to_vec();
        (self.stream, received)
    }
}
