//! A connection with what was received on it and not used yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use smol::io::AsyncRead;

use crate::http1::{Error, Limits, ResponseHead, parse_response};
use crate::net::Stream;

/// Bytes that are received at once while it is not known where they belong.
const BUFFER: usize = 8 * 1024;

/// A connection to a server.
pub(super) struct Connection {
    pub(super) stream: Stream,
    /// Received and not used: `received[used..]`.
    received: Vec<u8>,
    used: usize,
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, received: Vec::new(), used: 0 }
    }

    /// What was received and not used.
    pub(super) fn buffered(&self) -> &[u8] {
        self.received.get(self.used..).unwrap_or_default()
    }

    /// Marks the first bytes of the buffer as used.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.used += bytes;
        if self.used >= self.received.len() {
            self.received.clear();
            self.used = 0;
        }
    }

    /// Receives more into the buffer, as much as the server has sent; 0 when it closed.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.received.drain(..self.used);
        self.used = 0;
        let start = self.received.len();
        self.received.resize(start + BUFFER, 0);
        let result = Pin::new(&mut self.stream).poll_read(cx, &mut self.received[start..]);
        let got = match &result {
            Poll::Ready(Ok(got)) => *got,
            _ => 0,
        };
        self.received.truncate(start + got);
        result
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

    /// Whether the server neither closed an idle connection nor sent anything on it.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut byte = [0];
        self.buffered().is_empty() && Pin::new(&mut self.stream).poll_read(&mut cx, &mut byte).is_pending()
    }
}
