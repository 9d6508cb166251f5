//! A response: its head, and its body as a stream.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::Value;
use smol::Timer;
use smol::future::FutureExt;
use smol::io::AsyncRead;

use super::call::Call;
use super::connection::Connection;
use super::course::Course;
use super::gunzip::{self, Gunzip};
use super::payload::Payload;
use super::pool::Origin;
use super::ranges::ContentRange;
use super::sender::Sender;
use super::{Error, Url, save};
use crate::http1::{Headers, ResponseHead};
use crate::net::Stream;

/// Bytes of a body nobody wants that are read to keep the connection; a larger one costs more than a new connection.
const DISCARD: usize = 16 * 1024;

/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Bytes that are taken from a body at once where it is collected in memory.
const PIECE: usize = 16 * 1024;

/// A response whose head is there. Its body is read through [`AsyncRead`](smol::io::AsyncRead), or as a whole with
/// [`bytes`](Self::bytes), [`text`](Self::text), [`json`](Self::json) or [`save`](Self::save).
///
/// A body that breaks off or stalls is an error, never a short body. When the body was read to its end the connection is
/// kept for the next request; a response that is dropped before closes it.
pub struct Response {
    url: Url,
    head: ResponseHead,
    payload: Payload,
    gunzip: Option<Box<Gunzip>>,
}

impl Response {
    pub(super) fn new(
        call: &Call<'_>,
        head: ResponseHead,
        connection: Connection,
        sender: Sender,
        origin: Origin,
        course: Course,
    ) -> Result<Self, Error> {
        let is_gzip = call.plan.compressed && gunzip::is_gzip(&head.headers);
        let mut payload = Payload::new(call, &head, connection, sender, origin, course)?;
        let gunzip = (is_gzip && !payload.is_done()).then(Box::default);
        payload.begin();
        Ok(Self { url: call.url.clone(), head, payload, gunzip })
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

    /// The part of the whole that a response of status 206 brings (RFC 9110 §14.4).
    pub fn range(&self) -> Option<ContentRange> {
        self.header("content-range").filter(|_| self.status() == 206)?.parse().ok()
    }

    /// The fields that followed a body in chunks; none before its end was read (RFC 9112 §7.1.2).
    pub fn trailers(&self) -> Headers {
        self.payload.trailers()
    }

    /// The bytes of the body that are still to come, when the server said so and they are not compressed.
    pub fn remaining(&self) -> Option<u64> {
        self.payload.remaining().filter(|left| self.gunzip.is_none() || *left == 0)
    }

    /// Reads the next bytes of the body into `buf`; 0 at its end.
    pub async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        poll_fn(|cx| self.poll_body(cx, buf)).await
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
            let got = self.read(bytes.get_mut(start..).unwrap_or_default()).await?;
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

    /// Writes the body to a file, which is made or emptied, and returns its length. What is there when it fails is not the
    /// whole: see [`Request::download`](super::Request::download) for files that are whole or not there, and go on where they
    /// broke off.
    pub async fn save(mut self, path: impl AsRef<Path>) -> Result<u64, Error> {
        let mut file = save::Sink::create(path.as_ref()).await?;
        save::pour(&mut self, &mut file, None).await
    }

    /// The connection of a response of status 101, and what was received on it already.
    pub(super) fn upgraded(self) -> Option<(Stream, Vec<u8>)> {
        self.payload.into_connection().map(Connection::into_parts)
    }

    /// Reads a short body away so that the connection can be kept; what the request has left of its time goes on.
    pub(super) async fn discard(mut self) -> Course {
        let mut left = DISCARD;
        let mut piece = vec![0; 4096];
        let mut too_late = Timer::after(DISCARD_TIME);
        while left > 0 && self.payload.remaining().is_none_or(|remaining| remaining <= left as u64) {
            let read = poll_fn(|cx| self.payload.poll_read(cx, &mut piece)).or(async {
                (&mut too_late).await;
                Ok(0)
            });
            match read.await {
                Ok(0) | Err(_) => break,
                Ok(got) => left = left.saturating_sub(got),
            }
        }
        self.payload.into_course()
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize, Error>> {
        match &mut self.gunzip {
            None => self.payload.poll_read(cx, buf),
            Some(gunzip) => gunzip.poll_read(cx, buf, &mut self.payload),
        }
    }
}

impl AsyncRead for Response {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_body(cx, buf).map_err(Error::into_io)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("url", &self.url).field("head", &self.head).finish_non_exhaustive()
    }
}
