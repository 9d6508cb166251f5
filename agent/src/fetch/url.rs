//! URLs of `http` and `https` (RFC 3986, as far as a client of HTTP needs it).

use std::fmt;
use std::str::FromStr;

use super::Error;
use crate::http1::{is_authority, percent_decode};

/// Longer URLs are refused; servers take 8 KiB and less.
const MAX: usize = 16 * 1024;

/// How to reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS over TCP.
    Https,
}

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A URL, taken apart. `Display` leaves out user name and password, and so may go to a log.
///
/// ```
/// use ioto::fetch::Url;
///
/// let url: Url = "https://[::1]:8443/a path?q=1#part".parse().unwrap();
/// assert_eq!((url.host(), url.port(), url.target()), ("::1", 8443, "/a%20path?q=1"));
/// assert_eq!(url.to_string(), "https://[::1]:8443/a%20path?q=1");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    scheme: Scheme,
    user: Option<(String, String)>,
    host: String,
    port: u16,
    target: String,
}

impl Url {
    /// `http` or `https`.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Name or address, in small letters, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 80 or 443 when the URL names none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, percent-encoded: what stands in the request line.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// User name and password, decoded.
    pub fn user(&self) -> Option<(&str, &str)> {
        self.user.as_ref().map(|(name, password)| (name.as_str(), password.as_str()))
    }

    /// What stands in the `Host` field: the host, and the port unless it is the usual one.
    pub fn authority(&self) -> String {
        let host = &self.host;
        match (host.contains(':'), self.port == self.scheme.default_port()) {
            (true, true) => format!("[{host}]"),
            (true, false) => format!("[{host}]:{}", self.port),
            (false, true) => host.clone(),
            (false, false) => format!("{host}:{}", self.port),
        }
    }

    /// Whether both are of one origin (RFC 6454): scheme, host and port.
    pub fn same_origin(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.host == other.host && self.port == other.port
    }

    /// The URL that a reference on a page of this URL means (RFC 3986 §5.2), as `../other`, `/path`, `?query` or a URL.
    /// It has no user name.
    pub fn join(&self, reference: &str) -> Result<Self, Error> {
        let reference = reference.split('#').next().unwrap_or_default();
        if let Some((scheme, _)) = reference.split_once(':') {
            let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
            if is_scheme {
                return Ok(Self { user: None, ..reference.parse()? });
            }
        }
        if reference.starts_with("//") {
            let url: Self = format!("{}:{reference}", self.scheme.as_str()).parse()?;
            return Ok(Self { user: None, ..url });
        }
        let path = self.target.split('?').next().unwrap_or("/");
        let target = match reference.chars().next() {
            None => self.target.clone(),
            Some('?') => format!("{path}{reference}"),
            Some('/') => without_dots(reference),
            Some(_) => {
                let directory = path.rfind('/').map_or("/", |slash| &path[..=slash]);
                without_dots(&format!("{directory}{reference}"))
            }
        };
        let target = encode_target(&target).map_err(|reason| Error::Url { url: reference.into(), reason })?;
        Ok(Self { user: None, target, ..self.clone() })
    }
}

impl FromStr for Url {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|reason| Error::Url { url: without_user(text), reason })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority(), self.target)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

fn parse(text: &str) -> Result<Url, &'static str> {
    if text.len() > MAX {
        return Err("it is longer than 16 KiB");
    }
    let (scheme, rest) = text.split_once("://").ok_or("it must begin with http:// or https://")?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err("only http:// and https:// are spoken here"),
    };
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, authority) = match authority.rsplit_once('@') {
        Some((user, authority)) => (Some(parse_user(user)?), authority),
        None => (None, authority),
    };
    let (host, port) = parse_authority(authority)?;
    let target = rest.split('#').next().unwrap_or_default();
    let target = match target.starts_with('/') {
        true => encode_target(target)?,
        false => encode_target(&format!("/{target}"))?,
    };
    Ok(Url { scheme, user, host, port: port.unwrap_or(scheme.default_port()), target })
}

fn parse_user(text: &str) -> Result<(String, String), &'static str> {
    const REASON: &str = "user name or password is wrongly percent-encoded";
    let (name, password) = text.split_once(':').unwrap_or((text, ""));
    let (name, password) = (percent_decode(name).ok_or(REASON)?, percent_decode(password).ok_or(REASON)?);
    match name.contains(':') {
        true => Err("a user name cannot hold a colon"),
        false => Ok((name.into_owned(), password.into_owned())),
    }
}

fn parse_authority(text: &str) -> Result<(String, Option<u16>), &'static str> {
    if text.is_empty() || text.starts_with(':') {
        return Err("it names no host");
    }
    if !text.is_ascii() {
        return Err("write a host name with other letters than ASCII in Punycode, as xn--…");
    }
    // A colon without a number means the usual port (RFC 3986 §3.2.3).
    let text = text.strip_suffix(':').unwrap_or(text);
    if !is_authority(text) {
        return Err("host or port are not valid; an IPv6 address stands in brackets");
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address, port.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port.map(str::parse::<u16>) {
        Some(Ok(0) | Err(_)) => return Err("the port is a number from 1 to 65535"),
        Some(Ok(port)) => Some(port),
        None => None,
    };
    Ok((host.to_ascii_lowercase(), port))
}

