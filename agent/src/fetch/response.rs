//! A response: its head, and its body as a stream.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::Value;
use smol::Timer;
use smol::future::FutureExt;
use smol::io::AsyncRead;

use super::connection::Connection;
use super::pool::Origin;
use super::sender::{Failure, Sender};
use super::timer::{IdleTimer, TotalTimer};
use super::{Client, Error, Stage, Url};
use crate::http1::{self, BodyDecoder, Framing, Headers, Method, ResponseHead, Step};

/// Bytes of a body nobody wants that are read to keep the connection; a larger one costs more than a new connection.
const DISCARD: usize = 16 * 1024;

/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Bytes that are taken from a body at once where it is collected in memory.
const PIECE: usize = 16 * 1024;

/// A response whose head is there. Its body is read through [`AsyncRead`](smol::io::AsyncRead), or as a whole with
/// [`bytes`](Self::bytes), [`text`](Self::text) or [`json`](Self::json).
///
/// A body that breaks off or stalls is an error, never a short body. When the body was read to its end the connection is
/// kept for the next request; a response that is dropped before closes it.
pub struct Response {
    url: Url,
    head: ResponseHead,
    body: BodyReader,
}

struct BodyReader {
    client: Client,
    origin: Origin,
    host: String,
    connection: Option<Connection>,
    /// The request, as long as some of it is unsent.
    sender: Option<Sender>,
    decoder: BodyDecoder,
    /// Payload at the start of the connection's buffer that the decoder has passed already.
    ready: usize,
    reusable: bool,
    idle: IdleTimer,
    total: TotalTimer,
}

impl Response {
    pub(super) fn new(
        client: &Client,
        url: Url,
        method: &Method,
        head: ResponseHead,
        connection: Connection,
        sender: Sender,
        total: TotalTimer,
    ) -> Result<Self, Error> {
        let host = url.host().to_owned();
        let framing = head.framing(method).map_err(|source| Error::Response { host: host.clone(), source })?;
        let sender = Some(sender).filter(|sender| !sender.is_done());
        // A refusal that comes early tells us to stop: the server may not even read the rest.
        let refused = sender.is_some() && head.status >= 300;
        let mut body = BodyReader {
            client: client.clone(),
            origin: Origin::of(&url),
            host,
            connection: Some(connection),
            sender: sender.filter(|_| !refused),
            decoder: BodyDecoder::new(framing),
            ready: 0,
            reusable: head.keeps_alive() && framing != Framing::UntilClose && head.status != 101 && !refused,
            idle: IdleTimer::new(client.options().timeouts.idle),
            total,
        };
        if body.decoder.is_done() {
            body.finish();
        }
        Ok(Self { url, head, body })
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// Whether the status code is 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.head.status)
    }

    /// The value of a header field; the first one, when there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)
    }

    /// All header fields.
    pub fn headers(&self) -> &Headers {
        &self.head.headers
    }

    /// The URL that answered, after redirections.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The bytes of the body that are still to come, when the server said so.
    pub fn remaining(&self) -> Option<u64> {
        self.body.decoder.remaining().map(|left| left + self.body.ready as u64)
    }

    /// The whole body, at most `limit` bytes.
    pub async fn bytes(mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let expected = self.remaining().unwrap_or(0);
        if expected > limit as u64 {
            return Err(Error::TooLarge { limit });
        }
        let mut bytes = Vec::with_capacity((expected as usize).min(PIECE));
        loop {
            let start = bytes.len();
            // One byte beyond the limit tells a body that is too large from one that just fits.
            bytes.resize((start + PIECE).min(limit.saturating_add(1)), 0);
            let got = poll_fn(|cx| self.body.poll_read(cx, bytes.get_mut(start..).unwrap_or_default())).await?;
            bytes.truncate(start + got);
            if got == 0 {
                return Ok(bytes);
            }
            if bytes.len() > limit {
                return Err(Error::TooLarge { limit });
            }
        }
    }

    /// The whole body as text in UTF-8, at most `limit` bytes.
    pub async fn text(self, limit: usize) -> Result<String, Error> {
        String::from_utf8(self.bytes(limit).await?).map_err(|_| Error::Text)
    }

    /// The whole body as JSON, at most `limit` bytes.
    pub async fn json(self, limit: usize) -> Result<Value, Error> {
        serde_json::from_slice(&self.bytes(limit).await?).map_err(Error::Json)
    }

    /// Reads a short body away so that the connection can be kept; what the request has left of its time goes on.
    pub(super) async fn discard(mut self) -> TotalTimer {
        let mut left = DISCARD;
        let mut piece = vec![0; 4096];
        let mut too_late = Timer::after(DISCARD_TIME);
        while left > 0 && self.remaining().is_none_or(|remaining| remaining <= left as u64) {
            let read = poll_fn(|cx| self.body.poll_read(cx, &mut piece)).or(async {
                (&mut too_late).await;
                Ok(0)
            });
            match read.await {
                Ok(0) | Err(_) => break,
                Ok(got) => left = left.saturating_sub(got),
            }
        }
        self.body.total
    }
}

