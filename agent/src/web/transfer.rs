//! The exchange of one request and its response on a link: which bytes of which body are still to come.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use super::link::Link;
use crate::http1::{BodyDecoder, Framing, LAST_CHUNK};

/// Bytes of a streamed response that are gathered before they are sent as one chunk.
const CHUNK: usize = 16 * 1024;
/// The place of a chunk's size: four hexadecimal digits, CR and LF.
const CHUNK_HEAD: usize = 6;

/// The bodies of one exchange.
pub(super) struct Transfer {
    pub link: Box<Link>,
    decoder: BodyDecoder,
    /// Payload that was read and put back.
    again: Option<Box<Again>>,
    /// The client waits for `100 Continue` before it sends its body.
    awaits_continue: bool,
    /// `100 Continue` stands in the link's output; it must be sent before the body can come.
    asks: bool,
    stage: Stage,
    /// Bytes of the request's body that may still be read, if there is a limit.
    pub budget: Option<u64>,
    /// Why the request's body cannot be read to its end; the status to answer with.
    pub fault: Option<u16>,
    /// Nothing may follow on this connection.
    pub close: bool,
}

/// How far the response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing is sent.
    Open,
    /// The head is sent, or in the link's output.
    Streaming(Body),
    /// Everything is sent, or in the link's output.
    Complete,
    /// The connection left HTTP and is a WebSocket.
    Upgraded(Wire),
}

/// What was last sent on a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// A whole frame, or nothing yet.
    Whole,
    /// Perhaps a part of a frame or of a message: nothing else can follow.
    Partial,
    /// A close frame.
    Closed,
}

/// How a streamed response is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// In chunks; the place in the output of the one that is being filled.
    Chunked(Option<usize>),
    /// So many bytes are to come.
    Length(u64),
    /// Until the connection closes (HTTP/1.0).
    UntilClose,
    /// The response has no body (HEAD); what is written is dropped.
    Dropped,
}

/// In a box: seldom used, and a part of every connection.
#[derive(Default)]
struct Again(Vec<u8>);

impl Transfer {
    pub fn new(link: Box<Link>, decoder: BodyDecoder, awaits_continue: bool) -> Self {
        let awaits_continue = awaits_continue && !decoder.is_done();
        Self {
            link,
            decoder,
            again: None,
            awaits_continue,
            asks: false,
            stage: Stage::Open,
            budget: None,
            fault: None,
            close: false,
        }
    }

    /// The exchange on a connection to a program behind the server: the body that is sent is the request's, and the one that
    /// is received, see [`Transfer::expect`], the response's.
    pub fn upstream(link: Box<Link>, stage: Stage) -> Self {
        Self { stage, ..Self::new(link, BodyDecoder::new(Framing::Empty), false) }
    }

    /// A body comes that is framed so.
    pub fn expect(&mut self, framing: Framing) {
        self.decoder = BodyDecoder::new(framing);
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The head, and for [`Stage::Complete`] the body, stands in the link's output.
    pub fn begin(&mut self, stage: Stage) {
        self.stage = stage;
    }

    /// Whether the whole request was received, and nothing of its body was put back.
    pub fn is_received(&self) -> bool {
        self.decoder.is_done() && self.put_back_bytes() == 0
    }

    /// Whether the request was received and the response was sent, and another request may follow at once.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Complete && !self.close && self.link.output.is_empty() && self.is_received()
    }

    /// The bytes of the request's body that are still to come, if known.
    pub fn remaining(&self) -> Option<u64> {
        self.decoder.remaining().map(|left| left + self.put_back_bytes() as u64)
    }

    fn put_back_bytes(&self) -> usize {
        self.again.as_ref().map_or(0, |again| again.0.len())
    }

    /// Whether the client holds its body back and was not asked for it. It may or may not send it after a final response, so
    /// nothing can follow.
    pub fn holds_back(&self) -> bool {
        self.awaits_continue
    }

    /// Tells a client that holds its body back to send it (RFC 9110 §10.1.1), with what is sent next.
    pub fn ask_for_body(&mut self) {
        if std::mem::take(&mut self.awaits_continue) && self.stage == Stage::Open {
            self.link.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.asks = true;
        }
    }

    /// Puts back payload that was read: it is read again before what follows.
    pub fn put_back(&mut self, payload: Vec<u8>) {
        self.again.get_or_insert_default().0.splice(..0, payload);
    }

