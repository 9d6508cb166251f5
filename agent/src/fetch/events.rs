//! Server-Sent Events: a response that never ends, and the patience to ask for it again.

use std::time::Duration;

use smol::Timer;

use super::event_parser::EventParser;
use super::{Error, Request, Response};
use crate::net::Backoff;

/// The wait before a new connection when the server says none, and the longest one that it may say.
const RETRY: Duration = Duration::from_secs(3);
const LONGEST_RETRY: Duration = Duration::from_secs(600);

/// What the wait grows to while there is no connection.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// Bytes of one event.
const EVENT: usize = 1 << 20;

/// Bytes that are received at once.
const PIECE: usize = 4096;

/// An event of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What kind it is; `message` when the server does not say.
    pub kind: String,
    /// Its text; several lines have `\n` between them.
    pub data: String,
    /// The last id that the server gave.
    pub id: String,
}

/// The events of a server, over as many connections as it takes (WHATWG HTML §9.2).
///
/// When a connection ends, breaks or falls silent for [`Timeouts::idle`](super::Timeouts::idle), it is made anew after the time
/// that the server asked for (`retry:`; 3 s), with the id of the last event (`Last-Event-ID`), so that the server can send
/// what came meanwhile. While no connection succeeds the waits grow to 2 minutes.
///
/// ```no_run
/// # async fn run(client: ioto::fetch::Client) -> Result<(), ioto::fetch::Error> {
/// let mut events = client.get("https://example.com/events").events();
/// while let Some(event) = events.next().await? {
///     println!("{}: {}", event.kind, event.data);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EventSource {
    request: Request,
    limit: usize,
    response: Option<Response>,
    parser: EventParser,
    backoff: Backoff,
    /// It is not the first connection.
    again: bool,
    ended: bool,
}

impl EventSource {
    pub(super) fn new(request: Request) -> Self {
        let mut request = request.header("Accept", "text/event-stream").header("Cache-Control", "no-store");
        // What never ends has no time to end in; and the waits are ours.
        request.plan.timeout = None;
        request.plan.retries = 0;
        Self {
            request,
            limit: EVENT,
            response: None,
            parser: EventParser::new(EVENT),
            backoff: Backoff::new(RETRY, LONGEST_WAIT),
            again: false,
            ended: false,
        }
    }

    /// Takes events of at most so many bytes; 1 MiB.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self.parser = EventParser::new(bytes);
        self
    }

    /// Goes on after the event of this id, as of an earlier run of the program.
    pub fn after(mut self, id: &str) -> Self {
        self.parser.set_id(id);
        self
    }

    /// The id of the last event.
    pub fn last_id(&self) -> &str {
        self.parser.last_id()
    }

    /// The next event; `None` when the server says with 204 that no more will come.
    ///
    /// # Errors
    /// What will not pass by itself: another status, another content type, an event that is too large, a certificate that
    /// is refused. Another call tries again.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        let mut piece = [0; PIECE];
        loop {
            if let Some(event) = self.parser.next() {
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            let Some(response) = &mut self.response else {
                self.connect().await?;
                continue;
            };
            match response.read(&mut piece).await {
                Ok(got @ 1..) => {
                    let host = response.url().host();
                    let too_large = |limit| Error::Event { host: host.into(), limit };
                    self.parser
                        .put(piece.get(..got).unwrap_or_default())
                        .map_err(|()| too_large(self.limit))
                        .inspect_err(|_| {
                            self.response = None;
                        })?;
                }
                Ok(0) => self.response = None,
                Err(error) => {
                    self.response = None;
                    match error.is_transient() {
                        true => log::debug!("events: {error}"),
                        false => return Err(error),
                    }
                }
            }
        }
    }

    /// Waits when it is time to wait, and asks once.
    async fn connect(&mut self) -> Result<(), Error> {
        if self.again {
            let asked = self.parser.retry().unwrap_or(RETRY).min(LONGEST_RETRY);
            let grown = if self.backoff.attempts() > 0 { self.backoff.next() } else { Duration::ZERO };
            Timer::after(asked.max(grown)).await;
        }
        self.again = true;
        self.parser.restart();
        let Some(mut request) = self.request.again() else { return Err(self.request.fault()) };
        if !self.parser.last_id().is_empty() {
            request = request.header("Last-Event-ID", self.parser.last_id());
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_transient() => {
                log::debug!("events: {error}");
                self.failed();
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let is_events = response.header("content-type").is_some_and(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("text/event-stream")
        });
        match response.status() {
            204 => self.ended = true,
            200 if is_events => {
                self.backoff.reset();
                self.response = Some(response);
            }
            200 => return Err(Error::NoEvents { host: response.url().host().into() }),
            429 | 500 | 502 | 503 | 504 => {
                log::debug!("events: {} answered {}", response.url(), response.status());
                self.failed();
            }
            status => return Err(Error::Status { url: response.url().to_string(), status }),
        }
        Ok(())
    }

    fn failed(&mut self) {
        if self.backoff.attempts() == 0 {
            // The first wait is the one that the server asks for.
            let _ = self.backoff.next();
        }
    }
}
