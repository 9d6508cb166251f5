//! WebSockets, the client's side (RFC 6455).

use std::fmt;
use std::time::{Duration, Instant};

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::Error as Fault;
use async_tungstenite::tungstenite::Message as Frames;
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::protocol::frame::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use smol::Timer;
use smol::future::FutureExt;
use smol::stream::StreamExt;

use super::{Error, Message, Request, Stage};
use crate::net::{Stream, base64};

/// Bytes received and sent at once.
const BUFFER: usize = 8 * 1024;

/// Bytes that wait to be sent beyond a message.
const QUEUE: usize = 64 * 1024;

/// Bytes of a message that is received.
const MESSAGE: usize = 1 << 20;

/// How long the server may take to answer our farewell.
const CLOSE: Duration = Duration::from_secs(2);

/// A connection that left HTTP, with messages both ways. It goes through the same proxy and TLS as any request, with its
/// header fields and logins.
///
/// A server that sends nothing for [`Timeouts::idle`](super::Timeouts::idle) is pinged, and given up when it does not answer
/// for as long again. Pings are sent and answered while [`receive`](Self::receive) waits, which may be dropped at any time.
///
/// ```no_run
/// # async fn run(client: ioto::fetch::Client) -> Result<(), ioto::fetch::Error> {
/// let mut socket = client.get("https://example.com/chat").bearer("a token").websocket(&["chat"]).await?;
/// socket.send("hello").await?;
/// while let Some(message) = socket.receive().await? {
///     println!("{message:?}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct WebSocket {
    stream: WebSocketStream<Stream>,
    host: String,
    protocol: Option<String>,
    idle: Duration,
    heard: Instant,
    pinged: bool,
    closed: Option<(u16, String)>,
}

impl WebSocket {
    pub(super) async fn connect(request: Request, protocols: &[&str]) -> Result<Self, Error> {
        let mut key = [0; 16];
        key.fill_with(|| fastrand::u8(..));
        let key = base64::encode(&key);
        let idle = request.client.options().timeouts.idle;
        let mut request = request.header("Sec-WebSocket-Version", "13").header("Sec-WebSocket-Key", &key);
        if !protocols.is_empty() {
            request = request.header("Sec-WebSocket-Protocol", &protocols.join(", "));
        }
        request.plan.upgrade = Some("websocket");
        let response = request.send().await?;
        let host = response.url().host().to_owned();
        let refuse = |reason| Error::Upgrade { host: host.clone(), reason };
        if response.status() != 101 {
            return Err(Error::Status { url: response.url().to_string(), status: response.status() });
        }
        let headers = response.headers();
        if !headers.has_token("upgrade", "websocket") || !headers.has_token("connection", "upgrade") {
            return Err(refuse("it changed to another protocol"));
        }
        if response.header("sec-websocket-accept").map(str::trim) != Some(&derive_accept_key(key.as_bytes())) {
            return Err(refuse("its answer does not belong to our question (Sec-WebSocket-Accept)"));
        }
        if headers.get("sec-websocket-extensions").is_some() {
            return Err(refuse("it wants an extension that nobody offered"));
        }
        let protocol = response.header("sec-websocket-protocol").map(str::to_owned);
        if protocol.as_ref().is_some_and(|chosen| !protocols.contains(&chosen.as_str())) {
            return Err(refuse("it chose a sub-protocol that nobody offered"));
        }
        let Some((stream, received)) = response.upgraded() else {
            return Err(refuse("the connection was closed"));
        };
        let config = config(MESSAGE);
        let stream = WebSocketStream::from_partially_read(stream, received, Role::Client, Some(config)).await;
        Ok(Self { stream, host, protocol, idle, heard: Instant::now(), pinged: false, closed: None })
    }

    /// The sub-protocol that the server chose.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Why the server closed: a code (RFC 6455 §7.4.1) and perhaps a text. 1005: it gave none.
    pub fn closed(&self) -> Option<(u16, &str)> {
        self.closed.as_ref().map(|(code, reason)| (*code, reason.as_str()))
    }

    /// Sends a message; ready when the connection has taken it.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        let frames = match message.into() {
            Message::Text(text) => Frames::text(text),
            Message::Binary(bytes) => Frames::binary(bytes),
        };
        self.send_frames(frames).await
    }

    async fn send_frames(&mut self, frames: Frames) -> Result<(), Error> {
        let (host, after) = (self.host.clone(), self.idle);
        let late = Error::Timeout { host: host.clone(), stage: Stage::Idle, after };
        let send = async { self.stream.send(frames).await.map_err(|fault| fault_of(&host, fault)) };
        let too_late = async {
            Timer::after(after).await;
            Err(late)
        };
        send.or(too_late).await
    }

    /// The next message; `None` when the server has closed, see [`closed`](Self::closed). Messages of more than 1 MiB are
    /// refused.
    pub async fn receive(&mut self) -> Result<Option<Message>, Error> {
        loop {
            let deadline = self.heard + self.idle * if self.pinged { 2 } else { 1 };
            let next = async { Some(self.stream.next().await) };
            let silence = async {
                Timer::at(deadline).await;
                None
            };
            let Some(next) = next.or(silence).await else {
                if self.pinged {
                    return Err(Error::Timeout { host: self.host.clone(), stage: Stage::Idle, after: self.idle * 2 });
                }
                self.pinged = true;
                self.send_frames(Frames::Ping(Vec::new().into())).await?;
                continue;
            };
            self.heard = Instant::now();
            self.pinged = false;
            match next {
                None | Some(Err(Fault::ConnectionClosed | Fault::AlreadyClosed)) => return Ok(None),
                Some(Ok(Frames::Text(text))) => return Ok(Some(Message::Text(text.as_str().to_owned()))),
                Some(Ok(Frames::Binary(bytes))) => return Ok(Some(Message::Binary(bytes.to_vec()))),
                Some(Ok(Frames::Close(frame))) => {
                    let frame = frame.map(|frame| (u16::from(frame.code), frame.reason.as_str().to_owned()));
                    self.closed = Some(frame.unwrap_or((1005, String::new())));
                }
                Some(Ok(_)) => {}
                Some(Err(fault)) => return Err(fault_of(&self.host, fault)),
            }
        }
    }

    /// Says farewell and waits for the answer, not long.
    pub async fn close(mut self, code: u16, reason: &str) -> Result<(), Error> {
        // A control frame has 125 bytes, two of them are the code.
        let end = (0..=reason.len().min(123)).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.get(..end).unwrap_or_default().into() };
        let farewell = async {
            self.stream.close(Some(frame)).await.map_err(|fault| fault_of(&self.host, fault))?;
            while let Some(Ok(_)) = self.stream.next().await {}
            Ok(())
        };
        let too_late = async {
            Timer::after(CLOSE).await;
            Ok(())
        };
        farewell.or(too_late).await
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("host", &self.host).field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

fn config(message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(QUEUE + message)
        .max_message_size(Some(message))
        .max_frame_size(Some(message))
}

fn fault_of(host: &str, fault: Fault) -> Error {
    let host = host.to_owned();
    match fault {
        Fault::Io(source) => Error::Broken { host, source },
        fault => Error::WebSocket { host, fault: Box::new(fault) },
    }
}
