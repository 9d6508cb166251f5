//! Moves bytes from one connection to the other, no faster than they are taken.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use crate::web::transfer::Transfer;

/// Bytes on their way at once.
const BUFFER: usize = 16 * 1024;

/// One direction. It owns a buffer once there is something to move.
#[derive(Default)]
pub(super) struct Pump {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    stage: Stage,
    /// Nothing was taken since the last flush. Another one would pass for a sign of life.
    is_flushed: bool,
    /// Bytes that were moved so far.
    pub moved: u64,
    /// It waits for who receives.
    pub is_blocked: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Moving,
    /// All was received; its end is told to who receives.
    Ending,
}

/// On which side it failed.
pub(super) enum Side {
    From(io::Error),
    To(io::Error),
}

impl Pump {
    /// Moves a body of HTTP, each part as soon as it comes. Ready when all of it was sent, with its end.
    pub fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        from: &RefCell<Transfer>,
        to: &RefCell<Transfer>,
    ) -> Poll<Result<(), Side>> {
        let receive = |cx: &mut Context<'_>, buffer: &mut Vec<u8>| {
            let mut from = from.borrow_mut();
            // Most requests have no body.
            if from.is_received() {
                return Poll::Ready(Ok(0));
            }
            make_room(buffer);
            from.poll_body(cx, buffer)
        };
        let send = |cx: &mut Context<'_>, data: &[u8]| to.borrow_mut().poll_write(cx, data);
        let flush = |cx: &mut Context<'_>| to.borrow_mut().poll_flush(cx);
        if self.stage == Stage::Moving {
            match self.poll(cx, receive, send, flush) {
                Poll::Ready(Ok(())) => self.stage = Stage::Ending,
                result => return result,
            }
            if let Err(error) = to.borrow_mut().finish() {
                return Poll::Ready(Err(Side::To(error)));
            }
        }
        self.is_blocked = true;
        to.borrow_mut().poll_flush(cx).map_err(Side::To)
    }

    /// Moves whatever comes after both sides left HTTP. Ready when the one side ended and the other was told.
    pub fn poll_raw(
        &mut self,
        cx: &mut Context<'_>,
        from: &RefCell<Transfer>,
        to: &RefCell<Transfer>,
    ) -> Poll<Result<(), Side>> {
        let receive = |cx: &mut Context<'_>, buffer: &mut Vec<u8>| {
            make_room(buffer);
            let link = &mut from.borrow_mut().link;
            let early = link.received().len().min(buffer.len());
            if early == 0 {
                return link.poll_read(cx, buffer);
            }
            if let (Some(to), Some(from)) = (buffer.get_mut(..early), link.received().get(..early)) {
                to.copy_from_slice(from);
            }
            link.consume(early);
            Poll::Ready(Ok(early))
        };
        let send = |cx: &mut Context<'_>, data: &[u8]| to.borrow_mut().link.poll_write(cx, data);
        let flush = |cx: &mut Context<'_>| to.borrow_mut().link.poll_flush(cx);
        if self.stage == Stage::Moving {
            match self.poll(cx, receive, send, flush) {
                Poll::Ready(Ok(())) => self.stage = Stage::Ending,
                result => return result,
            }
        }
        let link = &mut to.borrow_mut().link;
        ready!(link.poll_flush(cx)).map_err(Side::To)?;
        link.poll_end(cx).map_err(Side::To)
    }

    /// Ready when all was received and taken.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut receive: impl FnMut(&mut Context<'_>, &mut Vec<u8>) -> Poll<io::Result<usize>>,
        mut send: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
        mut flush: impl FnMut(&mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<Result<(), Side>> {
        loop {
            self.is_blocked = true;
            while self.start < self.end {
                let data = self.buffer.get(self.start..self.end).unwrap_or_default();
                match send(cx, data) {
                    Poll::Ready(Ok(sent)) => {
                        self.start += sent;
                        self.is_flushed = false;
                        self.moved += sent as u64;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Side::To(error))),
                    Poll::Pending => return Poll::Pending,
                }
            }
            match receive(cx, &mut self.buffer) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(received)) => (self.start, self.end) = (0, received),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Side::From(error))),
                Poll::Pending => {
                    // Nothing more is at hand: what was gathered must not wait for it.
                    if !self.is_flushed {
                        ready!(flush(cx)).map_err(Side::To)?;
                        self.is_flushed = true;
                    }
                    self.is_blocked = false;
                    return Poll::Pending;
                }
            }
        }
    }
}

fn make_room(buffer: &mut Vec<u8>) {
    if buffer.is_empty() {
        buffer.resize(BUFFER, 0);
    }
}
