//! Reads heads. `httparse` finds names and values; everything two readers could disagree about is refused before or after.

use std::mem::MaybeUninit;

use super::scan::{longest_request_line, scan};
use super::{Error, Headers, Limits, Method, RequestHead, ResponseHead, Version, is_authority, target};

/// The most header fields of any head, whatever the limits say.
pub const MAX_HEADERS: usize = 256;

/// Reads a request head from the start of what was received. `None`: more is needed. Otherwise the head and the number of
/// bytes it took; the body follows, see [`RequestHead::framing`]. One empty line before the request is skipped (RFC 9112 §2.2).
///
/// A head that is returned has a known framing, one valid `Host` (HTTP/1.1), a valid target and an expectation that can be met.
///
/// # Errors
/// The connection must be closed after the answer: where the next request begins is unknown.
pub fn parse_request(input: &[u8], limits: &Limits) -> Result<Option<(RequestHead, usize)>, Error> {
    let skipped = if input.starts_with(b"\r\n") { 2 } else { 0 };
    let input = input.get(skipped..).unwrap_or_default();
    let length = match scan(input, limits, longest_request_line(limits))? {
        Some(2) => return Err(Error::Malformed("an empty request line")),
        Some(length) => length,
        None => return Ok(None),
    };
    let bytes = input.get(..length).unwrap_or_default();
    let (method, target, version) = request_line(bytes, limits)?;

    let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let slots = slots.get_mut(..limits.headers.min(MAX_HEADERS)).unwrap_or_default();
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, slots) {
        Ok(httparse::Status::Complete(used)) if used == length => {}
        Ok(_) => return Err(Error::Malformed("the head does not end where its empty line is")),
        Err(error) => return Err(refusal(error)),
    }
    let head = RequestHead { method, target, version, headers: fields(request.headers, length)? };
    check_host(&head)?;
    head.framing()?;
    head.expects_continue()?;
    Ok(Some((head, skipped + length)))
}

/// Reads a response head from the start of what was received. `None`: more is needed. Otherwise the head, also that of an
/// interim 1xx response, and the number of bytes it took. The reason phrase is dropped.
///
/// # Errors
/// The connection must be closed.
pub fn parse_response(input: &[u8], limits: &Limits) -> Result<Option<(ResponseHead, usize)>, Error> {
    let length = match scan(input, limits, limits.head)? {
        Some(length) => length,
        None => return Ok(None),
    };
    let bytes = input.get(..length).unwrap_or_default();
    let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let slots = slots.get_mut(..limits.headers.min(MAX_HEADERS)).unwrap_or_default();
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, slots);
    match parsed {
        Ok(httparse::Status::Complete(used)) if used == length => {}
        Ok(_) => return Err(Error::Malformed("the head does not end where its empty line is")),
        Err(error) => return Err(refusal(error)),
    }
    let status = response.code.filter(|code| (100..=599).contains(code)).ok_or(Error::Malformed("the status code"))?;
    let version = match response.version {
        Some(0) => Version::Http10,
        Some(1) => Version::Http11,
        _ => return Err(Error::Version),
    };
    let head = ResponseHead { status, version, headers: fields(response.headers, length)? };
    head.framing(&Method::Get)?;
    Ok(Some((head, length)))
}

/// Method, target and version: three words with one space between them.
fn request_line(head: &[u8], limits: &Limits) -> Result<(Method, String, Version), Error> {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Error::Malformed("the request line has not three words"));
    };
    let text = |word| std::str::from_utf8(word).map_err(|_| Error::Malformed("the request line is not ASCII"));
    let method: Method = text(method)?.parse()?;
    let version = parse_version(version)?;
    let target = text(target)?;
    if target.len() > limits.target {
        return Err(Error::TargetTooLong);
    }
    target::check(target, &method)?;
    Ok((method, target.to_owned(), version))
}

fn parse_version(word: &[u8]) -> Result<Version, Error> {
    match word {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(Error::Version)
        }
        _ => Err(Error::Malformed("the version")),
    }
}

fn fields(parsed: &[httparse::Header<'_>], length: usize) -> Result<Headers, Error> {
    let mut headers = Headers::with_capacity(parsed.len(), length);
    for field in parsed {
        let value = std::str::from_utf8(field.value).map_err(|_| Error::Malformed("a header value is not UTF-8"))?;
        headers.append(field.name, value).map_err(|_| Error::Malformed("a header field"))?;
    }
    Ok(headers)
}

/// Exactly one host for HTTP/1.1, at most one for HTTP/1.0 (RFC 9112 §3.2).
fn check_host(head: &RequestHead) -> Result<(), Error> {
    let mut hosts = head.headers.get_all("host");
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Err(Error::Malformed("more than one Host")),
        (Some(host), None) if is_authority(host) => Ok(()),
        (Some(_), None) => Err(Error::Malformed("Host is not host or host:port")),
        (None, _) if head.version == Version::Http11 => Err(Error::Malformed("no Host")),
        (None, _) => Ok(()),
    }
}

fn refusal(error: httparse::Error) -> Error {
    match error {
        httparse::Error::TooManyHeaders => Error::TooManyHeaders,
        httparse::Error::HeaderName => Error::Malformed("a header name"),
        httparse::Error::HeaderValue => Error::Malformed("a header value"),
        httparse::Error::NewLine => Error::Malformed("a line end"),
        httparse::Error::Status => Error::Malformed("the status line"),
        httparse::Error::Token => Error::Malformed("the first line"),
        httparse::Error::Version => Error::Version,
    }
}
