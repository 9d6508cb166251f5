//! Writes heads and chunks.

use std::io::Write;

use super::headers::check_field;
use super::{Error, RequestHead, ResponseHead, Version, reason, target};

/// The chunk that ends a body, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends a request head. The caller sets `Host` and the fields that frame the body.
///
/// # Errors
/// [`Error::Unsendable`] when the target could not be read back; `out` is unchanged then.
pub fn encode_request(head: &RequestHead, out: &mut Vec<u8>) -> Result<(), Error> {
    target::check(&head.target, &head.method).map_err(|_| Error::Unsendable("the request target"))?;
    put(out, &[head.method.as_str(), " ", &head.target, " ", head.version.as_str(), "\r\n"]);
    for (name, value) in head.headers.iter() {
        put(out, &[name, ": ", value, "\r\n"]);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends a response head. The caller sets the fields that frame the body.
///
/// # Errors
/// [`Error::Unsendable`] when the status is not within 100 to 599; `out` is unchanged then.
pub fn encode_response(head: &ResponseHead, out: &mut Vec<u8>) -> Result<(), Error> {
    encode_status_line(head.version, head.status, out)?;
    for (name, value) in head.headers.iter() {
        put(out, &[name, ": ", value, "\r\n"]);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends the first line of a response, for heads that are written field by field.
///
/// # Errors
/// [`Error::Unsendable`] when the status is not within 100 to 599; `out` is unchanged then.
pub fn encode_status_line(version: Version, status: u16, out: &mut Vec<u8>) -> Result<(), Error> {
    if !(100..=599).contains(&status) {
        return Err(Error::Unsendable("the status code"));
    }
    let digit = |value: u16| b'0' + (value % 10) as u8;
    put(out, &[version.as_str(), " "]);
    out.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status), b' ']);
    put(out, &[reason(status), "\r\n"]);
    Ok(())
}

/// Appends one header field with its line end.
///
/// # Errors
/// [`Error::Unsendable`] for a name that is not a token or a value with control characters; `out` is unchanged then.
pub fn encode_field(name: &str, value: &str, out: &mut Vec<u8>) -> Result<(), Error> {
    check_field(name, value)?;
    put(out, &[name, ": ", value, "\r\n"]);
    Ok(())
}

/// Appends one chunk. Nothing for empty data: an empty chunk would end the body, see [`LAST_CHUNK`].
pub fn encode_chunk(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Limits, Method, parse_request, parse_response};
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut request = RequestHead::new(Method::Other("PURGE".into()), "/a%20b?c=d");
        request.headers.append("Host", "device:80").unwrap();
        request.headers.append("X-Text", "gr\u{fc}n").unwrap();
        let mut bytes = Vec::new();
        encode_request(&request, &mut bytes).unwrap();
        assert_eq!(parse_request(&bytes, &Limits::default()), Ok(Some((request, bytes.len()))));

        let mut response = ResponseHead::new(404);
        response.headers.append("Content-Length", "0").unwrap();
        let mut bytes = Vec::new();
        encode_response(&response, &mut bytes).unwrap();
        assert!(bytes.starts_with(b"HTTP/1.1 404 Not Found\r\n"));
        assert_eq!(parse_response(&bytes, &Limits::default()), Ok(Some((response, bytes.len()))));
    }

    #[test]
    fn what_would_split_a_message_is_not_written() {
        let mut out = b"before".to_vec();
        for target in ["/a b", "/a\r\nX: y", "/a\0", "", "a"] {
            assert!(encode_request(&RequestHead::new(Method::Get, target), &mut out).is_err(), "{target:?}");
        }
        assert!(encode_response(&ResponseHead::new(1000), &mut out).is_err());
        assert!(encode_field("X", "a\nb", &mut out).is_err());
        assert!(encode_field("X\n", "a", &mut out).is_err());
        assert_eq!(out, b"before");
    }

    #[test]
    fn chunks_have_their_size_in_hexadecimal() {
        let mut out = Vec::new();
        encode_chunk(&[b'x'; 26], &mut out);
        encode_chunk(b"", &mut out);
        out.extend_from_slice(LAST_CHUNK);
        assert_eq!(out, b"1a\r\nxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n0\r\n\r\n");
    }
}
