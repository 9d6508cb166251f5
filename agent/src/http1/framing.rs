//! Where a body ends (RFC 9112 §6). The rules that keep requests from being smuggled are all here.

use super::{Error, Headers, Method, RequestHead, ResponseHead, Version};

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// So many bytes.
    Length(u64),
    /// Chunks, the last one of size 0.
    Chunked,
    /// Everything until the server closes the connection. Responses only.
    UntilClose,
}

impl RequestHead {
    /// How long the request's body is.
    ///
    /// # Errors
    /// For anything but one `Content-Length` of digits, or one `Transfer-Encoding: chunked`, or neither. RFC 9112 §6.3 would
    /// let a server repair some of these; a repaired request is one that a proxy in front may have read differently.
    pub fn framing(&self) -> Result<Framing, Error> {
        if let Some(framing) = chunked(&self.headers, self.version)? {
            return Ok(framing);
        }
        Ok(match content_length(&self.headers)? {
            None | Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
        })
    }
}

impl ResponseHead {
    /// How long the response's body is; it depends on the method of the request it answers.
    ///
    /// # Errors
    /// As for requests: ambiguous lengths are refused.
    pub fn framing(&self, request: &Method) -> Result<Framing, Error> {
        let chunked = chunked(&self.headers, self.version)?;
        let length = content_length(&self.headers)?;
        if *request == Method::Head || matches!(self.status, 100..=199 | 204 | 304) {
            return Ok(Framing::Empty);
        }
        Ok(match (chunked, length) {
            (Some(framing), _) => framing,
            (None, Some(0)) => Framing::Empty,
            (None, Some(length)) => Framing::Length(length),
            (None, None) => Framing::UntilClose,
        })
    }
}

fn chunked(headers: &Headers, version: Version) -> Result<Option<Framing>, Error> {
    let mut codings = headers.get_all("transfer-encoding");
    let Some(coding) = codings.next() else { return Ok(None) };
    if version == Version::Http10 {
        return Err(Error::Malformed("Transfer-Encoding in HTTP/1.0"));
    }
    if headers.get("content-length").is_some() {
        return Err(Error::Malformed("both Content-Length and Transfer-Encoding"));
    }
    if codings.next().is_some() || !coding.eq_ignore_ascii_case("chunked") {
        return Err(Error::NotImplemented("a Transfer-Encoding other than chunked"));
    }
    Ok(Some(Framing::Chunked))
}

fn content_length(headers: &Headers) -> Result<Option<u64>, Error> {
    let mut lengths = headers.get_all("content-length");
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err(Error::Malformed("more than one Content-Length"));
    }
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::Malformed("Content-Length is not a number"));
    }
    length.parse().map(Some).map_err(|_| Error::BodyTooLarge)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn response(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
        let mut head = ResponseHead::new(status);
        for (name, value) in fields {
            head.headers.append(name, value).unwrap();
        }
        head
    }

    #[test]
    fn a_response_without_length_ends_with_the_connection() {
        assert_eq!(response(200, &[]).framing(&Method::Get), Ok(Framing::UntilClose));
        assert_eq!(response(200, &[("Content-Length", "7")]).framing(&Method::Get), Ok(Framing::Length(7)));
        assert_eq!(response(200, &[("Transfer-Encoding", "Chunked")]).framing(&Method::Get), Ok(Framing::Chunked));
    }

    #[test]
    fn some_responses_never_have_a_body() {
        let length = [("Content-Length", "7")];
        assert_eq!(response(200, &length).framing(&Method::Head), Ok(Framing::Empty));
        for status in [100, 101, 204, 304] {
            assert_eq!(response(status, &length).framing(&Method::Get), Ok(Framing::Empty), "{status}");
        }
    }

    #[test]
    fn an_ambiguous_response_is_refused() {
        for fields in [
            &[("Content-Length", "7"), ("Content-Length", "7")][..],
            &[("Content-Length", "7"), ("Transfer-Encoding", "chunked")],
            &[("Content-Length", "+7")],
            &[("Transfer-Encoding", "gzip, chunked")],
        ] {
            assert!(response(200, fields).framing(&Method::Get).is_err(), "{fields:?}");
            assert!(response(200, fields).framing(&Method::Head).is_err(), "{fields:?}");
        }
    }
}
