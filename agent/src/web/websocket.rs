//! WebSockets (RFC 6455): the connection leaves HTTP, and messages go both ways.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::Error as Fault;
use async_tungstenite::tungstenite::Message as Frames;
use async_tungstenite::tungstenite::error::ProtocolError;
use async_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use async_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use smol::io::{AsyncRead, AsyncWrite};
use smol::stream::Stream;

use super::events::go_live;
use super::handshake::{Agreement, is_same_origin, origin};
use super::link::Whole;
use super::link::{Link, Patience};
use super::shared::Shared;
use super::transfer::{Stage, Transfer, Wire};
use super::watch::{Claim, Deadline};
use super::{Error, Exchange, Message};
use crate::config::FOREVER;

/// Bytes received and sent at once; each WebSocket owns a buffer of this size.
const BUFFER: usize = 4 * 1024;
/// Bytes that wait to be sent, pongs included.
const MAX_QUEUE: usize = 64 * 1024;
/// Longer messages are sent in frames of this size, each after the one before it was taken.
const FRAME: usize = 16 * 1024;
/// Bytes of the reason of a close frame: a control frame has 125, two of them are the code.
const MAX_REASON: usize = 123;
/// How long the peer may take to answer our close frame.
const CLOSE: std::time::Duration = std::time::Duration::from_secs(2);

/// The connection of a request that became a WebSocket.
///
/// The action may take `web.timeouts.request` between two calls of this; while it receives or sends, only a peer that falls
/// silent ends it: when for `web.webSockets.ping` no byte comes and no message is sent it is pinged, and when it does not
/// answer within the rest of `web.timeouts.inactivity`, the WebSocket is closed with 1001; so it is when the server stops.
/// Pings are sent and answered while the action receives.
///
/// When the action returns `Ok` it is closed with 1000, otherwise with 1011. [`WebSocket::receive`] may be dropped while it
/// waits, so that an action can also wait for something else:
///
/// ```
/// use ioto::web::{Error, Exchange, Message};
///
/// async fn echo(exchange: &mut Exchange) -> Result<(), Error> {
///     let mut socket = exchange.upgrade(&["chat"]).await?;
///     while let Some(message) = socket.receive().await? {
///         socket.send(message).await?;
///     }
///     Ok(())
/// }
/// ```
pub struct WebSocket<'a> {
    stream: WebSocketStream<Pipe<'a>>,
    transfer: &'a RefCell<Transfer>,
    protocol: Option<String>,
    closed: Option<(u16, String)>,
    /// A message is sent in part: nothing else can be sent before its rest.
    torn: bool,
    whole: Rc<Whole>,
    wait: Deadline,
    /// When a byte came, or a message was sent, and when the peer was pinged for its silence.
    moved: Instant,
    pinged: Option<Instant>,
    shared: Arc<Shared>,
}

