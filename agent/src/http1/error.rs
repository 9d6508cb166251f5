//! What is wrong with a message.

use std::fmt;

/// Why a message was refused. A server answers [`Error::status`] and closes the connection; a client closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It breaks the grammar of HTTP/1.1, or could be understood in two ways; the text says where.
    Malformed(&'static str),
    /// The body is longer than the receiver takes.
    BodyTooLarge,
    /// The request target is longer than [`Limits::target`](super::Limits::target).
    TargetTooLong,
    /// `Expect` asks for something else than `100-continue`.
    Expectation,
    /// The head is longer than [`Limits::head`](super::Limits::head).
    HeadTooLarge,
    /// There are more header fields than [`Limits::headers`](super::Limits::headers).
    TooManyHeaders,
    /// It asks for something this codec does not do; the text says what.
    NotImplemented(&'static str),
    /// The version is neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// The peer closed the connection in the middle of a message.
    Truncated,
    /// A message of ours cannot be sent: a name, value or target holds bytes that are not allowed there.
    Unsendable(&'static str),
}

impl Error {
    /// The status code a server answers with.
    pub fn status(&self) -> u16 {
        match self {
            Error::Malformed(_) | Error::Truncated => 400,
            Error::BodyTooLarge => 413,
            Error::TargetTooLong => 414,
            Error::Expectation => 417,
            Error::HeadTooLarge | Error::TooManyHeaders => 431,
            Error::Unsendable(_) => 500,
            Error::NotImplemented(_) => 501,
            Error::Version => 505,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Malformed(what) => write!(f, "malformed HTTP message: {what}"),
            Error::BodyTooLarge => f.write_str("the body is too large"),
            Error::TargetTooLong => f.write_str("the request target is too long"),
            Error::Expectation => f.write_str("the only expectation that can be met is 100-continue"),
            Error::HeadTooLarge => f.write_str("the header fields are too large"),
            Error::TooManyHeaders => f.write_str("there are too many header fields"),
            Error::NotImplemented(what) => write!(f, "not implemented: {what}"),
            Error::Version => f.write_str("only HTTP/1.0 and HTTP/1.1 are spoken here"),
            Error::Truncated => f.write_str("the connection was closed in the middle of a message"),
            Error::Unsendable(what) => write!(f, "cannot be sent: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Truncated => std::io::ErrorKind::UnexpectedEof,
            Error::Unsendable(_) => std::io::ErrorKind::InvalidInput,
            _ => std::io::ErrorKind::InvalidData,
        };
        std::io::Error::new(kind, error)
    }
}
