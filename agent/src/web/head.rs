//! Writes the head of a response.

use super::local::Local;
use super::shared::Shared;
use crate::http1::{Error, Headers, Version, encode_status_line};

/// What a response head says about its body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// Nothing: the status allows no body (1xx, 204, 304).
    None,
    Known(u64),
    Chunked,
    /// The body ends with the connection.
    UntilClose,
}

/// A response head before it is written.
pub(super) struct Head<'a> {
    pub status: u16,
    pub content_type: &'a str,
    pub length: Length,
    /// Fields set by who answers; they replace those of the configuration.
    pub headers: &'a Headers,
    pub close: bool,
    /// Whether the connection is TLS.
    pub secure: bool,
    /// The client's version: HTTP/1.0 is told when the connection stays open.
    pub version: Version,
}

impl Head<'_> {
    /// Appends the head.
    pub fn write(&self, shared: &Shared, local: &Local, out: &mut Vec<u8>) -> Result<(), Error> {
        encode_status_line(Version::Http11, self.status, out)?;
        out.extend_from_slice(b"Date: ");
        local.date.write(out);
        out.extend_from_slice(b"\r\n");
        // An action may have set its own; two would be read as one likes.
        if !self.content_type.is_empty() && self.headers.get("content-type").is_none() {
            field("Content-Type", self.content_type, out);
        }
        match self.length {
            Length::Known(length) => {
                out.extend_from_slice(b"Content-Length: ");
                number(length, out);
                out.extend_from_slice(b"\r\n");
            }
            Length::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Length::None | Length::UntilClose => {}
        }
        if self.close {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if self.version == Version::Http10 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        shared.fields(self.secure).write(self.headers, out);
        for (name, value) in self.headers.iter() {
            field(name, value, out);
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// Appends a number in decimal digits, for a tenth of what `write!` costs.
fn number(mut number: u64, out: &mut Vec<u8>) {
    let start = out.len();
    loop {
        out.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.get_mut(start..).unwrap_or_default().reverse();
}

/// Appends a field whose name and value were checked.
pub(super) fn field(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}