impl Exchange {
    /// Makes the connection a WebSocket that speaks the first of the client's sub-protocols that `protocols` holds, see
    /// [`WebSocket::protocol`]; none given: `web.webSockets.protocol`. Pages of other origins than ours are refused.
    ///
    /// # Errors
    /// 426 when the request asks for no WebSocket of version 13, 400 when it is malformed, 403 for a page of another origin
    /// and when `web.webSockets.enable` is off. The client is gone.
    pub async fn upgrade(&mut self, protocols: &[&str]) -> Result<WebSocket<'_>, Error> {
        self.upgrade_from(protocols, |_| false).await
    }

    /// As [`Exchange::upgrade`], and pages of other origins may use it when `is_allowed` says so: `https://example.com`.
    ///
    /// # Errors
    /// As [`Exchange::upgrade`].
    pub async fn upgrade_from(
        &mut self,
        protocols: &[&str],
        is_allowed: impl Fn(&str) -> bool,
    ) -> Result<WebSocket<'_>, Error> {
        let settings = &self.shared.settings;
        if !settings.sockets.enable {
            return Err(Error::status(403, "there are no WebSockets here"));
        }
        let configured = [settings.sockets.protocol.as_str()];
        let agreement = Agreement::new(&self.head, if protocols.is_empty() { &configured } else { protocols })?;
        if let Some(origin) = origin(&self.head)? {
            if !is_same_origin(origin, &self.head, self.secure) && !is_allowed(origin) {
                return Err(Error::status(403, "pages of other origins cannot use this"));
            }
        }
        if !self.transfer.borrow().is_received() {
            return Err(Error::status(400, "a request for a WebSocket has no body"));
        }
        if !self.is_open() {
            return Err(Error::Answered);
        }
        let inactivity = settings.timeouts.inactivity;
        let (frame, message) = (settings.limits.frame, settings.limits.message);
        let part = {
            let mut transfer = self.transfer.borrow_mut();
            agreement.write(&self.headers, &mut transfer.link.output)?;
            transfer.link.begin_body(101);
            transfer.begin(Stage::Upgraded(Wire::Whole));
            let part = transfer.link.received().to_vec();
            transfer.link.consume(part.len());
            part
        };
        let whole = go_live(&self.transfer, inactivity);
        whole.set(Instant::now() + FOREVER);
        poll_fn(|cx| self.transfer.borrow_mut().link.poll_flush(cx)).await?;
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER)
            .max_write_buffer_size(MAX_QUEUE)
            .max_frame_size(Some(frame))
            .max_message_size(Some(message));
        let pipe = Pipe { transfer: &self.transfer, received: false };
        let stream = WebSocketStream::from_partially_read(pipe, part, Role::Server, Some(config)).await;
        let mut socket = WebSocket {
            stream,
            transfer: &self.transfer,
            protocol: agreement.protocol,
            closed: None,
            torn: false,
            whole,
            wait: self.local.watch.deadline(),
            moved: Instant::now(),
            pinged: None,
            shared: self.shared.clone(),
        };
        socket.pause();
        Ok(socket)
    }
}

