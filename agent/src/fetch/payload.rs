//! The body of a response as it comes from the connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use smol::io::AsyncRead;

use super::call::Call;
use super::connection::Connection;
use super::course::Course;
use super::pool::Origin;
use super::sender::{Failure, Sender};
use super::{Client, Error, Stage};
use crate::http1::{self, BodyDecoder, Framing, Headers, ResponseHead, Step};

/// What is left to receive of a response.
pub(super) struct Payload {
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
    upgraded: bool,
    /// Bytes of the whole that are here already.
    offset: u64,
    /// Since when nothing moved.
    since: Option<Instant>,
    course: Course,
}

impl Payload {
    pub fn new(
        call: &Call<'_>,
        head: &ResponseHead,
        connection: Connection,
        sender: Sender,
        origin: Origin,
        course: Course,
    ) -> Result<Self, Error> {
        let host = call.url.host().to_owned();
        let framing = head.framing(call.method).map_err(|source| Error::Response { host: host.clone(), source })?;
        let sender = Some(sender).filter(|sender| !sender.is_done());
        // A refusal that comes early tells us to stop: the server may not even read the rest.
        let refused = sender.is_some() && head.status >= 300;
        let mut decoder = BodyDecoder::new(framing);
        decoder.keep_trailers();
        Ok(Self {
            client: call.client.clone(),
            origin,
            host,
            connection: Some(connection),
            sender: sender.filter(|_| !refused),
            decoder,
            ready: 0,
            reusable: head.keeps_alive() && framing != Framing::UntilClose && head.status != 101 && !refused,
            upgraded: head.status == 101 && call.plan.upgrade.is_some(),
            offset: if head.status == 206 { call.plan.offset } else { 0 },
            since: None,
            course,
        })
    }

    /// Tells how much will come; without a body it is over already.
    pub fn begin(&mut self) {
        self.course.meter.expect(self.decoder.remaining(), self.offset);
        if self.decoder.is_done() && !self.upgraded {
            self.finish();
        }
    }

    pub fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn trailers(&self) -> Headers {
        self.decoder.trailers()
    }

    /// Bytes still to come, if their number is known.
    pub fn remaining(&self) -> Option<u64> {
        self.decoder.remaining().map(|left| left + self.ready as u64)
    }

    pub fn into_connection(self) -> Option<Connection> {
        self.connection
    }

    pub fn into_course(self) -> Course {
        self.course
    }

    /// Payload into `buf`; 0 at the end of the body. An error ends the connection.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize, Error>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut result = self.poll_payload(cx, buf);
        match &result {
            Poll::Ready(Ok(0)) => {}
            Poll::Ready(Ok(got)) => {
                self.course.meter.received(*got);
                if let Err(error) = self.course.check(&self.host) {
                    self.connection = None;
                    return Poll::Ready(Err(error));
                }
            }
            Poll::Ready(Err(_)) => self.connection = None,
            Poll::Pending => {
                result = self.poll_deadline(cx);
            }
        }
        result
    }

    fn poll_payload(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize, Error>> {
        self.send_rest(cx)?;
        let mut buf = buf;
        if self.connection.is_some() {
            let room = match self.course.meter.poll_room(cx, buf.len()) {
                Poll::Ready(room) => room,
                Poll::Pending => {
                    // The server is not to blame.
                    self.since = None;
                    return Poll::Pending;
                }
            };
            buf = buf.get_mut(..room).unwrap_or_default();
        }
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
                let result = ready!(Pin::new(&mut connection.stream).poll_read(cx, &mut buf[..direct]));
                if let Ok(got @ 1..) = result {
                    self.since = None;
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
                        ready!(connection.poll_fill(cx))
                    }
                }
            };
            match received {
                Ok(0) => {
                    self.decoder.end_of_input().map_err(|source| self.refusal(source))?;
                    self.finish();
                    return Poll::Ready(Ok(0));
                }
                Ok(_) => self.since = None,
                // rustls tells an end without a goodbye, which an attacker can make, from a proper one.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Err(self.refusal(http1::Error::Truncated)));
                }
                Err(source) => return Poll::Ready(Err(Error::Broken { host: self.host.clone(), source })),
            }
        }
    }

    /// A server may stream its answer while the request still comes.
    fn send_rest(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let (Some(connection), Some(sender)) = (&mut self.connection, &mut self.sender) else { return Ok(()) };
        let before = sender.total();
        match sender.poll(cx, &mut connection.stream, &mut self.course.meter) {
            Poll::Pending => {
                if sender.total() != before {
                    self.since = None;
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

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Error>> {
        let Some(connection) = &mut self.connection else { return Poll::Pending };
        let since = *self.since.get_or_insert_with(Instant::now);
        let idle = (Stage::Idle, since, self.client.options().timeouts.idle);
        let over = ready!(self.course.poll(cx, &mut connection.alarm, Some(idle), &self.host));
        self.connection = None;
        Poll::Ready(Err(over))
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