impl AsyncRead for Response {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.body.poll_read(cx, buf).map_err(Error::into_io)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("url", &self.url).field("head", &self.head).finish_non_exhaustive()
    }
}

impl BodyReader {
    /// Payload into `buf`; 0 at the end of the body. An error ends the connection.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize, Error>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let result = self.poll_payload(cx, buf);
        if let Poll::Ready(Err(_)) = result {
            self.connection = None;
        }
        result
    }

    fn poll_payload(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize, Error>> {
        self.send_rest(cx)?;
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(self.ended()) };
            if self.ready > 0 {
                let length = self.ready.min(buf.len()).min(connection.buffered().len());
                buf[..length].copy_from_slice(&connection.buffered()[..length]);
                connection.consume(length);
                self.ready -= length;
                if self.ready == 0 && self.decoder.is_done() {
                    self.finish();
                }
                return Poll::Ready(Ok(length));
            }
            let direct = usize::try_from(self.decoder.direct()).unwrap_or(usize::MAX).min(buf.len());
            let received = if direct > 0 && connection.buffered().is_empty() {
                let result = Pin::new(&mut connection.stream).poll_read(cx, &mut buf[..direct]);
                if let Poll::Ready(Ok(got @ 1..)) = result {
                    self.idle.progress();
                    self.decoder.advance(got as u64);
                    if self.decoder.is_done() {
                        self.finish();
                    }
                    return Poll::Ready(Ok(got));
                }
                result
            } else {
                match self.decoder.decode(connection.buffered()) {
                    Err(source) => return Poll::Ready(Err(self.refusal(source))),
                    Ok(Step::Payload { start, end }) => {
                        connection.consume(start);
                        self.ready = end - start;
                        continue;
                    }
                    Ok(Step::End { used }) => {
                        connection.consume(used);
                        self.finish();
                        return Poll::Ready(Ok(0));
                    }
                    Ok(Step::More { used }) => {
                        connection.consume(used);
                        connection.poll_fill(cx)
                    }
                }
            };
            match received {
                Poll::Ready(Ok(0)) => {
                    self.decoder.end_of_input().map_err(|source| self.refusal(source))?;
                    self.finish();
                    return Poll::Ready(Ok(0));
                }
                Poll::Ready(Ok(_)) => self.idle.progress(),
                // rustls tells an end without a goodbye, which an attacker can make, from a proper one.
                Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Err(self.refusal(http1::Error::Truncated)));
                }
                Poll::Ready(Err(source)) => {
                    return Poll::Ready(Err(Error::Broken { host: self.host.clone(), source }));
                }
                Poll::Pending => return self.poll_timers(cx),
            }
        }
    }

    /// A server may stream its answer while the request still comes.
    fn send_rest(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let (Some(connection), Some(sender)) = (&mut self.connection, &mut self.sender) else { return Ok(()) };
        let before = sender.total();
        match sender.poll(cx, &mut connection.stream) {
            Poll::Pending => {
                if sender.total() != before {
                    self.idle.progress();
                }
                return Ok(());
            }
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(Failure::Body(source))) => return Err(Error::Body(source)),
            Poll::Ready(Err(Failure::Connection(_))) => self.reusable = false,
        }
        self.sender = None;
        Ok(())
    }

    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Error>> {
        let (stage, after) = match (self.idle.poll(cx), self.total.poll(cx)) {
            (Poll::Ready(()), _) => (Stage::Idle, self.idle.after()),
            (_, Poll::Ready(after)) => (Stage::Total, after),
            (Poll::Pending, Poll::Pending) => return Poll::Pending,
        };
        Poll::Ready(Err(Error::Timeout { host: self.host.clone(), stage, after }))
    }

    /// The body is complete: the connection is free, if nothing is wrong with it.
    fn finish(&mut self) {
        let connection = self.connection.take();
        if let Some(connection) = connection {
            if self.reusable && self.sender.is_none() && connection.buffered().is_empty() {
                self.client.keep(self.origin.clone(), connection);
            }
        }
    }

    /// What a read after the end gives: nothing more, or the same error as before.
    fn ended(&mut self) -> Result<usize, Error> {
        match self.decoder.is_done() {
            true => Ok(0),
            false => Err(self.refusal(http1::Error::Truncated)),
        }
    }

    fn refusal(&self, source: http1::Error) -> Error {
        Error::Response { host: self.host.clone(), source }
    }
}
