//! One request on one connection to a program.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::fault::{Failure, Fault};
use super::pump::{Pump, Side};
use crate::http1::{Framing, Limits, RequestHead, ResponseHead, encode_request, parse_response};
use crate::web::link::{Link, Patience};
use crate::web::transfer::{Body, Stage, Transfer};
use crate::web::watch::{Claim, Deadline};
use crate::web::{Error, Exchange};

/// Bounds of the head of a response.
const LIMITS: Limits = Limits { head: 32 * 1024, headers: 128, target: 0 };
/// Interim responses before the final one.
const INTERIM: u32 = 16;

/// A request that is sent, and its response.
pub(super) struct Call {
    pub program: RefCell<Transfer>,
    /// Sends the request's body, as long as there is some.
    upload: Option<Pump>,
    /// The program took all of the request.
    pub is_sent: bool,
    /// Why it did not; perhaps because it has answered.
    refused: Option<io::Error>,
    /// The client will send nothing more, and may have left.
    is_silent: bool,
    /// When the program has to take more of the request.
    stall: Deadline,
    stalls: Option<u64>,
    inactivity: Duration,
}

impl Call {
    /// A call that is to be sent.
    pub fn new(exchange: &Exchange, mut link: Box<Link>, head: &RequestHead) -> Result<Self, Failure> {
        encode_request(head, &mut link.output)
            .map_err(|_| Failure::Client(Error::status(400, "the request's target cannot be passed on")))?;
        let stage = match head.framing()? {
            Framing::Length(length) => Stage::Streaming(Body::Length(length)),
            Framing::Chunked => Stage::Streaming(Body::Chunked(None)),
            Framing::Empty | Framing::UntilClose => Stage::Complete,
        };
        Ok(Self {
            program: RefCell::new(Transfer::upstream(link, stage)),
            upload: Some(Pump::default()),
            is_sent: false,
            refused: None,
            is_silent: false,
            stall: exchange.local.watch.deadline(),
            stalls: None,
            inactivity: exchange.shared.settings.timeouts.inactivity,
        })
    }

    /// Sends, and waits for the head of the response. Some of the request may still be unsent then.
    ///
    /// # Errors
    /// The program fails, or the client; or nobody answers until the deadline.
    pub async fn head(&mut self, exchange: &Exchange, until: Instant) -> Result<ResponseHead, Failure> {
        let late = exchange.local.watch.deadline();
        late.set(until);
        // The program may think as long as it is allowed to.
        self.program.get_mut().link.set_patience(patience(until.saturating_duration_since(Instant::now()) * 2));
        let mut interim = 0;
        poll_fn(|cx| {
            self.poll_upload(cx, exchange)?;
            loop {
                match self.poll_head(cx) {
                    Poll::Ready(Ok(head)) if head.status == 101 || head.status >= 200 => return Poll::Ready(Ok(head)),
                    Poll::Ready(Ok(_)) if interim < INTERIM => interim += 1,
                    Poll::Ready(Ok(_)) => return Poll::Ready(Err(Fault::Interim.into())),
                    Poll::Ready(Err(fault)) => {
                        let fault = self.refused.take().filter(|_| fault.is_end()).map_or(fault, Fault::of);
                        return Poll::Ready(Err(fault.into()));
                    }
                    Poll::Pending => break,
                }
            }
            self.poll_client(cx, exchange)?;
            late.poll_over(cx).map(|()| Err(self.blame(exchange)))
        })
        .await
    }