impl WebSocket<'_> {
    /// The sub-protocol that was agreed on.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The code and the reason with which the peer closed; 1005 when it gave none (RFC 6455 §7.4.1).
    pub fn closed(&self) -> Option<(u16, &str)> {
        self.closed.as_ref().map(|(code, reason)| (*code, reason.as_str()))
    }

    /// The next message; `None` when the peer closed. It may be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// The peer broke the protocol (it was told 1002), sent a text that is not UTF-8 (1007) or more than
    /// `web.limits.maxFrame` or `maxMessage` (1009); it fell silent, or the server stops (1001); it is gone.
    pub async fn receive(&mut self) -> Result<Option<Message>, Error> {
        if self.closed.is_some() {
            return Ok(None);
        }
        self.whole.set(Instant::now() + FOREVER);
        // A wait that was dropped does not count.
        self.transfer.borrow_mut().link.live(self.shared.settings.timeouts.inactivity);
        let result = self.next_message().await;
        self.pause();
        result
    }

    /// Sends a message, whatever its size, and waits until the peer's buffers took it. Once it was begun it has to be sent
    /// to its end: when this is dropped before, the connection can only be cut.
    ///
    /// # Errors
    /// The peer closed, or is gone or too slow; the server stops (1001).
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        self.check_whole()?;
        if self.closed.is_none() && self.shared.is_stopping() {
            return Err(self.leave("the server stops").await);
        }
        self.whole.set(Instant::now() + FOREVER);
        let result = self.send_frames(message.into()).await;
        self.moved = Instant::now();
        self.pause();
        result
    }

    /// Closes with a code, 1000 when all is well, and a reason of at most 123 bytes; waits 2 s for the peer to do so too.
    /// Messages that come meanwhile are dropped.
    ///
    /// # Errors
    /// The code is not one that may be sent (RFC 6455 §7.4), or the reason is too long. The peer is gone.
    pub async fn close(mut self, code: u16, reason: &str) -> Result<(), Error> {
        if !CloseCode::from(code).is_allowed() || reason.len() > MAX_REASON {
            return Err(crate::http1::Error::Unsendable("the code or the reason of a close frame").into());
        }
        if self.closed.is_some() {
            return Ok(());
        }
        self.check_whole()?;
        self.say_goodbye(code, reason).await?;
        self.whole.set(Instant::now() + FOREVER);
        let stream = &mut self.stream;
        let drained = async { while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await {} };
        // Whether it answers or not, the connection ends.
        let _ = self.wait.limit(Instant::now() + CLOSE, drained).await;
        Ok(())
    }

    async fn next_message(&mut self) -> Result<Option<Message>, Error> {
        let sockets = &self.shared.settings.sockets;
        let (ping, inactivity) = (sockets.ping, self.shared.settings.timeouts.inactivity);
        loop {
            // An action that did something else for long gives the peer the chance to answer a ping.
            let (at, pings) = match self.pinged {
                None if ping < inactivity => (self.moved + ping, true),
                None => (self.moved + inactivity, false),
                Some(pinged) => (pinged + inactivity.saturating_sub(ping), false),
            };
            match self.next(at).await {
                Some(Some(Ok(message))) => {
                    if let Some(message) = self.accept(message) {
                        return message;
                    }
                }
                Some(Some(Err(fault))) => return Err(self.fail(fault).await),
                Some(None) => return Ok(None),
                None if self.shared.is_stopping() => return Err(self.leave("the server stops").await),
                None if Instant::now() < at => {}
                None if pings => {
                    self.pinged = Some(Instant::now());
                    self.stream.send(Frames::Ping(Default::default())).await.map_err(broken)?;
                }
                None => return Err(self.leave("nothing came for too long").await),
            }
        }
    }

    /// What comes next, or `None` when it is time to look after the peer.
    async fn next(&mut self, at: Instant) -> Option<Option<Result<Frames, Fault>>> {
        self.wait.set(at);
        // When the server stops, it ends the waits of all that are idle.
        self.wait.set_claim(Claim::Live);
        let result = poll_fn(|cx| {
            let result = Pin::new(&mut self.stream).poll_next(cx);
            if std::mem::take(&mut self.stream.get_mut().received) {
                self.moved = Instant::now();
                self.pinged = None;
                if result.is_pending() {
                    // Part of a message: the wait begins anew.
                    return Poll::Ready(None);
                }
            }
            match result {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending => self.wait.poll_over(cx).map(|()| None),
            }
        })
        .await;
        self.wait.set_claim(Claim::Busy);
        self.wait.clear();
        result
    }

    /// Takes a message; what is none is dealt with.
    fn accept(&mut self, message: Frames) -> Option<Result<Option<Message>, Error>> {
        match message {
            Frames::Text(text) => Some(Ok(Some(Message::Text(text.as_str().to_owned())))),
            Frames::Binary(bytes) => Some(Ok(Some(Message::Binary(bytes.into())))),
            Frames::Close(frame) => {
                let (code, reason) = frame
                    .map_or((1005, String::new()), |frame| (u16::from(frame.code), frame.reason.as_str().to_owned()));
                self.closed = Some((code, reason));
                // The next poll sends the answer and ends.
                None
            }
            // The codec answers pings.
            _ => None,
        }
    }

    async fn send_frames(&mut self, message: Message) -> Result<(), Error> {
        let (bytes, mut kind) = match message {
            Message::Text(text) => (text.into_bytes(), Data::Text),
            Message::Binary(bytes) => (bytes, Data::Binary),
        };
        let mut rest = bytes.as_slice();
        self.torn = true;
        loop {
            let (now, later) = rest.split_at(rest.len().min(FRAME));
            let frame = Frame::message(now.to_vec(), OpCode::Data(kind), later.is_empty());
            self.stream.send(Frames::Frame(frame)).await.map_err(broken)?;
            if later.is_empty() {
                break;
            }
            (rest, kind) = (later, Data::Continue);
        }
        self.torn = false;
        Ok(())
    }

    /// Tells the peer what it did wrong.
    async fn fail(&mut self, fault: Fault) -> Error {
        let code = match &fault {
            Fault::Capacity(_) => 1009,
            Fault::Utf8(_) => 1007,
            Fault::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                return self.leave("nothing came for too long").await;
            }
            Fault::Io(_) => return broken(fault),
            _ => 1002,
        };
        if self.check_whole().is_ok() {
            let _ = self.say_goodbye(code, "").await;
        }
        broken(fault)
    }

    /// Closes because of something that the peer did not do.
    async fn leave(&mut self, why: &'static str) -> Error {
        if self.check_whole().is_ok() {
            let _ = self.say_goodbye(1001, why).await;
        }
        io::Error::new(io::ErrorKind::ConnectionAborted, why).into()
    }

    async fn say_goodbye(&mut self, code: u16, reason: &str) -> Result<(), Error> {
        self.whole.set(Instant::now() + FOREVER);
        self.transfer.borrow_mut().link.set_patience(Patience { stall: CLOSE, until: Instant::now() + CLOSE });
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.stream.close(Some(frame)).await.map_err(broken)?;
        self.transfer.borrow_mut().begin(Stage::Upgraded(Wire::Closed));
        Ok(())
    }

    fn check_whole(&self) -> Result<(), Error> {
        match self.torn || self.closed.is_some() {
            true => Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
            false => Ok(()),
        }
    }

    /// From now on the action's time runs.
    fn pause(&mut self) {
        self.whole.set(Instant::now() + self.shared.settings.timeouts.request);
    }
}

