//! The beginning of a connection with TLS: the handshake, and who the client is.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_rustls::TlsAcceptor;
use futures_rustls::server::TlsStream;
use rustls::ServerConfig;
use smol::io::{AsyncRead, AsyncWrite};

use super::duplex::Duplex;
use super::exchange::Peer;
use crate::net::Holder;
use crate::net::tls_server::Failure;

/// Bytes that rustls gathers for one connection.
const BUFFER: usize = 16 * 1024;

/// Lines of the log about who was not let in.
const TOLD_PER_MINUTE: u64 = 20;

/// How a handshake ended.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum Handshake<S> {
    /// With a connection, and the verified certificate of the client if it showed one.
    Done(TlsStream<Opening<S>>, Option<Arc<Holder>>),
    /// The client speaks HTTP without TLS.
    Plain(S),
    /// With nothing.
    Failed,
}

/// Does the handshake. Why it failed goes to the log: what concerns client certificates for all to see, since a device
/// that is not let in asks its owner.
pub(super) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: Arc<ServerConfig>,
    peer: Peer,
) -> Handshake<S> {
    let opening = Opening { stream, state: State::Closed };
    let accept = TlsAcceptor::from(config).accept_with(opening, |connection| connection.set_buffer_limit(Some(BUFFER)));
    match accept.into_fallible().await {
        Ok(stream) => match holder(&stream) {
            Ok(holder) => Handshake::Done(stream, holder),
            Err(reason) => {
                tell(peer, reason);
                Handshake::Failed
            }
        },
        Err((_, Opening { stream, state: State::Plain })) => {
            log::debug!("{peer} speaks HTTP where https is");
            Handshake::Plain(stream)
        }
        Err((error, _)) => {
            match error.get_ref().and_then(|inner| inner.downcast_ref()).map(Failure) {
                Some(failure) if failure.is_of_certificate() => tell(peer, failure),
                _ => log::debug!("the TLS handshake with {peer} failed: {error}"),
            }
            Handshake::Failed
        }
    }
}

/// Says who was not let in; not more often than somebody wants to read it.
fn tell(peer: Peer, reason: impl fmt::Display) {
    // The minute, and in the last 16 bits how many it had.
    static TOLD: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 60);
    let next = |told: u64| {
        let count = if told >> 16 == now { (told & 0xffff) + 1 } else { 1 };
        now << 16 | count.min(0xffff)
    };
    let told = TOLD.fetch_update(Ordering::AcqRel, Ordering::Acquire, |told| Some(next(told))).map_or(0, next) & 0xffff;
    match told {
        ..=TOLD_PER_MINUTE => log::warn!("{peer} was not let in: {reason}"),
        _ if told == TOLD_PER_MINUTE + 1 => {
            log::warn!("{peer} was not let in, nor are others of this minute: {reason}")
        }
        _ => {}
    }
}

/// Whose certificate the client showed, now or when the session that it resumes began: since then it may have expired.
fn holder<S>(stream: &TlsStream<Opening<S>>) -> Result<Option<Arc<Holder>>, &'static str> {
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let Some(certificate) = shown else { return Ok(None) };
    let holder = Holder::read(certificate).ok_or("its client certificate cannot be read")?;
    match holder.is_current() {
        true => Ok(Some(Arc::new(holder))),
        false => Err("its client certificate has expired"),
    }
}

/// A stream the first byte of which is looked at on its way: HTTP without TLS shall get an answer that can be read. To look
/// before the handshake would take another system call for each connection.
pub(super) struct Opening<S> {
    stream: S,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    /// Nothing was received.
    Closed,
    /// The first byte may be TLS.
    Open,
    /// The first byte is that of a method.
    Plain,
}

impl<S: Duplex> Duplex for Opening<S> {
    fn underway(&self) -> usize {
        self.stream.underway()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let received = ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if self.state == State::Closed && received > 0 {
            // No record of TLS has such a type.
            if buf.first().is_some_and(u8::is_ascii_uppercase) {
                self.state = State::Plain;
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            self.state = State::Open;
        }
        Poll::Ready(Ok(received))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
