//! The head of a request, read strictly: what is let through is understood in one way only. No I/O.

/// Bytes of a head, at most: what may be asked fits into a tenth.
pub const MAX_HEAD: usize = 4096;
/// Bytes of a body, at most. None is needed; some clients send one with every POST.
pub const MAX_BODY: usize = 1024;
const MAX_METHOD: usize = 16;
const MAX_TARGET: usize = 256;

/// A request in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: String,
}

/// Why a request is not in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub reason: &'static str,
}

const fn refuse<T>(status: u16, reason: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status, reason })
}

/// Reads a request with its body; nothing, while it is not complete.
pub fn read(bytes: &[u8]) -> Result<Option<Request>, Refusal> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let head = &bytes[..end.unwrap_or(bytes.len())];
    // Noise is not waited for: a line end is the only control character of a head, beside tabs.
    let noise = |byte: &u8| (*byte < b' ' && !b"\r\n\t".contains(byte)) || *byte >= 0x7f;
    if head.iter().any(noise) {
        return refuse(400, "the head holds bytes that are not text");
    }
    match end {
        None if bytes.len() > MAX_HEAD => return refuse(431, "the head is too long"),
        None => return Ok(None),
        Some(end) if end > MAX_HEAD => return refuse(431, "the head is too long"),
        Some(_) => {}
    }
    // Checked: it is ASCII.
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let (request, needs_host) = request_line(lines.next().unwrap_or(""))?;
    let body = fields(lines, needs_host)?;
    match bytes.len() - head.len() - 4 {
        received if received < body => Ok(None),
        received if received > body => refuse(400, "more than one request on a connection"),
        _ => Ok(Some(request)),
    }
}

fn request_line(line: &str) -> Result<(Request, bool), Refusal> {
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return refuse(400, "the first line is not METHOD TARGET VERSION");
    };
    if method.is_empty() || method.len() > MAX_METHOD || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return refuse(400, "the method is not one");
    }
    if !target.starts_with('/') || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return refuse(400, "the target is not a path");
    }
    if target.len() > MAX_TARGET {
        return refuse(414, "the target is too long");
    }
    let needs_host = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        other if other.starts_with("HTTP/") => return refuse(505, "only HTTP/1.0 and HTTP/1.1"),
        _ => return refuse(400, "the first line is not METHOD TARGET VERSION"),
    };
    Ok((Request { method: method.to_owned(), target: target.to_owned() }, needs_host))
}

/// The length of the body.
fn fields<'a>(lines: impl Iterator<Item = &'a str>, needs_host: bool) -> Result<usize, Refusal> {
    let (mut hosts, mut length) = (0, None);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return refuse(400, "a header without a colon") };
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) || value.contains(['\r', '\n']) {
            return refuse(400, "a header that is not NAME: VALUE");
        }
        let value = value.trim_matches([' ', '\t']);
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "transfer-encoding" => return refuse(411, "a body needs Content-Length"),
            "expect" => return refuse(417, "nothing is to be expected"),
            "content-length" if length.is_some() => return refuse(400, "two lengths"),
            "content-length" => match number(value) {
                Some(number) if number <= MAX_BODY => length = Some(number),
                Some(_) => return refuse(413, "the body is too long"),
                None => return refuse(400, "the length is not a number"),
            },
            _ => {}
        }
    }
    if hosts > 1 || (needs_host && hosts == 0) {
        return refuse(400, "HTTP/1.1 needs one Host");
    }
    Ok(length.unwrap_or(0))
}

/// Digits alone; too many of them are too much.
fn number(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_when_it_is_complete() {
        let whole = b"POST /restart?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nX-Y:\t z \r\n\r\n{}";
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), Ok(None), "{end}");
        }
        let request = Request { method: "POST".into(), target: "/restart?a=b".into() };
        assert_eq!(read(whole), Ok(Some(request)));
        assert!(read(b"GET / HTTP/1.0\r\n\r\n").unwrap().is_some());
    }

    #[test]
    fn what_has_two_meanings_is_refused() {
        let rows: [(&str, u16); 28] = [
            ("\x16\x03\x01", 400),
            ("GET / HTTP/1.1\r\nHost: a\0b", 400),
            ("GET /\u{e4} ", 400),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GETGETGETGETGETGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /\r\n\r\n", 400),
            ("GET / HTTQ/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nx\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\nx: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n", 413),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999999\r\n\r\n", 413),
            ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", 417),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ];
        for (text, status) in rows {
            assert_eq!(read(text.as_bytes()).unwrap_err().status, status, "{text:?}");
        }
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(MAX_TARGET));
        assert_eq!(read(long.as_bytes()).unwrap_err().status, 414);
        assert_eq!(read(&[b'A'; MAX_HEAD + 1]).unwrap_err().status, 431);
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "a".repeat(MAX_HEAD));
        assert_eq!(read(long.as_bytes()).unwrap_err().status, 431);
    }
}