/// Encodes what people type and a request line cannot hold: blanks, quotes and letters beyond ASCII.
fn encode_target(target: &str) -> Result<String, &'static str> {
    let mut encoded = String::with_capacity(target.len());
    for byte in target.bytes() {
        match byte {
            0..=0x1f | 0x7f => return Err("it holds a control character"),
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                encoded.push_str(&format!("%{byte:02X}"));
            }
            _ => encoded.push(char::from(byte)),
        }
    }
    Ok(encoded)
}

/// Resolves `.` and `..` of a path (RFC 3986 §5.2.4); the query stays.
fn without_dots(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}{query}", kept.join("/"))
}

fn without_user(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |at| start + at);
    match text[start..end].rfind('@') {
        Some(at) => format!("{}{}", &text[..start], &text[start + at + 1..]),
        None => text.chars().take(200).collect(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn urls_are_taken_apart() {
        for (text, host, port, target, authority) in [
            ("http://device", "device", 80, "/", "device"),
            ("HTTP://Device:80/A/b?c=D#e", "device", 80, "/A/b?c=D", "device"),
            ("https://device:8443?x", "device", 8443, "/?x", "device:8443"),
            ("https://device:/#x", "device", 443, "/", "device"),
            ("http://[FE80::1]:8080/", "fe80::1", 8080, "/", "[fe80::1]:8080"),
            ("https://[::1]", "::1", 443, "/", "[::1]"),
            ("http://127.0.0.1/a b\u{fc}?\"", "127.0.0.1", 80, "/a%20b%C3%BC?%22", "127.0.0.1"),
            ("http://h/%20?a/b@c:d", "h", 80, "/%20?a/b@c:d", "h"),
        ] {
            let url = url(text);
            assert_eq!((url.host(), url.port(), url.target()), (host, port, target), "{text}");
            assert_eq!(url.authority(), authority);
        }
    }

    #[test]
    fn user_names_are_decoded_and_never_shown() {
        let url = url("http://us%40er:p%3Ass@device/x");
        assert_eq!(url.user(), Some(("us@er", "p:ss")));
        assert_eq!(format!("{url} {url:?}"), "http://device/x Url(http://device/x)");
        let error = "http://user:secret@dev ice/x".parse::<Url>().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn what_is_no_url_of_http_is_refused() {
        for text in [
            "",
            "device",
            "device/path",
            "//device",
            "ftp://device",
            "file:///etc/passwd",
            "http://",
            "http:///path",
            "http://:80",
            "http://dev ice/",
            "http://device:0/",
            "http://device:65536/",
            "http://device:+80/",
            "http://device:http/",
            "http://::1/",
            "http://[::1/",
            "http://[::g]/",
            "http://[1.2.3.4]/",
            "http://device\r\nX: y/",
            "http://device/\r\nX: y",
            "http://device/\0",
            "http://ger\u{e4}t/",
            "http://a%zz@device/",
            "http://a%3Ab@device/",
        ] {
            let error = text.parse::<Url>().unwrap_err();
            assert!(matches!(error, Error::Url { .. }), "{text}");
        }
        assert!(format!("http://h/{}", "x".repeat(MAX)).parse::<Url>().is_err());
    }

    /// The examples of RFC 3986 §5.4, as far as they are HTTP.
    #[test]
    fn references_are_resolved() {
        let base = url("http://user:pw@a/b/c/d;p?q");
        for (reference, target) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("#s", "/b/c/d;p?q"),
            ("g#s", "/b/c/g"),
            (";x", "/b/c/;x"),
            ("", "/b/c/d;p?q"),
            (".", "/b/c/"),
            ("./", "/b/c/"),
            ("..", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../../g", "/g"),
            ("/./g", "/g"),
            ("g/../h", "/b/c/h"),
            ("g?y/../x", "/b/c/g?y/../x"),
        ] {
            let joined = base.join(reference).unwrap();
            assert_eq!((joined.host(), joined.target(), joined.user()), ("a", target, None), "{reference}");
        }
        assert_eq!(base.join("//g/x").unwrap().to_string(), "http://g/x");
        assert_eq!(base.join("https://u@g:1/x").unwrap(), url("https://g:1/x"));
        assert!(base.join("mailto:someone").is_err() && base.join("javascript:x").is_err());
        assert!(base.join("/a\r\nb").is_err());
    }

    #[test]
    fn origins_differ_in_scheme_host_or_port() {
        let device = url("http://device/a");
        assert!(device.same_origin(&url("http://DEVICE:80/b")));
        for other in ["https://device/", "http://device:81/", "http://other/"] {
            assert!(!device.same_origin(&url(other)), "{other}");
        }
    }
}
