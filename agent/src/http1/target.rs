//! Request targets (RFC 9112 §3.2), host names and percent-encoding.

use std::borrow::Cow;

use super::{Error, Method};
use crate::net::hex;

/// The parts of a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub authority: Option<&'a str>,
    pub path: &'a str,
    pub query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Takes a target apart without checking it; the path is never empty.
    pub fn split(target: &'a str) -> Self {
        let (authority, rest) = match without_scheme(target) {
            Some(rest) => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let (authority, rest) = rest.split_at(end);
                (Some(authority), rest)
            }
            None => (None, target),
        };
        let (path, query) = split_query(rest);
        Self { authority, path: if path.is_empty() { "/" } else { path }, query }
    }
}

/// Refuses a target that is not `/path`, `http://host/path`, or `*` for OPTIONS.
pub(super) fn check(target: &str, method: &Method) -> Result<(), Error> {
    let (path, query) = split_query(target);
    let is_good = |byte| is_plain(byte) && !matches!(byte, b'\\' | b'^' | b'`');
    if !path.bytes().all(is_good) || !query.unwrap_or_default().bytes().all(is_plain) {
        return Err(Error::Malformed("the target holds a byte that must be percent-encoded"));
    }
    if *method == Method::Connect {
        return Err(Error::NotImplemented("CONNECT: this is no proxy"));
    }
    if target == "*" {
        return match method {
            Method::Options => Ok(()),
            _ => Err(Error::Malformed("the target * is for OPTIONS only")),
        };
    }
    match Target::split(target).authority {
        Some(authority) if is_authority(authority) => Ok(()),
        Some(_) => Err(Error::Malformed("the target names no valid host")),
        None if target.starts_with('/') => Ok(()),
        None => Err(Error::Malformed("the target is no path")),
    }
}

/// Whether a byte may stand for itself. RFC 3986 allows a few less; what browsers leave as it is has to pass.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>')
}

/// What stands before the first `?`, and after it. For texts so short, looking at each byte is faster than `str::find`.
fn split_query(text: &str) -> (&str, Option<&str>) {
    match text.bytes().position(|byte| byte == b'?') {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
        None => (text, None),
    }
}

/// Whether the text is `host` or `host:port`: a name, an IPv4 address, or an IPv6 address in brackets. User names, empty
/// hosts and the rarer characters of RFC 3986 are refused.
pub fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, port)) if port.starts_with(':') => (address, port.get(1..)),
            _ => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_host = match text.starts_with('[') {
        true => host.parse::<std::net::Ipv6Addr>().is_ok(),
        false => {
            (1..=255).contains(&host.len())
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    let is_port = |port: &str| {
        (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
    };
    is_host && port.is_none_or(is_port)
}

/// Decodes `%XX` once. `None` when a `%` is not followed by two hexadecimal digits or the result is not UTF-8.
pub fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex::digit(bytes.next()?)? << 4 | hex::digit(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn without_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = (target.get(..scheme.len())?, target.get(scheme.len()..)?);
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_taken_apart() {
        let split = |text| {
            let target = Target::split(text);
            (target.authority, target.path, target.query)
        };
        assert_eq!(split("/a/b?c=d?e"), (None, "/a/b", Some("c=d?e")));
        assert_eq!(split("http://h:1/a?q"), (Some("h:1"), "/a", Some("q")));
        assert_eq!(split("HTTPS://h"), (Some("h"), "/", None));
        assert_eq!(split("http://h?q"), (Some("h"), "/", Some("q")));
        assert_eq!(split("*"), (None, "*", None));
        assert_eq!(split("/http://h/"), (None, "/http://h/", None));
    }

    #[test]
    fn only_known_forms_are_accepted() {
        for good in ["/", "/a?b", "http://h/", "http://[::1]:80/x", "//double"] {
            assert_eq!(check(good, &Method::Get), Ok(()), "{good}");
        }
        for bad in ["", "a", "*", "?q", "http:///x", "http://u@h/", "ftp://h/", "h:80", "/a b", "/\u{e9}", "/a#f"] {
            assert!(check(bad, &Method::Get).is_err(), "{bad}");
        }
        for bad in ["/a\"b", "/a<b", "/a>b", "/a\\b", "/a^b", "/a`b", "/?a\"b", "/?<", "/?>"] {
            assert!(check(bad, &Method::Get).is_err(), "{bad}");
        }
        assert_eq!(check("/{a}|b?{c}|^`\\", &Method::Get), Ok(()));
        assert_eq!(check("*", &Method::Options), Ok(()));
    }

    #[test]
    fn hosts_are_checked() {
        for good in ["h", "h:80", "127.0.0.1:8080", "[::1]", "[fe80::1]:443", "my_device.local", "h:0"] {
            assert!(is_authority(good), "{good}");
        }
        for bad in ["", ":80", "h:", "h:+1", "h:65536", "h:123456", "a b", "u@h", "[::1", "[::1]x", "::1", "[h]", "h,h"]
        {
            assert!(!is_authority(bad), "{bad}");
        }
    }

    #[test]
    fn percent_encoding_is_decoded_once_and_strictly() {
        assert_eq!(percent_decode("/a%20b%252e").as_deref(), Some("/a b%2e"));
        assert_eq!(percent_decode("/plain").as_deref(), Some("/plain"));
        for bad in ["%", "%2", "%2g", "%+1", "%ff", "%c3"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }
}
