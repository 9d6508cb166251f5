//! Syslog over UDP: RFC 3164 messages. What was sent counts as accepted, since nobody says otherwise.

use std::io;
use std::time::Duration;

use smol::Timer;
use smol::future::{FutureExt, yield_now};
use smol::net::{UdpSocket, resolve};

use super::message::Style;
use super::{Doing, Entry, Failure, Sink};
use crate::config::SinkUrl;

/// Datagrams that are sent before others get their turn.
const TURN: usize = 32;

/// A socket to a receiver.
pub struct SyslogUdp {
    url: SinkUrl,
    style: Style,
    timeout: Duration,
    socket: Option<UdpSocket>,
}

impl SyslogUdp {
    /// Looks the name up when there is something to send.
    pub fn new(url: &SinkUrl, style: Style, timeout: Duration) -> Self {
        Self { url: url.clone(), style, timeout, socket: None }
    }

    async fn connected(&mut self) -> io::Result<&UdpSocket> {
        if self.socket.is_none() {
            let (host, port, timeout) = (self.url.host.as_str(), self.url.port, self.timeout);
            let too_late = async {
                Timer::after(timeout).await;
                Err(io::ErrorKind::TimedOut.into())
            };
            let addresses = resolve((host, port)).or(too_late).await?;
            let address = addresses.first().ok_or(io::ErrorKind::NotFound)?;
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(address).await?;
            self.socket = Some(socket);
        }
        self.socket.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    async fn send_all(&mut self, entries: &[Entry], accepted: &mut dyn FnMut(usize)) -> io::Result<()> {
        let style = self.style.clone();
        let socket = self.connected().await?;
        let mut message = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            message.clear();
            style.rfc3164(entry, &mut message);
            socket.send(&message).await?;
            accepted(1);
            if index % TURN == TURN - 1 {
                yield_now().await;
            }
        }
        Ok(())
    }
}

impl Sink for SyslogUdp {
    fn send<'a>(
        &'a mut self,
        entries: &'a [Entry],
        accepted: &'a mut dyn FnMut(usize),
    ) -> Doing<'a, Result<(), Failure>> {
        Box::pin(async {
            let sent = self.send_all(entries, accepted).await;
            sent.map_err(|error| {
                self.socket = None;
                Failure { error: format!("{}: {error}", self.url), again: 0 }
            })
        })
    }

    fn unconfirmed(&self) -> usize {
        0
    }

    fn ended(&mut self) -> Doing<'_, Failure> {
        Box::pin(std::future::pending())
    }

    fn close(&mut self) -> Doing<'_, bool> {
        Box::pin(async { true })
    }
}
