//! Sends a request: its head, then its body as it comes.

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use smol::io::{AsyncRead, AsyncWrite};

use super::body::{Body, Kind, Reader, Trailers};
use super::meter::Meter;
use crate::http1::{Headers, LAST_CHUNK, encode_field};
use crate::net::Stream;

/// Bytes that are read from a body at once, and the size of its chunks.
const PIECE: usize = 64 * 1024;

/// Bytes that are sent at once, however fast the connection is.
const BUDGET: usize = 1024 * 1024;

/// Before a piece, so that the size of a chunk can be written where its bytes are already.
const PREFIX: usize = 16;

/// What is left to send of a request.
pub(super) struct Sender {
    /// Encoded bytes; `out[sent..]` is next.
    out: Vec<u8>,
    sent: usize,
    rest: Rest,
    /// Bytes of the head that are not sent yet.
    head: usize,
    /// Bytes that the connection took.
    total: u64,
}

/// The part of the body that is not in `out` yet.
enum Rest {
    Bytes(Arc<Vec<u8>>, usize),
    Reader { reader: Reader, left: Option<u64>, trailers: Option<Trailers> },
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
    /// `head` is encoded, and says how the body is framed. The body is open.
    pub(super) fn new(head: Vec<u8>, body: Body) -> Self {
        let rest = match body.kind {
            Kind::Empty | Kind::Parts(_) => Rest::Flush,
            Kind::Bytes(bytes) => Rest::Bytes(bytes, 0),
            Kind::Reader(left, reader) => Rest::Reader { reader, left, trailers: body.trailers },
        };
        Self { head: head.len(), out: head, sent: 0, rest, total: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// Bytes that the connection took so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Sends what can be sent now; ready when all is on its way.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        meter: &mut Meter,
    ) -> Poll<Result<(), Failure>> {
        let mut budget = BUDGET;
        loop {
            let encoded = self.out.get(self.sent..).unwrap_or_default();
            let body = match &self.rest {
                Rest::Bytes(bytes, at) => bytes.get(*at..).unwrap_or_default(),
                _ => &[],
            };
            let waiting = encoded.len() + body.len();
            if waiting > 0 {
                // The answer is listened for meanwhile, and others want to run too.
                if budget == 0 {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let room = ready!(meter.poll_room(cx, waiting.min(budget)));
                let body = &body[..body.len().min(room.saturating_sub(encoded.len()))];
                let encoded = &encoded[..encoded.len().min(room)];
                let taken = ready!(poll_write(cx, stream, encoded, body))?;
                self.took(taken, meter);
                budget -= taken;
                continue;
            }
            self.out.clear();
            self.sent = 0;
            match &mut self.rest {
                Rest::Bytes(..) => self.rest = Rest::Flush,
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
                    self.out = Vec::new();
                }
                Rest::Nothing => return Poll::Ready(Ok(())),
            }
        }
    }

    fn took(&mut self, taken: usize, meter: &mut Meter) {
        self.total += taken as u64;
        let of_head = taken.min(self.head);
        self.head -= of_head;
        if taken > of_head {
            meter.sent(taken - of_head);
        }
        let encoded = taken.min(self.out.len().saturating_sub(self.sent));
        self.sent += encoded;
        if let Rest::Bytes(_, at) = &mut self.rest {
            *at += taken - encoded;
        }
    }

    /// Reads the next piece of the body and encodes it, in its place.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Rest::Reader { reader, left, trailers } = &mut self.rest else { return Poll::Ready(Ok(())) };
        let wanted = left.map_or(PIECE, |left| usize::try_from(left).unwrap_or(PIECE).min(PIECE));
        self.out.resize(PREFIX + wanted, 0);
        let read = match wanted {
            0 => Ok(0),
            _ => match Pin::new(reader).poll_read(cx, &mut self.out[PREFIX..]) {
                Poll::Ready(read) => read,
                Poll::Pending => {
                    self.out.clear();
                    return Poll::Pending;
                }
            },
        };
        let got = match read {
            Ok(got) => got,
            Err(error) => {
                self.out.clear();
                return Poll::Ready(Err(Failure::Body(error)));
            }
        };
        self.out.truncate(PREFIX + got);
        self.sent = PREFIX;
        match left {
            None if got > 0 => {
                let size = format!("{got:x}\r\n");
                self.sent = PREFIX - size.len();
                self.out[self.sent..PREFIX].copy_from_slice(size.as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
            None => {
                put_end(trailers.take(), &mut self.out)?;
                self.rest = Rest::Flush;
            }
            Some(left) => {
                *left -= got as u64;
                match (*left, got) {
                    (0, _) => self.rest = Rest::Flush,
                    (missing, 0) => {
                        let missing = format!("it ends {missing} bytes before its stated length");
                        return Poll::Ready(Err(Failure::Body(io::Error::new(io::ErrorKind::UnexpectedEof, missing))));
                    }
                    _ => {}
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The last chunk, and the trailers.
fn put_end(trailers: Option<Trailers>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let fields = trailers.map_or_else(Headers::new, |trailers| trailers());
    if fields.is_empty() {
        out.extend_from_slice(LAST_CHUNK);
        return Ok(());
    }
    let unsendable = |error| Failure::Body(io::Error::new(io::ErrorKind::InvalidInput, error));
    let _ = out.write_all(b"0\r\n");
    for (name, value) in fields.iter() {
        encode_field(name, value, out).map_err(unsendable)?;
    }
    let _ = out.write_all(b"\r\n");
    Ok(())
}

fn poll_write(cx: &mut Context<'_>, stream: &mut Stream, head: &[u8], body: &[u8]) -> Poll<Result<usize, Failure>> {
    let stream = Pin::new(stream);
    let written = match (head.is_empty(), body.is_empty()) {
        (_, true) => stream.poll_write(cx, head),
        (true, _) => stream.poll_write(cx, body),
        _ => stream.poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(body)]),
    };
    match ready!(written) {
        Ok(0) => Poll::Ready(Err(Failure::Connection(io::ErrorKind::WriteZero.into()))),
        other => Poll::Ready(other.map_err(Failure::Connection)),
    }
}
