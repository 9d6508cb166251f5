//! A connection: bytes both ways, whatever carries them.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use smol::io::{AsyncRead, AsyncWrite};
use smol::net::TcpStream;
use smol::net::unix::UnixStream;

/// A connection over TCP, over TLS, or over a Unix socket.
///
/// What was written to a TLS stream may rest in its buffer until `flush`.
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP, as client or as server.
    #[cfg(feature = "tls")]
    Tls(Box<futures_rustls::TlsStream<TcpStream>>),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Whether what passes is encrypted.
    pub fn is_tls(&self) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(_) => true,
            _ => false,
        }
    }

    /// The address of the other side; nothing for a Unix socket or when the connection is gone.
    pub fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.get_ref().0.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Bytes that were written and flushed, as they are on the wire, and that the other side has not acknowledged.
    ///
    /// # Errors
    /// When the kernel does not say.
    #[cfg(feature = "logs")]
    pub fn underway(&self) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => super::underway(stream),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => super::underway(stream.get_ref().0),
            Self::Unix(stream) => super::underway(stream),
        }
    }

    /// Has the kernel ask after so much silence whether the other side is still there.
    #[cfg(feature = "logs")]
    pub fn keep_alive(&self, silence: std::time::Duration) {
        use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle};
        let tcp = match self {
            Self::Tcp(stream) => stream,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.get_ref().0,
            Self::Unix(_) => return,
        };
        // Without it a connection whose other side has gone is noticed when something is sent.
        let _ = set_socket_keepalive(tcp, true).and_then(|()| set_tcp_keepidle(tcp, silence));
    }

    /// The application protocol that the TLS handshake agreed on (ALPN, RFC 7301).
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            _ => None,
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

#[cfg(feature = "tls")]
impl From<futures_rustls::client::TlsStream<TcpStream>> for Stream {
    fn from(stream: futures_rustls::client::TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(stream.into()))
    }
}

#[cfg(feature = "tls")]
impl From<futures_rustls::server::TlsStream<TcpStream>> for Stream {
    fn from(stream: futures_rustls::server::TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(stream.into()))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Tcp(_) => "Tcp",
            #[cfg(feature = "tls")]
            Self::Tls(_) => "Tls",
            Self::Unix(_) => "Unix",
        };
        f.debug_struct(kind).field("peer", &self.peer()).finish_non_exhaustive()
    }
}

/// Runs the same call on whatever carries the bytes.
macro_rules! carried {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            #[cfg(feature = "tls")]
            Stream::Tls($stream) => $call,
            Stream::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        carried!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        carried!(self, stream => Pin::new(stream).poll_read_vectored(cx, bufs))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        carried!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        carried!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(self, stream => Pin::new(stream).poll_close(cx))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use smol::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn bytes_pass_through_a_unix_stream_both_ways() {
        smol::block_on(async {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (mut ours, mut theirs) = (Stream::from(ours), Stream::from(theirs));
            ours.write_all(b"ping").await.unwrap();
            let mut got = [0; 4];
            theirs.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"ping");
            theirs.write_all(b"pong").await.unwrap();
            ours.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"pong");
            assert!(!ours.is_tls() && ours.peer().is_none() && ours.alpn().is_none());
            theirs.close().await.unwrap();
            assert_eq!(ours.read(&mut got).await.unwrap(), 0);
        });
    }
}
