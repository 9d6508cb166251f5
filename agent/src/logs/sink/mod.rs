//! Where records go.

mod datagram;
mod link;
mod message;
mod syslog;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

pub use self::datagram::SyslogUdp;
pub use self::message::Style;
pub use self::syslog::Syslog;
use super::Record;
use crate::config::{Logs, SinkKind};
use crate::net::{self, TlsClient};

/// A record on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The same however often it is sent, and of no other record.
    pub id: String,
    /// The source it came from.
    pub source: Rc<str>,
    /// Its number among the records of the source, from 1 on without gaps.
    pub seq: u64,
    /// What it says.
    pub record: Record,
}

/// Why a sink did not go on.
#[derive(Debug)]
pub struct Failure {
    /// In words.
    pub error: String,
    /// So many of the entries accepted last may not have been read: they have to be sent again.
    pub again: usize,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

/// A future of a [`Sink`].
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Takes entries in their order, and says which of them the other side has.
pub trait Sink {
    /// Sends the entries; connects before when that is needed. `accepted` is called with the number of entries that the other
    /// side has beside those of the calls before. After a failure the next call begins with a new connection.
    fn send<'a>(
        &'a mut self,
        entries: &'a [Entry],
        accepted: &'a mut dyn FnMut(usize),
    ) -> Doing<'a, Result<(), Failure>>;

    /// So many of the entries accepted last might be wanted again after a failure.
    fn unconfirmed(&self) -> usize;

    /// Waits for the end of the connection while there is nothing to send.
    fn ended(&mut self) -> Doing<'_, Failure>;

    /// Ends the connection so that the other side can read all it has. Whether it did.
    fn close(&mut self) -> Doing<'_, bool>;
}

/// The sink that the configuration names; `device` stands in the messages where no other name was chosen.
pub fn open(settings: &Logs, device: &str) -> Result<Option<Box<dyn Sink>>, net::Error> {
    let Some(url) = &settings.sink else { return Ok(None) };
    let style = Style::new(settings, device);
    Ok(Some(match url.kind {
        SinkKind::SyslogUdp => Box::new(SyslogUdp::new(url, style, settings.timeout)),
        SinkKind::SyslogTcp => Box::new(Syslog::new(url, None, style, settings)),
        SinkKind::SyslogTls => {
            let mut tls = TlsClient::builder();
            if let Some(authority) = &settings.authority {
                tls = tls.authority(authority);
            }
            if let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) {
                tls = tls.identity(certificate, key);
            }
            Box::new(Syslog::new(url, Some(tls.build()?), style, settings))
        }
    }))
}
