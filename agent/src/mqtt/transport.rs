//! What carries the packets: TCP or TLS, perhaps through a proxy, perhaps inside a WebSocket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use smol::io::{AsyncRead, AsyncWrite};

use super::websocket::{self, WebSocket};
use super::{Error, Options};
use crate::net::{Stream, connect_through};

/// Bytes both ways.
pub(super) enum Transport {
    Plain(Stream),
    WebSocket(Box<WebSocket>),
}

impl Transport {
    /// Connects as the options say, up to the first byte of MQTT.
    pub async fn connect(options: &Options) -> Result<Self, Error> {
        let Options { host, port, tls, proxy, timeout, .. } = options;
        let stream = connect_through(proxy.as_ref(), host, *port, tls.as_ref(), *timeout).await?;
        match &options.path {
            None => Ok(Self::Plain(stream)),
            Some(path) => Ok(Self::WebSocket(Box::new(websocket::open(stream, path, options).await?))),
        }
    }

    /// Whether a read of `count` bytes, where `wanted` would have had room, has left nothing to read. A WebSocket gives a
    /// frame at a time.
    pub fn is_drained(&self, count: usize, wanted: usize) -> bool {
        matches!(self, Self::Plain(_)) && count < wanted
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::WebSocket(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::WebSocket(socket) => Pin::new(socket).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::WebSocket(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_close(cx),
            Self::WebSocket(socket) => Pin::new(socket).poll_close(cx),
        }
    }
}
