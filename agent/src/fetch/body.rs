//! The body of a request.

use std::fmt;
use std::sync::Arc;

use smol::io::AsyncRead;

/// What a request carries.
#[derive(Default)]
pub struct Body(pub(super) Kind);

/// Where the bytes are.
#[derive(Default)]
pub(super) enum Kind {
    #[default]
    Empty,
    Bytes(Arc<Vec<u8>>),
    Reader(Option<u64>, Box<dyn AsyncRead + Send + Unpin>),
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// Bytes in memory, sent with their length. Such a body can be sent again after a redirection.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Kind::Bytes(Arc::new(bytes.into())))
    }

    /// Bytes that are read while they are sent. With a length exactly so many are sent; without, the body goes in chunks
    /// (RFC 9112 §7.1), which servers of HTTP/1.0 do not understand.
    pub fn reader(length: Option<u64>, reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self(Kind::Reader(length, Box::new(reader)))
    }

    /// The same body once more; nothing when it can be read only once.
    pub(super) fn again(&self) -> Option<Self> {
        match &self.0 {
            Kind::Empty => Some(Self(Kind::Empty)),
            Kind::Bytes(bytes) => Some(Self(Kind::Bytes(bytes.clone()))),
            Kind::Reader(..) => None,
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Empty => f.write_str("Empty"),
            Kind::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Kind::Reader(length, _) => write!(f, "Reader({length:?})"),
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::bytes(bytes)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::bytes(text)
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        Self::bytes(text)
    }
}

impl From<&[u8]> for Body {
    fn from(bytes: &[u8]) -> Self {
        Self::bytes(bytes)
    }
}
