//! Where the server listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::Error;
use crate::config::{Listen, Scheme};

/// An address that is listened on, with the port the system chose where the setting had port 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Plain HTTP.
    Http(SocketAddr),
    /// HTTP over TLS.
    Https(SocketAddr),
    /// A Unix socket, plain HTTP.
    Unix(PathBuf),
}

impl Address {
    /// Address and port, unless it is a Unix socket.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Address::Http(address) | Address::Https(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Http(address) => write!(f, "http://{address}"),
            Address::Https(address) => write!(f, "https://{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Reads `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`.
pub(super) fn parse(url: &str) -> Result<Listen, Error> {
    let wrong = || Error::Setting(format!("'{url}': expected http://HOST:PORT, https://HOST:PORT or unix:PATH"));
    if let Some(path) = url.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(Listen { scheme: Scheme::Unix, host: path.to_owned(), port: 0 });
    }
    let (scheme, rest, default) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (Scheme::Http, rest, 80),
        (_, Some(rest)) => (Scheme::Https, rest, 443),
        _ => return Err(wrong()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        _ => (rest, default),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains([':', '[', ']', '/']) {
        return Err(wrong());
    }
    Ok(Listen { scheme, host: bare.unwrap_or(host).to_owned(), port })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written() {
        for url in ["http://:8080", "https://127.0.0.1:8443", "http://[::1]:80", "unix:/run/x.sock", "http://h:0"] {
            assert_eq!(parse(url).unwrap().to_string(), url);
        }
        assert_eq!(parse("https://h/").unwrap().port, 443);
        assert_eq!(parse("http://[::1]").unwrap().host, "::1");
        for bad in ["", "h:80", "ftp://h", "http://h:x", "http://::1:80", "http://h:70000", "unix:", "http://h/x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
