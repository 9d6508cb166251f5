//! Syslog over TCP and TLS: RFC 5424 messages with octet counting (RFC 6587 §3.4.1, RFC 5425 §4.3).

use std::io::Write;
use std::time::Duration;

use super::link::{End, Link};
use super::message::Style;
use super::{Doing, Entry, Failure, Sink};
use crate::config::{Logs, SinkUrl};
use crate::net::{self, TlsClient};

/// Bytes that are underway at a time: what an agent that is killed repeats at most.
const CHUNK: usize = 64 * 1024;
/// For the other side to close after us.
const GOODBYE: Duration = Duration::from_millis(700);
/// Of silence, after which the kernel asks whether the other side is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// The connection to a syslog receiver, and how to make it.
pub struct Syslog {
    url: SinkUrl,
    tls: Option<TlsClient>,
    style: Style,
    timeout: Duration,
    resend: usize,
    link: Option<Link>,
}

impl Syslog {
    /// Connects when there is something to send.
    pub fn new(url: &SinkUrl, tls: Option<TlsClient>, style: Style, settings: &Logs) -> Self {
        Self { url: url.clone(), tls, style, timeout: settings.timeout, resend: settings.resend, link: None }
    }

    async fn connected(&mut self) -> Result<&mut Link, Failure> {
        if self.link.is_none() {
            let connecting = net::connect(&self.url.host, self.url.port, self.tls.as_ref(), self.timeout);
            let stream = connecting.await.map_err(|error| Failure { error: error.to_string(), again: 0 })?;
            stream.keep_alive(KEEP_ALIVE);
            self.link = Some(Link::new(stream, self.resend));
        }
        self.link.as_mut().ok_or_else(|| Failure { error: "no connection".into(), again: 0 })
    }

    async fn send_all(&mut self, entries: &[Entry], accepted: &mut dyn FnMut(usize)) -> Result<(), Failure> {
        let (style, timeout) = (self.style.clone(), self.timeout);
        let (mut bytes, mut message, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let mut rest = entries.iter().peekable();
        while rest.peek().is_some() {
            bytes.clear();
            ends.clear();
            while let Some(entry) = rest.next_if(|_| bytes.len() < CHUNK) {
                message.clear();
                style.rfc5424(entry, &mut message);
                // Writing to a vector does not fail.
                let _ = write!(bytes, "{} ", message.len());
                bytes.extend(&message);
                ends.push(bytes.len());
            }
            let link = self.connected().await?;
            if let Err(end) = link.deliver(&bytes, &ends, timeout, accepted).await {
                return Err(self.over(end));
            }
        }
        Ok(())
    }

    fn over(&mut self, end: End) -> Failure {
        let unconfirmed = self.link.take().map_or(0, |link| link.unconfirmed());
        match end {
            End::Closed => Failure { error: "the other side closed the connection".into(), again: 0 },
            End::Broken(error) => Failure { error: format!("the connection broke: {error}"), again: unconfirmed },
        }
    }
}

impl Sink for Syslog {
    fn send<'a>(
        &'a mut self,
        entries: &'a [Entry],
        accepted: &'a mut dyn FnMut(usize),
    ) -> Doing<'a, Result<(), Failure>> {
        Box::pin(self.send_all(entries, accepted))
    }

    fn unconfirmed(&self) -> usize {
        self.link.as_ref().map_or(0, Link::unconfirmed)
    }

    fn ended(&mut self) -> Doing<'_, Failure> {
        Box::pin(async {
            let end = match &mut self.link {
                Some(link) => link.ended().await,
                None => std::future::pending().await,
            };
            self.over(end)
        })
    }

    fn close(&mut self) -> Doing<'_, bool> {
        Box::pin(async {
            match self.link.take() {
                Some(mut link) => link.close(GOODBYE).await,
                None => true,
            }
        })
    }
}
