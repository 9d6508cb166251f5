//! The body of a request as a stream.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use smol::io::AsyncRead;

use super::transfer::Transfer;

/// Reads the body of a request as it arrives; the end of the stream is the end of the body. What is not read stays with the
/// client, so memory is bounded by the reader's own buffer. The first read tells a client that waits for it to go on.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] when the client is too slow, [`io::ErrorKind::UnexpectedEof`] when it went away,
/// [`io::ErrorKind::InvalidData`] for malformed chunks. An action may just pass them on: the client gets 408 or 400.
pub struct Body<'a> {
    pub(super) transfer: &'a RefCell<Transfer>,
}

impl AsyncRead for Body<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.transfer.borrow_mut().poll_body(cx, buf)
    }
}
