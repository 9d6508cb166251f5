//! Request methods.

use std::fmt;
use std::str::FromStr;

use super::Error;

/// Longest method accepted, in bytes; the longest registered one (RFC 9110 §16.1) has 17.
const MAX_METHOD: usize = 24;

/// A request method. Case matters (RFC 9110 §9.1): `get` is [`Method::Other`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    Connect,
    /// Any other token.
    Other(Box<str>),
}

impl Method {
    /// The method as it stands in a request line.
    pub fn as_str(&self) -> &str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Patch => "PATCH",
            Method::Trace => "TRACE",
            Method::Connect => "CONNECT",
            Method::Other(token) => token,
        }
    }
}

impl FromStr for Method {
    type Err = Error;

    /// Any token (RFC 9110 §5.6.2) of at most 24 bytes.
    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            "PATCH" => Method::Patch,
            "TRACE" => Method::Trace,
            "CONNECT" => Method::Connect,
            _ if text.is_empty() || text.len() > MAX_METHOD || !text.bytes().all(is_token) => {
                return Err(Error::Malformed("the method is not a token"));
            }
            _ => Method::Other(text.into()),
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A byte that may stand in a token (RFC 9110 §5.6.2).
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
