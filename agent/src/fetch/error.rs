//! What can go wrong with a request.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::{http1, net};

/// A part of a request that has its own deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the end of the request to the end of the head of the response.
    Head,
    /// Between two bytes of a body, in either direction.
    Idle,
    /// All of it.
    Total,
}

/// Why a request got no response, or a response no end.
#[derive(Debug)]
pub enum Error {
    /// The URL cannot be used.
    Url {
        /// The URL as given, without user name and password.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A header field that the client sets itself was given.
    Header {
        /// The name of the field.
        name: String,
    },
    /// The request cannot be written as HTTP.
    Unsendable(http1::Error),
    /// There is no connection.
    Connect(net::Error),
    /// The connection broke before or in the middle of the response.
    Broken {
        /// The host.
        host: String,
        /// What the kernel or TLS said.
        source: io::Error,
    },
    /// The server's answer is not HTTP as we trust it, or breaks off.
    Response {
        /// The host.
        host: String,
        /// What is wrong.
        source: http1::Error,
    },
    /// A part of the request took longer than it may.
    Timeout {
        /// The host.
        host: String,
        /// The part.
        stage: Stage,
        /// How long we waited.
        after: Duration,
    },
    /// The server sent us from place to place.
    Redirects {
        /// The host that sent us on last.
        host: String,
        /// So many redirections were followed.
        limit: u8,
    },
    /// The server sent us to where we do not go.
    Redirect {
        /// Where to.
        location: String,
        /// Why not.
        reason: &'static str,
    },
    /// The server cannot be told who we are.
    Login {
        /// The host.
        host: String,
        /// Why not.
        reason: &'static str,
    },
    /// The server answered with a status that is not the one wanted.
    Status {
        /// The URL that answered.
        url: String,
        /// The status.
        status: u16,
    },
    /// What was to be fetched is not what it was when that began.
    Changed {
        /// The host.
        host: String,
    },
    /// The compressed body of the response cannot be read.
    Encoding {
        /// The host.
        host: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A file that the response goes to cannot be written.
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The response is no stream of events.
    NoEvents {
        /// The host.
        host: String,
    },
    /// An event is larger than it may be.
    Event {
        /// The host.
        host: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The connection did not become a WebSocket.
    Upgrade {
        /// The host.
        host: String,
        /// Why not.
        reason: &'static str,
    },
    /// The messages of a WebSocket are not as they should be.
    WebSocket {
        /// The host.
        host: String,
        /// What is wrong.
        fault: Box<async_tungstenite::tungstenite::Error>,
    },
    /// The body of the response is larger than the caller takes.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The reader that gives the body of the request failed or gave less than it promised.
    Body(io::Error),
    /// The body of the response is no text in UTF-8.
    Text,
    /// The body of the response is not JSON.
    Json(serde_json::Error),
}

impl Error {
    /// Whether trying again later can help although nobody changes anything here.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_transient(),
            Self::Response { source, .. } => *source == http1::Error::Truncated,
            Self::Broken { .. } | Self::Timeout { .. } | Self::Changed { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// As an error of a stream: the body of a response is read through [`smol::io::AsyncRead`].
    pub(super) fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::Timeout { .. } => io::ErrorKind::TimedOut,
            Self::Response { source: http1::Error::Truncated, .. } => io::ErrorKind::UnexpectedEof,
            Self::Response { .. } | Self::Encoding { .. } => io::ErrorKind::InvalidData,
            Self::Broken { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { url, reason } => write!(f, "the URL '{url}' cannot be used: {reason}"),
            Self::Header { name } => {
                write!(f, "the header '{name}' is set by the client itself, from the body; leave it out")
            }
            Self::Unsendable(source) => write!(f, "the request cannot be sent: {source}"),
            Self::Connect(source) => source.fmt(f),
            Self::Broken { host, source } => {
                write!(f, "the connection to {host} broke: {source}; try again")
            }
            Self::Response { host, source: http1::Error::Truncated } => {
                write!(f, "{host} closed the connection before the response was complete; try again")
            }
            Self::Response { host, source } => write!(f, "the answer of {host} is refused: {source}"),
            Self::Timeout { host, stage, after } => {
                let what = match stage {
                    Stage::Head => "sent no complete response head",
                    Stage::Idle => "neither sent nor took a byte",
                    Stage::Total => "did not complete the request",
                };
                write!(f, "{host} {what} within {after:?}; try again or allow more time")
            }
            Self::Redirects { host, limit } => {
                write!(f, "given up after {limit} redirections, the last one by {host}; ask for the final URL")
            }
            Self::Redirect { location, reason } => {
                write!(f, "the redirection to '{location}' is not followed: {reason}")
            }
            Self::Login { host, reason } => write!(f, "cannot log in to {host}: {reason}"),
            Self::Status { url, status } => {
                let reason = http1::reason(*status);
                write!(f, "{url} answered {status} {reason}")
            }
            Self::Changed { host } => write!(f, "{host} has another version now than when this began; try again"),
            Self::Encoding { host, reason } => {
                write!(f, "the answer of {host} is refused: {reason}; ask for it uncompressed")
            }
            Self::File { path, source } => write!(f, "cannot write {}: {source}", path.display()),
            Self::NoEvents { host } => write!(f, "the answer of {host} is no stream of events; check the URL"),
            Self::Event { host, limit } => write!(f, "{host} sent an event of more than {limit} bytes; allow more"),
            Self::Upgrade { host, reason } => write!(f, "no WebSocket with {host}: {reason}"),
            Self::WebSocket { host, fault } => write!(f, "the WebSocket with {host} broke: {fault}"),
            Self::TooLarge { limit } => {
                write!(f, "the response is larger than {limit} bytes; read it as a stream or allow more")
            }
            Self::Body(source) => write!(f, "cannot read the body of the request: {source}"),
            Self::Text => f.write_str("the response is no text in UTF-8; read its bytes"),
            Self::Json(source) => write!(f, "the response is not JSON: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unsendable(source) | Self::Response { source, .. } => Some(source),
            Self::Connect(source) => Some(source),
            Self::Broken { source, .. } | Self::Body(source) | Self::File { source, .. } => Some(source),
            Self::WebSocket { fault, .. } => Some(fault),
            Self::Json(source) => Some(source),
            _ => None,
        }
    }
}

impl From<net::Error> for Error {
    fn from(error: net::Error) -> Self {
        Self::Connect(error)
    }
}