    /// Who is late.
    fn blame(&self, exchange: &Exchange) -> Failure {
        let owes = self.upload.as_ref().is_some_and(|upload| !upload.is_blocked);
        let mut client = exchange.transfer.borrow_mut();
        if !owes || client.is_received() {
            return Fault::Late.into();
        }
        client.fault = Some(408);
        Failure::Client(Error::status(408, "the request's body took too long"))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Fault>> {
        let link = &mut self.program.get_mut().link;
        loop {
            if !link.received().is_empty() {
                match parse_response(link.received(), &LIMITS) {
                    Ok(Some((head, length))) => {
                        link.consume(length);
                        return Poll::Ready(Ok(head));
                    }
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(Fault::Response(error))),
                }
            }
            match link.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Fault::Closed)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::of(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Passes the body of the response on, to its end. One without an end goes on until the server stops.
    ///
    /// # Errors
    /// The response is not complete, and must look so.
    pub async fn body(&mut self, exchange: &Exchange, is_endless: bool) -> Result<(), Failure> {
        self.program.get_mut().link.set_patience(patience(self.inactivity));
        let bell = Bell::new(exchange);
        let mut download = Pump::default();
        let result = poll_fn(|cx| {
            self.poll_upload(cx, exchange)?;
            match download.poll_body(cx, &self.program, &exchange.transfer) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(Side::From(error))) => return Poll::Ready(Err(Fault::of(error).into())),
                Poll::Ready(Err(Side::To(error))) => return Poll::Ready(Err(Failure::Client(error.into()))),
                Poll::Pending => {}
            }
            if !download.is_blocked {
                self.poll_client(cx, exchange)?;
            }
            if is_endless { bell.poll(cx, exchange).map(Err) } else { Poll::Pending }
        })
        .await;
        if let Err(Failure::Program(_)) = result {
            // What came before it failed is the client's.
            let _ = poll_fn(|cx| exchange.transfer.borrow_mut().poll_flush(cx)).await;
        }
        result
    }

    /// The connection, when the program can take another request on it.
    pub fn into_link(self) -> Option<Box<Link>> {
        let transfer = self.program.into_inner();
        let is_clean = self.is_sent && transfer.is_received() && transfer.link.received().is_empty();
        is_clean.then_some(transfer.link)
    }

    /// Whether the program sent anything.
    pub fn is_untouched(&self) -> bool {
        self.program.borrow().link.received().is_empty()
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>, exchange: &Exchange) -> Result<(), Failure> {
        let Some(upload) = &mut self.upload else { return Ok(()) };
        match upload.poll_body(cx, &exchange.transfer, &self.program) {
            Poll::Ready(Ok(())) => self.is_sent = true,
            Poll::Ready(Err(Side::From(error))) => return Err(Failure::Client(error.into())),
            // Perhaps the program closed because it has answered: the answer says more than the broken connection.
            Poll::Ready(Err(Side::To(error))) => self.refused = Some(error),
            Poll::Pending if !upload.is_blocked => {
                self.stalls = None;
                return Ok(());
            }
            Poll::Pending => {
                if self.stalls != Some(upload.moved) {
                    self.stalls = Some(upload.moved);
                    self.stall.set(Instant::now() + self.inactivity);
                }
                return match self.stall.poll_over(cx) {
                    Poll::Ready(()) => Err(Fault::Stalled.into()),
                    Poll::Pending => Ok(()),
                };
            }
        }
        self.upload = None;
        Ok(())
    }

    /// Looks whether the client is still there, when it has nothing more to send. One that said that this is its last request
    /// may close its side and read on.
    fn poll_client(&mut self, cx: &mut Context<'_>, exchange: &Exchange) -> Result<(), Failure> {
        let mut client = exchange.transfer.borrow_mut();
        if self.is_silent || !client.is_received() {
            return Ok(());
        }
        match client.link.poll_gone(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) if !exchange.head.keeps_alive() => {
                self.is_silent = true;
                Ok(())
            }
            Poll::Ready(_) => {
                // There is nobody to answer.
                client.fault = Some(400);
                Err(Failure::Client(io::Error::from(io::ErrorKind::BrokenPipe).into()))
            }
        }
    }
}

/// Rings when the server stops: it ends the waits of all that are idle.
pub(super) struct Bell(Deadline);

impl Bell {
    pub fn new(exchange: &Exchange) -> Self {
        let bell = exchange.local.watch.deadline();
        bell.set_claim(Claim::Live);
        Self(bell)
    }

    /// Ready with the reason to end.
    pub fn poll(&self, cx: &mut Context<'_>, exchange: &Exchange) -> Poll<Failure> {
        while self.0.poll_over(cx).is_ready() {
            if exchange.shared.is_stopping() {
                let why = io::Error::new(io::ErrorKind::ConnectionAborted, "the server stops");
                return Poll::Ready(Failure::Client(why.into()));
            }
            self.0.clear();
        }
        Poll::Pending
    }
}

/// Without a byte for so long the peer has stalled.
pub(super) fn patience(stall: Duration) -> Patience {
    Patience { stall, until: Instant::now() + crate::config::FOREVER }
}
