//! What can go wrong when the server starts, and in an action.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::http1;

/// An error of the web server or of an action.
///
/// When an action returns one and nothing was sent yet, the client gets [`Error::Status`] as it is, the status of an HTTP
/// error, and for everything else a 500 with a random id; the same id stands in the log with the error's text.
#[derive(Debug)]
pub enum Error {
    /// Another program listens there.
    AddressInUse {
        /// The address as a URL.
        address: String,
    },
    /// The address cannot be listened on.
    Bind {
        /// The address as a URL.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A setting cannot be used; the text says which and why.
    Setting(String),
    /// For the client: this status, this text.
    Status {
        /// 400 to 599.
        status: u16,
        /// What to tell the client, one line.
        message: String,
    },
    /// For the client: this status and text, and when it may try again (`Retry-After`, RFC 9110 §10.2.3).
    Retry {
        /// 429 or 503.
        status: u16,
        /// What to tell the client, one line.
        message: String,
        /// From now on.
        after: Duration,
    },
    /// An action tried to answer a request twice.
    Answered,
    /// A message is malformed or cannot be sent.
    Http(http1::Error),
    /// The client is gone or too slow, or a file cannot be read.
    Io(io::Error),
    /// Anything else that goes wrong in an action.
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// An answer to the client: `Error::status(404, "no such reading")`.
    pub fn status(status: u16, message: impl Into<String>) -> Self {
        Error::Status { status, message: message.into() }
    }

    /// An answer to a client that has to wait: 429 when it asks too much, 503 when the device is too busy. It is told after
    /// how many whole seconds it may try again: `Error::retry(429, "one picture a minute", Duration::from_secs(60))`.
    pub fn retry(status: u16, message: impl Into<String>, after: Duration) -> Self {
        Error::Retry { status, message: message.into(), after }
    }

    /// What `Retry-After` says: a second has to be over before anything changes.
    pub(super) fn retry_after(&self) -> Option<u64> {
        match self {
            Error::Retry { after, .. } => {
                Some(after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0)).max(1))
            }
            _ => None,
        }
    }

    /// Any error of an action; the client gets a 500 and the log the text.
    pub fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Error::Failed(error.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::AddressInUse { address } => {
                write!(f, "{address} is in use: stop the program that listens there, or choose another address")
            }
            Error::Bind { address, source } => write!(f, "{address}: cannot listen: {source}"),
            Error::Setting(text) => f.write_str(text),
            Error::Status { status, message } | Error::Retry { status, message, .. } => write!(f, "{status} {message}"),
            Error::Answered => f.write_str("the request was answered already"),
            Error::Http(error) => error.fmt(f),
            Error::Io(error) => error.fmt(f),
            Error::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Bind { source, .. } => Some(source),
            Error::Http(error) => Some(error),
            Error::Io(error) => Some(error),
            Error::Failed(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::Io(error)
    }
}

impl From<http1::Error> for Error {
    fn from(error: http1::Error) -> Self {
        Error::Http(error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Error::Failed(error.into())
    }
}
