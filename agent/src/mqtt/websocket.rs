//! MQTT inside a WebSocket [MQTT 3.1.1 §6]: binary messages whose borders mean nothing. The upgrade is our own, over the
//! HTTP codec of the agent; the frames are async-tungstenite's.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_tungstenite::bytes::ByteWriter;
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Bytes as Payload, Error as Fault, Message as Frames};
use async_tungstenite::{WebSocketReceiver, WebSocketSender, WebSocketStream};
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::stream::Stream as Messages;

use super::{Error, Options};
use crate::http1::{Headers, Limits, Method, RequestHead, ResponseHead, encode_request, parse_response};
use crate::net::{Stream, base64, utc_ms};

/// The sub-protocol [MQTT-6.0.0-4].
const PROTOCOL: &str = "mqtt";

/// Bytes received and sent at once.
const BUFFER: usize = 8 * 1024;

/// Bytes that wait to be sent, pongs included.
const MAX_QUEUE: usize = 64 * 1024;

/// Bytes of one message that we send; longer writes become several.
const MAX_WRITE: usize = 16 * 1024;

/// Bytes of the head of the server's answer.
const MAX_HEAD: usize = 16 * 1024;

/// Makes the target of the upgrade anew for each connection, as with a signature that is valid for a while.
pub trait Signer: Send + Sync {
    /// Path and query to ask for; `authority` is the value of the `Host` field. An error is a text for the log.
    fn target<'a>(&'a self, authority: &'a str) -> Pin<Box<dyn Future<Output = Result<String, String>> + 'a>>;

    /// The server answered an upgrade that was sent and answered at these times, in milliseconds since 1970 by our clock;
    /// its `Date` may tell that the clock is wrong.
    fn learn(&self, authority: &str, answer: &Headers, sent: i64, received: i64);
}

impl fmt::Debug for dyn Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

/// Bytes over the messages of a WebSocket.
pub(super) struct WebSocket {
    receiver: WebSocketReceiver<Stream>,
    writer: ByteWriter<WebSocketSender<Stream>>,
    /// What a short read left of a message.
    rest: Payload,
}

/// Asks for the WebSocket and makes it of what the server answers.
pub(super) async fn open(mut stream: Stream, path: &str, options: &Options) -> Result<WebSocket, Error> {
    let authority = options.authority();
    let target = match &options.signer {
        Some(signer) => signer.target(&authority).await.map_err(Error::Sign)?,
        None => path.to_owned(),
    };
    let key = base64::encode(&std::array::from_fn::<u8, 16, _>(|_| fastrand::u8(..)));
    let sent = utc_ms();
    stream.write_all(&request(&target, &authority, &key)?).await?;
    stream.flush().await?;
    let (head, rest) = receive_head(&mut stream).await?;
    if let Some(signer) = &options.signer {
        signer.learn(&authority, &head.headers, sent, utc_ms());
    }
    check(&head, &key)?;
    // A broker may put many packets into one message.
    let largest = options.max_packet.saturating_add(MAX_QUEUE);
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_write_buffer_size(MAX_QUEUE)
        .max_frame_size(Some(largest))
        .max_message_size(Some(largest));
    let socket = WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await;
    let (sender, receiver) = socket.split();
    Ok(WebSocket { receiver, writer: ByteWriter::new(sender), rest: Payload::new() })
}

fn request(target: &str, authority: &str, key: &str) -> Result<Vec<u8>, Error> {
    let mut head = RequestHead::new(Method::Get, target);
    for (name, value) in [
        ("Host", authority),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Protocol", PROTOCOL),
    ] {
        head.headers.append(name, value).map_err(|error| Error::Upgrade(error.to_string()))?;
    }
    let mut request = Vec::new();
    encode_request(&head, &mut request).map_err(|error| Error::Upgrade(error.to_string()))?;
    Ok(request)
}

