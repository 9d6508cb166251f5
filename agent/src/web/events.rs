//! Server-sent events: a response that goes on as long as there is something to tell (WHATWG HTML §9.2).

use std::cell::RefCell;
use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use smol::io::AsyncWriteExt;

use super::link::Whole;
use super::shared::Shared;
use super::transfer::Transfer;
use super::watch::{Claim, Deadline};
use super::{BodyWriter, Error, Exchange};
use crate::http1;

/// One event. What is `None` is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event<'a> {
    /// Sent back by a client that connects again, as `Last-Event-ID`; one line without NUL.
    pub id: Option<&'a str>,
    /// The name of the event, `message` when there is none; one line.
    pub event: Option<&'a str>,
    /// Any text; each of its lines becomes a `data` field, and the client puts them together again with LF.
    pub data: &'a str,
    /// How long a client waits before it connects again.
    pub retry: Option<Duration>,
}

impl<'a> Event<'a> {
    /// An event without id and name.
    pub fn new(data: &'a str) -> Self {
        Self { data, ..Self::default() }
    }

    /// The event as it is sent.
    fn encode(&self) -> Result<String, Error> {
        let mut text = String::with_capacity(self.data.len() + 64);
        for (field, value) in [("id", self.id), ("event", self.event)] {
            let Some(value) = value else { continue };
            if value.contains(['\r', '\n', '\0']) {
                return Err(http1::Error::Unsendable("the id or the name of an event has more than one line").into());
            }
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{field}: {value}");
        }
        if let Some(retry) = self.retry {
            let _ = writeln!(text, "retry: {}", retry.as_millis());
        }
        for line in lines(self.data) {
            let _ = writeln!(text, "data: {line}");
        }
        text.push('\n');
        Ok(text)
    }
}

/// The lines of a text; CR LF, LF and CR end one, as for the client.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\r', '\n']) else { return rest.take() };
        let (line, after) = text.split_at(end);
        rest = after.strip_prefix("\r\n").or_else(|| after.get(1..));
        Some(line)
    })
}

/// Sends events, each at once. A client that reads slowly makes [`EventWriter::send`] wait.
///
/// `web.timeouts.request` does not end the stream. Instead it is cut when for `web.timeouts.inactivity` nothing was sent, or
/// the client took nothing. Where events are rare, wait for them with [`EventWriter::wait`], which sends heartbeats meanwhile;
/// they are also how it is noticed that a client went away. When the action returns the response is complete, and the client
/// connects again; to a 204 it does not.
///
/// ```
/// use std::time::Duration;
/// use ioto::web::{Error, Event, Exchange};
///
/// async fn temperature(exchange: &mut Exchange) -> Result<(), Error> {
///     let mut events = exchange.events()?;
///     loop {
///         events.send(&Event { event: Some("celsius"), data: "21.5", ..Event::default() }).await?;
///         events.wait(smol::Timer::after(Duration::from_secs(60))).await?;
///     }
/// }
/// ```
pub struct EventWriter<'a> {
    writer: BodyWriter<'a>,
    whole: Rc<Whole>,
    /// When the next heartbeat is due, while the action waits.
    beat: Deadline,
    inactivity: Duration,
    shared: Arc<Shared>,
}

impl Exchange {
    /// Answers with server-sent events. `Cache-Control: no-store` is set.
    ///
    /// # Errors
    /// The request was answered already.
    pub fn events(&mut self) -> Result<EventWriter<'_>, Error> {
        self.set_header("Cache-Control", "no-store")?;
        let inactivity = self.shared.settings.timeouts.inactivity;
        let beat = self.local.watch.deadline();
        let shared = self.shared.clone();
        let writer = self.stream("text/event-stream")?;
        let whole = go_live(writer.transfer, inactivity);
        Ok(EventWriter { writer, whole, beat, inactivity, shared })
    }
}

/// Takes the request's time limit off the link; the deadline that is to be moved instead.
pub(super) fn go_live(transfer: &RefCell<Transfer>, inactivity: Duration) -> Rc<Whole> {
    let link = &mut transfer.borrow_mut().link;
    link.live(inactivity);
    let whole = link.whole();
    whole.set(Instant::now() + inactivity);
    whole
}

impl EventWriter<'_> {
    /// Sends an event.
    ///
    /// # Errors
    /// CR, LF or NUL in the id or the name; nothing is sent then. The client is gone or too slow.
    pub async fn send(&mut self, event: &Event<'_>) -> Result<(), Error> {
        self.write(&event.encode()?).await
    }

    /// Sends a comment, which clients ignore.
    ///
    /// # Errors
    /// The client is gone or too slow.
    pub async fn heartbeat(&mut self) -> Result<(), Error> {
        self.write(":\n\n").await
    }

    /// Waits for whatever it is, with a heartbeat at every half of `web.timeouts.inactivity`.
    ///
    /// # Errors
    /// The client is gone or too slow, or the server stops.
    pub async fn wait<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Error> {
        let mut future = pin!(future);
        loop {
            self.whole.set(Instant::now() + self.inactivity);
            self.beat.set(Instant::now() + self.inactivity / 2);
            // When the server stops, it ends this wait.
            self.beat.set_claim(Claim::Live);
            let result = poll_fn(|cx| match future.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending => self.beat.poll_over(cx).map(|()| None),
            })
            .await;
            self.beat.set_claim(Claim::Busy);
            self.beat.clear();
            if let Some(result) = result {
                return Ok(result);
            }
            if self.shared.is_stopping() {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server stops").into());
            }
            self.heartbeat().await?;
        }
    }

    /// Completes the response.
    ///
    /// # Errors
    /// The client is gone or too slow.
    pub async fn finish(self) -> Result<(), Error> {
        self.writer.finish().await
    }

    async fn write(&mut self, text: &str) -> Result<(), Error> {
        if self.shared.is_stopping() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server stops").into());
        }
        // Each byte that moves counts, so the link watches over this: it may take longer than the inactivity in all.
        self.whole.set(Instant::now() + crate::config::FOREVER);
        self.writer.write_all(text.as_bytes()).await?;
        self.writer.flush().await?;
        self.whole.set(Instant::now() + self.inactivity);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_data_becomes_a_field() {
        for (data, text) in [
            ("", "data: \n\n"),
            ("a", "data: a\n\n"),
            ("a\nb", "data: a\ndata: b\n\n"),
            ("a\r\nb\rc\n", "data: a\ndata: b\ndata: c\ndata: \n\n"),
            ("\n", "data: \ndata: \n\n"),
            ("\u{e4}\r\u{e4}", "data: \u{e4}\ndata: \u{e4}\n\n"),
        ] {
            assert_eq!(Event::new(data).encode().unwrap(), text, "{data:?}");
        }
    }

    #[test]
    fn id_name_and_retry_come_before_the_data() {
        let event = Event { id: Some("7"), event: Some("tick"), data: "x", retry: Some(Duration::from_millis(1500)) };
        assert_eq!(event.encode().unwrap(), "id: 7\nevent: tick\nretry: 1500\ndata: x\n\n");
    }

    #[test]
    fn an_id_or_name_cannot_smuggle_another_field() {
        for bad in ["a\nb", "a\r", "\0"] {
            assert!(Event { id: Some(bad), ..Event::default() }.encode().is_err(), "{bad:?}");
            assert!(Event { event: Some(bad), ..Event::default() }.encode().is_err(), "{bad:?}");
        }
    }
}