    /// Reads payload of the request's body; 0 at its end.
    pub fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let result = ready!(self.poll_payload(cx, buf));
        if let Err(error) = &result {
            self.fault.get_or_insert(match error.kind() {
                io::ErrorKind::TimedOut => 408,
                io::ErrorKind::FileTooLarge => 413,
                _ => 400,
            });
        }
        Poll::Ready(result)
    }

    fn poll_payload(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if let Some(again) = self.again.as_mut().filter(|again| !again.0.is_empty()) {
            let length = again.0.len().min(buf.len());
            buf.iter_mut().zip(again.0.drain(..length)).for_each(|(to, from)| *to = from);
            return Poll::Ready(Ok(length));
        }
        self.ask_for_body();
        if self.asks {
            ready!(self.poll_flush(cx))?;
            self.asks = false;
        }
        while !self.decoder.is_done() {
            let direct = usize::try_from(self.decoder.direct()).unwrap_or(usize::MAX).min(buf.len());
            let received = self.link.received();
            if direct == 0 {
                let used = self.decoder.frame(received)?;
                let is_short = used == received.len() && self.decoder.direct() == 0 && !self.decoder.is_done();
                self.link.consume(used);
                if is_short && ready!(self.link.poll_fill(cx))? == 0 {
                    self.decoder.end_of_input()?;
                }
                continue;
            }
            let length = match direct.min(received.len()) {
                0 => ready!(self.link.poll_read(cx, buf.get_mut(..direct).unwrap_or_default()))?,
                length => {
                    if let (Some(to), Some(from)) = (buf.get_mut(..length), received.get(..length)) {
                        to.copy_from_slice(from);
                    }
                    self.link.consume(length);
                    length
                }
            };
            if length == 0 {
                self.decoder.end_of_input()?;
            }
            self.decoder.advance(length as u64);
            if let Some(budget) = &mut self.budget {
                *budget = budget.checked_sub(length as u64).ok_or(io::ErrorKind::FileTooLarge)?;
            }
            return Poll::Ready(Ok(length));
        }
        Poll::Ready(Ok(0))
    }

    /// Takes what fits of a streamed response.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let Stage::Streaming(body) = self.stage else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        if body == Body::Dropped {
            ready!(self.link.poll_skip(cx, data.len()));
            return Poll::Ready(Ok(data.len()));
        }
        if self.link.output.len() >= CHUNK {
            ready!(self.poll_flush(cx))?;
        }
        let room = CHUNK.saturating_sub(self.link.output.len()).clamp(1, CHUNK);
        let data = data.get(..room.min(data.len())).unwrap_or_default();
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match &mut self.stage {
            Stage::Streaming(Body::Chunked(open @ None)) => {
                *open = Some(self.link.output.len());
                self.link.output.extend_from_slice(b"0000\r\n");
            }
            Stage::Streaming(Body::Length(left)) => match left.checked_sub(data.len() as u64) {
                Some(rest) => *left = rest,
                None => {
                    let text = "more bytes than the length that was announced";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidInput, text)));
                }
            },
            _ => {}
        }
        self.link.output.extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    /// Sends what was taken so far.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.seal();
        self.link.poll_flush(cx)
    }

    /// The streamed response is complete.
    ///
    /// # Errors
    /// Fewer bytes were written than announced.
    pub fn finish(&mut self) -> io::Result<()> {
        self.seal();
        match self.stage {
            Stage::Streaming(Body::Chunked(_)) => self.link.output.extend_from_slice(LAST_CHUNK),
            Stage::Streaming(Body::UntilClose) => self.close = true,
            Stage::Streaming(Body::Length(1..)) => {
                let text = "fewer bytes than the length that was announced";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            _ => {}
        }
        self.stage = Stage::Complete;
        Ok(())
    }

    /// Reads and drops the rest of the request's body, at most `limit` bytes. Whether another request may follow.
    pub async fn drain(&mut self, limit: usize) -> bool {
        if self.fault.is_some() || self.holds_back() || self.remaining().is_some_and(|left| left > limit as u64) {
            return false;
        }
        let mut dropped = 0;
        while !self.decoder.is_done() && dropped <= limit {
            // The buffer lives only as long as a poll: it would be part of every connection's memory.
            match poll_fn(|cx| self.poll_body(cx, &mut [0; 4096])).await {
                Ok(0) | Err(_) => break,
                Ok(read) => dropped += read,
            }
        }
        self.decoder.is_done()
    }

    /// Writes the size of the chunk that is being filled.
    fn seal(&mut self) {
        let Stage::Streaming(Body::Chunked(open)) = &mut self.stage else { return };
        let Some(start) = open.take() else { return };
        let output = &mut self.link.output;
        let size = output.len().saturating_sub(start + CHUNK_HEAD);
        for (place, shift) in output.iter_mut().skip(start).take(4).zip([12, 8, 4, 0]) {
            *place = char::from_digit((size >> shift) as u32 & 15, 16).map_or(b'0', |digit| digit as u8);
        }
        output.extend_from_slice(b"\r\n");
    }
}
