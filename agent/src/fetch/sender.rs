//! Sends a request: its head, then its body as it comes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use smol::io::{AsyncRead, AsyncWrite};

use super::body::{Body, Kind};
use crate::http1::{LAST_CHUNK, encode_chunk};
use crate::net::Stream;

/// Bytes that are read from a body at once, and the size of its chunks.
const PIECE: usize = 16 * 1024;

/// Smaller bodies travel in one write with the head.
const TOGETHER: usize = 16 * 1024;

/// What is left to send of a request.
pub(super) struct Sender {
    /// Encoded bytes; `out[sent..]` is next.
    out: Vec<u8>,
    sent: usize,
    rest: Rest,
    /// Bytes that the connection took.
    total: u64,
}

/// The part of the body that is not in `out` yet.
enum Rest {
    Bytes(Arc<Vec<u8>>, usize),
    Reader { reader: Box<dyn AsyncRead + Send + Unpin>, left: Option<u64>, piece: Vec<u8> },
    Flush,
    Nothing,
}

/// Why sending stopped.
pub(super) enum Failure {
    /// The body of the request could not be read.
    Body(io::Error),
    /// The connection did not take more; the server may have answered nevertheless.
    Connection(io::Error),
}

impl Sender {
    /// `head` is encoded, and says how the body is framed.
    pub(super) fn new(mut head: Vec<u8>, body: Body) -> Self {
        let rest = match body.0 {
            Kind::Empty => Rest::Flush,
            Kind::Bytes(bytes) if bytes.len() <= TOGETHER => {
                head.extend_from_slice(&bytes);
                Rest::Flush
            }
            Kind::Bytes(bytes) => Rest::Bytes(bytes, 0),
            Kind::Reader(left, reader) => Rest::Reader { reader, left, piece: Vec::new() },
        };
        Self { out: head, sent: 0, rest, total: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// Bytes that the connection took so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Sends what can be sent now; ready when all is on its way.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<Result<(), Failure>> {
        loop {
            if let Some(next) = self.out.get(self.sent..).filter(|next| !next.is_empty()) {
                let taken = ready!(poll_write(cx, stream, next))?;
                self.sent += taken;
                self.total += taken as u64;
                continue;
            }
            self.out.clear();
            self.sent = 0;
            match &mut self.rest {
                Rest::Bytes(bytes, at) => match bytes.get(*at..).filter(|next| !next.is_empty()) {
                    Some(next) => {
                        let taken = ready!(poll_write(cx, stream, next))?;
                        *at += taken;
                        self.total += taken as u64;
                    }
                    None => self.rest = Rest::Flush,
                },
                Rest::Reader { .. } => match self.poll_piece(cx) {
                    Poll::Ready(result) => result?,
                    Poll::Pending => {
                        // What was sent so far must not wait in the buffer of TLS for what is not there yet.
                        ready!(Pin::new(stream).poll_flush(cx)).map_err(Failure::Connection)?;
                        return Poll::Pending;
                    }
                },
                Rest::Flush => {
                    ready!(Pin::new(&mut *stream).poll_flush(cx)).map_err(Failure::Connection)?;
                    self.rest = Rest::Nothing;
                }
                Rest::Nothing => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Reads the next piece of the body and encodes it.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Rest::Reader { reader, left, piece } = &mut self.rest else { return Poll::Ready(Ok(())) };
        let wanted = left.map_or(PIECE, |left| usize::try_from(left).unwrap_or(PIECE).min(PIECE));
        piece.resize(PIECE, 0);
        let got = match wanted {
            0 => 0,
            _ => ready!(Pin::new(reader).poll_read(cx, &mut piece[..wanted])).map_err(Failure::Body)?,
        };
        let read = piece.get(..got).unwrap_or_default();
        match left {
            None => encode_chunk(read, &mut self.out),
            Some(left) => {
                self.out.extend_from_slice(read);
                *left -= got as u64;
            }
        }
        if got == 0 {
            match left {
                Some(0) => {}
                Some(left) => {
                    let missing = format!("it ends {left} bytes before its stated length");
                    return Poll::Ready(Err(Failure::Body(io::Error::new(io::ErrorKind::UnexpectedEof, missing))));
                }
                None => self.out.extend_from_slice(LAST_CHUNK),
            }
            self.rest = Rest::Flush;
        }
        Poll::Ready(Ok(()))
    }
}

fn poll_write(cx: &mut Context<'_>, stream: &mut Stream, bytes: &[u8]) -> Poll<Result<usize, Failure>> {
    match ready!(Pin::new(stream).poll_write(cx, bytes)) {
        Ok(0) => Poll::Ready(Err(Failure::Connection(io::ErrorKind::WriteZero.into()))),
        other => Poll::Ready(other.map_err(Failure::Connection)),
    }
}
