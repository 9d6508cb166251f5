//! The heads of requests and responses.

use super::target::Target;
use super::{Error, Headers, Method};

/// Bounds of a head. What is longer is refused with 414 or 431.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole head, with its empty line.
    pub head: usize,
    /// Number of header fields, at most [`MAX_HEADERS`](super::MAX_HEADERS).
    pub headers: usize,
    /// Bytes of the request target.
    pub target: usize,
}

impl Default for Limits {
    /// 16 KiB, 64 fields, 8 KiB.
    fn default() -> Self {
        Self { head: 16 * 1024, headers: 64, target: 8 * 1024 }
    }
}

/// The version of a message; all others are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: no chunks, and the connection closes unless both sides say `keep-alive`.
    Http10,
    /// HTTP/1.1
    Http11,
}

impl Version {
    /// As it stands in a message.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// What to do.
    pub method: Method,
    /// The target as it stands in the request line: `/path?query`, `http://host/path?query` or `*`.
    pub target: String,
    /// The client's version.
    pub version: Version,
    /// The header fields.
    pub headers: Headers,
}

impl RequestHead {
    /// A request of HTTP/1.1 without header fields.
    pub fn new(method: Method, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), version: Version::Http11, headers: Headers::new() }
    }

    /// The path of the target, still percent-encoded; `*` for `OPTIONS *`.
    pub fn path(&self) -> &str {
        Target::split(&self.target).path
    }

    /// What follows the `?` of the target, still percent-encoded.
    pub fn query(&self) -> Option<&str> {
        Target::split(&self.target).query
    }

    /// The `host[:port]` the client addressed: of an absolute target, else of the `Host` field (RFC 9112 §3.3).
    pub fn authority(&self) -> Option<&str> {
        Target::split(&self.target).authority.or_else(|| self.headers.get("host"))
    }

    /// Whether the client wants to send another request on this connection (RFC 9112 §9.3).
    pub fn keeps_alive(&self) -> bool {
        keeps_alive(self.version, &self.headers)
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1). HTTP/1.0 cannot ask for it.
    ///
    /// # Errors
    /// [`Error::Expectation`] when it expects anything else.
    pub fn expects_continue(&self) -> Result<bool, Error> {
        if self.version == Version::Http10 {
            return Ok(false);
        }
        let mut expected = self.headers.get_all("expect");
        match (expected.next(), expected.next()) {
            (None, _) => Ok(false),
            (Some(value), None) if value.eq_ignore_ascii_case("100-continue") => Ok(true),
            _ => Err(Error::Expectation),
        }
    }
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code, 100 to 599.
    pub status: u16,
    /// The server's version.
    pub version: Version,
    /// The header fields.
    pub headers: Headers,
}

impl ResponseHead {
    /// A response of HTTP/1.1 without header fields.
    pub fn new(status: u16) -> Self {
        Self { status, version: Version::Http11, headers: Headers::new() }
    }

    /// Whether the server takes another request on this connection after this response (RFC 9112 §9.3).
    pub fn keeps_alive(&self) -> bool {
        keeps_alive(self.version, &self.headers)
    }
}

fn keeps_alive(version: Version, headers: &Headers) -> bool {
    if headers.has_token("connection", "close") {
        return false;
    }
    version == Version::Http11 || headers.has_token("connection", "keep-alive")
}
