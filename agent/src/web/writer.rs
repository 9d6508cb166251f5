//! The body of a response as a stream.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use smol::io::AsyncWrite;

use super::Error;
use super::transfer::{Stage, Transfer};

/// Writes the body of a response piece by piece, in memory that does not grow with it: 16 KiB are gathered and sent, and a
/// client that reads slowly makes the writer wait.
///
/// The response is complete when [`BodyWriter::finish`] was called or the action returned `Ok`. When the action fails, the
/// connection is cut, so that the client can tell a part from the whole.
pub struct BodyWriter<'a> {
    pub(super) transfer: &'a RefCell<Transfer>,
}

impl BodyWriter<'_> {
    /// Completes the response and sends all of it.
    ///
    /// # Errors
    /// The client is gone or too slow; or fewer bytes were written than announced.
    pub async fn finish(mut self) -> Result<(), Error> {
        Ok(poll_fn(|cx| Pin::new(&mut self).poll_close(cx)).await?)
    }
}

impl AsyncWrite for BodyWriter<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.transfer.borrow_mut().poll_write(cx, data)
    }

    /// Sends what was gathered, for events that must not wait for more.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transfer.borrow_mut().poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut transfer = self.transfer.borrow_mut();
        if transfer.stage() != Stage::Complete {
            transfer.finish()?;
        }
        ready!(transfer.poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }
}
