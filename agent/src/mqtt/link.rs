//! Packets over a stream: bounded buffers on both sides, many packets in one write.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use smol::io::{AsyncRead, AsyncWrite};

use super::Error;
use super::packet::{self, Packet};
use super::session::MessageId;
use super::transport::Transport;

/// Bytes that wait to be written before no more packets are added: enough for large writes, little to lose with the
/// connection.
const WRITE_BATCH: usize = 16 * 1024;

/// Bytes of one read. A TLS record carries up to twice as much, most packets far less.
const READ: usize = 8 * 1024;

/// An empty buffer above this size is given back after a large packet.
const KEEP: usize = 4 * WRITE_BATCH;

pub(super) struct Link {
    stream: Transport,
    input: BytesMut,
    output: BytesMut,
    scratch: Box<[u8; READ]>,
    max_packet: usize,
    /// Bytes ever put into and written from `output`.
    accepted: u64,
    written: u64,
    needs_flush: bool,
    /// The last read has left nothing to read.
    is_drained: bool,
    /// Messages that count as sent when so many bytes are written.
    marks: VecDeque<(u64, MessageId)>,
}

impl Link {
    /// `max_packet` bounds what is received.
    pub fn new(stream: Transport, max_packet: usize) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            scratch: Box::new([0; READ]),
            max_packet,
            accepted: 0,
            written: 0,
            needs_flush: false,
            is_drained: false,
            marks: VecDeque::new(),
        }
    }

    /// Whether more packets should be sent now.
    pub fn has_room(&self) -> bool {
        self.output.len() < WRITE_BATCH
    }

    /// Puts a packet into the buffer; [`poll_io`](Self::poll_io) writes it.
    pub fn send(&mut self, packet: &Packet) -> Result<(), Error> {
        let before = self.output.len();
        packet::encode(packet, &mut self.output)?;
        self.accepted += (self.output.len() - before) as u64;
        Ok(())
    }

    /// The packet sent last carries this message.
    pub fn mark(&mut self, id: MessageId) {
        self.marks.push_back((self.accepted, id));
    }

    /// The next marked message whose packet was written.
    pub fn next_written(&mut self) -> Option<MessageId> {
        let &(end, id) = self.marks.front()?;
        if end > self.written {
            return None;
        }
        self.marks.pop_front();
        Some(id)
    }

    /// The marked messages whose packets were not written completely.
    pub fn unwritten(self) -> impl Iterator<Item = MessageId> {
        self.marks.into_iter().map(|(_, id)| id)
    }

    /// The next packet that was read completely.
    pub fn packet(&mut self) -> Result<Option<Packet>, Error> {
        Ok(packet::decode(&mut self.input, self.max_packet)?)
    }

    /// Whether the last read has left nothing to read; said once.
    pub fn take_drained(&mut self) -> bool {
        std::mem::take(&mut self.is_drained)
    }

    /// Writes and reads what is possible now; ready when there was anything.
    pub fn poll_io(&mut self, cx: &mut Context<'_>, is_reading: bool) -> Poll<Result<(), Error>> {
        let mut progress = self.poll_write(cx)?;
        if is_reading {
            progress |= self.poll_read(cx)?;
        }
        if progress { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Reads until a packet is there.
    pub async fn receive(&mut self) -> Result<Packet, Error> {
        loop {
            if let Some(packet) = self.packet()? {
                return Ok(packet);
            }
            poll_fn(|cx| self.poll_io(cx, true)).await?;
        }
    }

    /// Writes all that waits.
    pub async fn flush(&mut self) -> Result<(), Error> {
        while !self.output.is_empty() || self.needs_flush {
            poll_fn(|cx| self.poll_io(cx, false)).await?;
        }
        Ok(())
    }

    /// Ends the stream in the manner of TLS and WebSockets.
    pub async fn close(&mut self) -> Result<(), Error> {
        Ok(poll_fn(|cx| Pin::new(&mut self.stream).poll_close(cx)).await?)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut progress = false;
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.output)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    self.output.advance(count);
                    self.written += count as u64;
                    self.needs_flush = true;
                    progress = true;
                }
                Poll::Pending => return Ok(progress),
            }
        }
        release(&mut self.output);
        if self.needs_flush && Pin::new(&mut self.stream).poll_flush(cx)?.is_ready() {
            self.needs_flush = false;
            progress = true;
        }
        Ok(progress)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        match Pin::new(&mut self.stream).poll_read(cx, &mut self.scratch[..])? {
            Poll::Ready(0) => Err(Error::Hangup),
            Poll::Ready(count) => {
                self.is_drained = self.stream.is_drained(count, READ);
                release(&mut self.input);
                self.input.extend_from_slice(&self.scratch[..count]);
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }
}

fn release(buffer: &mut BytesMut) {
    if buffer.is_empty() && buffer.capacity() > KEEP {
        *buffer = BytesMut::new();
    }
}
