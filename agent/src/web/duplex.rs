//! What a connection runs over.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_rustls::server::TlsStream;
use smol::io::{AsyncRead, AsyncWrite};

/// TCP, TLS, a Unix socket.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin {
    /// Sends at most so many bytes of the file from that place on, without a copy. 0: the file has no more.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] when that does not go with this stream or this file; nothing was sent.
    fn poll_send_file(&mut self, _: &mut Context<'_>, _: &File, _: u64, _: usize) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Whether [`Duplex::poll_send_file`] goes with this stream.
    fn sends_files(&self) -> bool {
        false
    }

    /// Sends some of what more follows after at once.
    fn poll_write_more(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, data)
    }

    /// Bytes that were sent and did not arrive yet, as far as that is known.
    fn underway(&self) -> usize {
        0
    }
}

impl<T: Duplex> Duplex for TlsStream<T> {
    fn underway(&self) -> usize {
        self.get_ref().0.underway()
    }
}

#[cfg(test)]
impl Duplex for smol::io::Cursor<Vec<u8>> {}
