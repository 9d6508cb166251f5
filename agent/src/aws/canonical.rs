//! The canonical request: the one text of a request that both sides of a signature compute.
//!
//! Source: AWS Identity and Access Management User Guide, "Create a signed AWS API request".

use std::fmt::Write;

use super::sigv4::{Options, Request};
use crate::net::hex;

/// Fields that are not signed: proxies on the way may change or remove them (botocore `auth.py`).
const UNSIGNED: [&str; 15] = [
    "authorization",
    "baggage",
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-amzn-trace-id",
];

/// The fields that are signed, as the canonical request writes them.
pub(super) struct CanonicalHeaders {
    /// One line each, `name:value\n`.
    pub(super) lines: String,
    /// The names, joined by `;`.
    pub(super) names: String,
}

impl CanonicalHeaders {
    /// Of the headers of the request and those that the signature adds.
    pub(super) fn new(request: &Request, added: &[(&str, &str)]) -> Self {
        let mut fields: Vec<(String, String)> = Vec::new();
        let signed = request.headers.iter().chain(added).map(|(name, value)| (name.to_ascii_lowercase(), value));
        for (name, value) in signed.filter(|(name, _)| !UNSIGNED.contains(&name.as_str())) {
            let value = one_space(value);
            match fields.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => {
                    values.push(',');
                    values.push_str(&value);
                }
                None => fields.push((name, value)),
            }
        }
        fields.sort();
        let mut lines = String::new();
        for (name, value) in &fields {
            lines.push_str(name);
            lines.push(':');
            lines.push_str(value);
            lines.push('\n');
        }
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        Self { lines, names: names.join(";") }
    }
}

/// The canonical request itself. `query` is the canonical query.
pub(super) fn canonical_request(
    request: &Request,
    query: &str,
    headers: &CanonicalHeaders,
    payload: &str,
    options: &Options,
) -> String {
    let path = canonical_path(split_target(request.target).0, options);
    let CanonicalHeaders { lines, names } = headers;
    format!("{}\n{path}\n{query}\n{lines}\n{names}\n{payload}", request.method)
}

/// Path and query of a request target; the query without its question mark.
pub(super) fn split_target(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}

/// The path is taken as it goes over the wire. Every service but S3 encodes it once more: `%20` becomes `%2520`.
fn canonical_path(path: &str, options: &Options) -> String {
    let normal;
    let path = match options.normalize_path {
        true => {
            normal = without_dots(path);
            &normal
        }
        false => path,
    };
    let segments: Vec<String> = path
        .split('/')
        .map(|segment| match options.encode_path_twice {
            true => encoded(segment.as_bytes()),
            false => encoded(&decode(segment)),
        })
        .collect();
    match segments.join("/") {
        path if path.is_empty() => "/".into(),
        path => path,
    }
}

/// `/a/./b//../c/` becomes `/a/c/` (RFC 3986 §5.2.4, and repeated slashes count as one).
fn without_dots(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let end = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

/// The parameters of a query and those that the signature adds, encoded, then sorted by name and value.
pub(super) fn canonical_query(query: &str, added: &[(&str, &str)]) -> String {
    let present = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (encoded(&decode(name)), encoded(&decode(value)))
    });
    let added = added.iter().map(|(name, value)| (encoded(name.as_bytes()), encoded(value.as_bytes())));
    let mut pairs: Vec<(String, String)> = present.chain(added).collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// The target to send so that it reads as it is signed, even by a server that signs what it got instead of what that means:
/// `+`, `*` and such are percent-encoded in the query and, by the rule of S3, in the path.
pub(super) fn plain_target(target: &str, options: &Options) -> String {
    let plain = |text: &str| encoded(&decode(text));
    let (path, query) = split_target(target);
    let path = match options.encode_path_twice {
        true => path.to_owned(),
        false => canonical_path(path, options),
    };
    let pairs: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => format!("{}={}", plain(name), plain(value)),
            None => plain(pair),
        })
        .collect();
    match query.is_empty() {
        true => path,
        false => format!("{path}?{}", pairs.join("&")),
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986 §2.3.
pub(super) fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(*byte)),
            _ => write!(text, "%{byte:02X}").expect("a String takes all"),
        }
    }
    text
}

/// The bytes behind percent-encoding; a percent sign without two hexadecimal digits stays.
fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex::digit(*high).zip(hex::digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    bytes
}

/// Trims, and writes each run of blanks inside as one.
fn one_space(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_dots_and_repeated_slashes() {
        for (path, normal) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/a/./b//../c/", "/a/c/"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/...", "/..."),
        ] {
            assert_eq!(without_dots(path), normal, "{path}");
        }
    }

    #[test]
    fn the_path_of_s3_is_encoded_once_and_keeps_its_slashes() {
        let s3 = Options::s3();
        assert_eq!(canonical_path("/a//b/../%C3%BC+~%7e%2f", &s3), "/a//b/../%C3%BC%2B~~%2F");
        assert_eq!(canonical_path("/a//b/../%C3%BC", &Options::default()), "/a/%25C3%25BC");
    }

    #[test]
    fn queries_sort_by_encoded_name_then_value() {
        let query = canonical_query("b=2&a=%2f&a=1&&c&%E1%88%B4=x&B=%zz+", &[("X-Amz-Date", "now")]);
        assert_eq!(query, "%E1%88%B4=x&B=%25zz%2B&X-Amz-Date=now&a=%2F&a=1&b=2&c=");
    }

    #[test]
    fn targets_are_sent_as_they_are_signed() {
        let target = "/a+b/%7e*?list-type=2&a=+/&b&=c&d=x=y";
        assert_eq!(plain_target(target, &Options::s3()), "/a%2Bb/~%2A?list-type=2&a=%2B%2F&b&=c&d=x%3Dy");
        assert_eq!(plain_target("/a+b?c+d", &Options::default()), "/a+b?c%2Bd");
        assert_eq!(plain_target("/", &Options::default()), "/");
    }

    #[test]
    fn percent_signs_at_the_end_are_no_trap() {
        assert_eq!(decode("%"), b"%");
        assert_eq!(decode("%4"), b"%4");
        assert_eq!(decode("%41%"), b"A%");
        assert_eq!(decode("%+1%\u{e9}"), "%+1%\u{e9}".as_bytes());
    }
}
