//! The body of a request.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use smol::io::AsyncRead;

use super::form::encode_form;
use super::parts::{Part, Parts};
use super::{Error, Multipart};
use crate::http1::Headers;

/// What a request carries.
///
/// ```no_run
/// use ioto::fetch::{Body, Multipart};
///
/// let text: Body = "21.5".into();
/// let form = Body::form(&[("name", "lamp"), ("state", "on & on")]);
/// let image = Body::file("/var/lib/ioto/image.jpg");
/// let upload: Body = Multipart::new().text("title", "the roof").file("image", "/var/lib/ioto/image.jpg").into();
/// let endless = Body::reader(None, smol::io::repeat(b'.'));
/// ```
#[derive(Default)]
pub struct Body {
    pub(super) kind: Kind,
    /// The content type that goes with it when the request names none.
    pub(super) content_type: Option<String>,
    pub(super) trailers: Option<Trailers>,
}

/// Called when the last byte of the body was read.
pub(super) type Trailers = Box<dyn FnOnce() -> Headers + Send>;

/// A reader of a body.
pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// Where the bytes are.
#[derive(Default)]
pub(super) enum Kind {
    #[default]
    Empty,
    Bytes(Arc<Vec<u8>>),
    Reader(Option<u64>, Reader),
    Parts(Arc<[Part]>),
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Bytes in memory, sent with their length. Such a body can be sent again after a redirection.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Kind::Bytes(Arc::new(bytes.into())).into()
    }

    /// A file, read while it is sent, with the length that it has when sending begins. It can be sent again after a
    /// redirection; that it cannot be read is told when the request is sent.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Kind::Parts(Arc::new([Part::File(path.into())])).into()
    }

    /// Bytes that are read while they are sent. With a length exactly so many are sent; without, the body goes in chunks
    /// (RFC 9112 §7.1), which servers of HTTP/1.0 do not understand.
    pub fn reader(length: Option<u64>, reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Kind::Reader(length, Box::new(reader)).into()
    }

    /// The fields of a form, `application/x-www-form-urlencoded`.
    pub fn form<N: AsRef<str>, V: AsRef<str>>(fields: &[(N, V)]) -> Self {
        let text = encode_form(fields.iter().map(|(name, value)| (name.as_ref(), value.as_ref())));
        Self { content_type: Some("application/x-www-form-urlencoded".into()), ..Self::bytes(text) }
    }

    /// Header fields that follow a body of [`reader`](Self::reader) without length, as a checksum of what was read
    /// (RFC 9112 §7.1.2). They are asked for when the reader has ended. Other bodies have none.
    pub fn trailers(mut self, fields: impl FnOnce() -> Headers + Send + 'static) -> Self {
        self.trailers = Some(Box::new(fields));
        self
    }

    /// The same body once more; nothing when it can be read only once.
    pub(super) fn again(&self) -> Option<Self> {
        let kind = match &self.kind {
            Kind::Empty => Kind::Empty,
            Kind::Bytes(bytes) => Kind::Bytes(bytes.clone()),
            Kind::Parts(parts) => Kind::Parts(parts.clone()),
            Kind::Reader(..) => return None,
        };
        Some(Self { kind, content_type: self.content_type.clone(), trailers: None })
    }

    /// Opens the files, so that the length is known.
    pub(super) async fn open(self) -> Result<Self, Error> {
        let Kind::Parts(parts) = self.kind else { return Ok(self) };
        let reader = Parts::open(parts).await.map_err(Error::Body)?;
        let kind = match reader.length() {
            // An empty file is an empty body nevertheless: its length is sent.
            0 => Kind::Bytes(Arc::default()),
            length => Kind::Reader(Some(length), Box::new(reader)),
        };
        Ok(Self { kind, ..self })
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self { kind, content_type: None, trailers: None }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Empty => f.write_str("Empty"),
            Kind::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Kind::Reader(length, _) => write!(f, "Reader({length:?})"),
            Kind::Parts(parts) => write!(f, "Parts({})", parts.len()),
        }
    }
}

impl From<Multipart> for Body {
    fn from(multipart: Multipart) -> Self {
        let (content_type, parts) = multipart.finish();
        Self { content_type: Some(content_type), ..Kind::Parts(parts.into()).into() }
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