async fn receive_head(stream: &mut Stream) -> Result<(ResponseHead, Vec<u8>), Error> {
    let mut received = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let parsed =
            parse_response(&received, &Limits::default()).map_err(|error| Error::Upgrade(error.to_string()))?;
        if let Some((head, used)) = parsed {
            received.drain(..used);
            return Ok((head, received));
        }
        if received.len() > MAX_HEAD {
            return Err(Error::Upgrade("it sends a head without end".into()));
        }
        match stream.read(&mut buffer).await? {
            0 => return Err(Error::HangupAtConnect),
            count => received.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Whether the server agreed, to this request, and to MQTT (RFC 6455 §4.1).
fn check(head: &ResponseHead, key: &str) -> Result<(), Error> {
    let wrong = |reason: &str| Err(Error::Upgrade(reason.into()));
    let headers = &head.headers;
    match head.status {
        101 => {}
        401 | 403 => {
            return Err(Error::Upgrade(format!(
                "it answered {}: check the credentials, and the device's clock if the address is signed",
                head.status
            )));
        }
        404 => return wrong("it answered 404: check the path of mqtt.endpoint"),
        status => return Err(Error::Upgrade(format!("it answered {status}"))),
    }
    if !headers.has_token("upgrade", "websocket")
        || !headers.has_token("connection", "upgrade")
        || headers.get("sec-websocket-accept") != Some(derive_accept_key(key.as_bytes()).as_str())
    {
        return wrong("its answer is not one to our request");
    }
    match headers.get("sec-websocket-protocol") {
        Some(PROTOCOL) => Ok(()),
        _ => wrong("it does not speak the sub-protocol 'mqtt'; check the path of mqtt.endpoint"),
    }
}

impl AsyncRead for WebSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.receiver).poll_next(cx)) {
                Some(Ok(Frames::Binary(bytes))) => this.rest = bytes,
                // The server must not send text [MQTT-6.0.0-1].
                Some(Ok(Frames::Text(_))) => return Poll::Ready(Err(broken("it sent text, which is no MQTT"))),
                Some(Ok(Frames::Close(_))) | None => return Poll::Ready(Ok(0)),
                // Pings are answered by the codec.
                Some(Ok(_)) => {}
                Some(Err(Fault::ConnectionClosed | Fault::AlreadyClosed)) => return Poll::Ready(Ok(0)),
                Some(Err(Fault::Io(error))) => return Poll::Ready(Err(error)),
                Some(Err(fault)) => return Poll::Ready(Err(broken(&fault.to_string()))),
            }
        }
        let count = this.rest.len().min(buf.len());
        buf[..count].copy_from_slice(&this.rest.split_to(count));
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let now = &buf[..buf.len().min(MAX_WRITE)];
        Pin::new(&mut self.get_mut().writer).poll_write(cx, now)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_close(cx)
    }
}

fn broken(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the WebSocket broke: {reason}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn answer(text: &str) -> Result<(), Error> {
        let (head, _) = parse_response(text.as_bytes(), &Limits::default()).unwrap().unwrap();
        check(&head, KEY)
    }

    #[test]
    fn the_upgrade_asks_for_mqtt_and_the_answer_of_rfc_6455_is_taken() {
        let request = String::from_utf8(request("/mqtt?a=b", "h:8443", KEY).unwrap()).unwrap();
        assert!(request.starts_with("GET /mqtt?a=b HTTP/1.1\r\n"), "{request}");
        assert!(request.to_lowercase().contains("sec-websocket-protocol: mqtt\r\n"), "{request}");
        answer(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
        )
        .unwrap();
    }

    #[test]
    fn every_other_answer_is_refused_in_words() {
        let good =
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        for (text, word) in [
            ("HTTP/1.1 403 Forbidden\r\n\r\n".to_owned(), "credentials"),
            ("HTTP/1.1 404 Not Found\r\n\r\n".to_owned(), "path"),
            ("HTTP/1.1 200 OK\r\n\r\n".to_owned(), "200"),
            (format!("HTTP/1.1 101 X\r\n{}\r\n", good.replace("s3p", "S3p")), "not one to our request"),
            (format!("HTTP/1.1 101 X\r\n{good}\r\n"), "sub-protocol"),
            (format!("HTTP/1.1 101 X\r\n{good}Sec-WebSocket-Protocol: chat\r\n\r\n"), "sub-protocol"),
        ] {
            let error = answer(&text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