impl Drop for WebSocket<'_> {
    fn drop(&mut self) {
        if self.torn || self.closed.is_some() {
            let end = if self.torn { Wire::Partial } else { Wire::Closed };
            self.transfer.borrow_mut().begin(Stage::Upgraded(end));
        }
    }
}

/// Ends the WebSocket of an action that has returned; the link, unless it is to be cut.
pub(super) async fn end(mut transfer: Transfer, wire: Wire, outcome: Result<(), Error>) -> Option<Box<Link>> {
    let code: u16 = match outcome {
        Ok(()) => 1000,
        Err(Error::Io(error)) => {
            log::debug!("a WebSocket ended: {error}");
            1011
        }
        Err(error) => {
            log::error!("the action of a WebSocket failed: {error}");
            1011
        }
    };
    if wire == Wire::Partial {
        return None;
    }
    if wire == Wire::Whole {
        let [high, low] = code.to_be_bytes();
        transfer.link.output.extend_from_slice(&[0x88, 2, high, low]);
    }
    transfer.link.set_patience(Patience { stall: CLOSE, until: Instant::now() + CLOSE });
    transfer.link.flush().await.ok().map(|()| transfer.link)
}

fn broken(fault: Fault) -> Error {
    match fault {
        Fault::Io(error) => error.into(),
        Fault::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            io::Error::new(io::ErrorKind::UnexpectedEof, "the peer is gone without closing").into()
        }
        Fault::ConnectionClosed | Fault::AlreadyClosed => io::Error::from(io::ErrorKind::BrokenPipe).into(),
        fault => io::Error::new(io::ErrorKind::InvalidData, fault).into(),
    }
}

/// The connection's link as a stream, which notes where frames end.
struct Pipe<'a> {
    transfer: &'a RefCell<Transfer>,
    /// Bytes came since this was last looked at.
    received: bool,
}

impl AsyncRead for Pipe<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let received = ready!(self.transfer.borrow_mut().link.poll_read(cx, buf))?;
        self.received |= received > 0;
        Poll::Ready(Ok(received))
    }
}

impl AsyncWrite for Pipe<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut transfer = self.transfer.borrow_mut();
        // The codec flushes when all of its frames are written: until then one may be sent in part.
        if transfer.stage() == Stage::Upgraded(Wire::Whole) {
            transfer.begin(Stage::Upgraded(Wire::Partial));
        }
        transfer.link.poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut transfer = self.transfer.borrow_mut();
        ready!(transfer.link.poll_flush(cx))?;
        if transfer.stage() == Stage::Upgraded(Wire::Partial) {
            transfer.begin(Stage::Upgraded(Wire::Whole));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
