//! `web.listen`: the addresses of the web server.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::node::quote;

/// How clients reach a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS over TCP.
    Https,
    /// A Unix socket.
    Unix,
}

/// One entry of `web.listen`: `http://:8080`, `https://127.0.0.1:8443`, `http://[::1]:80`, `unix:/run/x.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Plain, TLS or Unix.
    pub scheme: Scheme,
    /// The address as written, without brackets; empty: all addresses, IPv4 and IPv6. For `unix:` the path of the socket.
    pub host: String,
    /// The port; 80 and 443 by scheme when left out. 0: any free port.
    pub port: u16,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => return write!(f, "unix:{}", self.host),
        };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "{what}, expected an address as 'http://:8080', 'https://127.0.0.1:8443' or 'unix:/PATH', found {}",
                quote(text)
            )
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.is_empty() {
                true => Err(wrong("has no path")),
                false => Ok(Self { scheme: Scheme::Unix, host: path.to_owned(), port: 0 }),
            };
        }
        let (scheme, rest, default) = match text.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest, 80),
            Some(("https", rest)) => (Scheme::Https, rest, 443),
            _ => return Err(wrong("is no address to listen on")),
        };
        let (host, port) = split_port(rest.strip_suffix('/').unwrap_or(rest)).ok_or_else(|| wrong("has a bad port"))?;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let good = match inner {
            Some(address) => is_address(address),
            None => host.is_empty() || is_host(host),
        };
        match good {
            true => Ok(Self { scheme, host: inner.unwrap_or(host).to_owned(), port: port.unwrap_or(default) }),
            false => Err(wrong("has a bad host")),
        }
    }
}

/// An IPv6 address; that of one link has its interface behind it (RFC 4007 §11): `fe80::1%eth0`.
fn is_address(text: &str) -> bool {
    let (address, interface) = text.split_once('%').map_or((text, None), |(address, name)| (address, Some(name)));
    let is_name = |name: &str| {
        (1..16).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b))
    };
    address.parse::<Ipv6Addr>().is_ok_and(|address| match interface {
        Some(name) => address.is_unicast_link_local() && is_name(name),
        None => true,
    })
}

/// The host and the port of `HOST:PORT`; nothing when the port is none.
pub(super) fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| port.parse().ok())?.map(|port| (host, Some(port)))
        }
        _ => Some((text, None)),
    }
}

/// An IPv4 address, or a name (RFC 1123) that does not look like one.
pub(super) fn is_host(host: &str) -> bool {
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    host.parse::<Ipv4Addr>().is_ok() || !numeric && host.len() <= 253 && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_show_themselves() {
        let rows = [
            ("http://:8080", "http://:8080"),
            ("https://", "https://:443"),
            ("http://localhost", "http://localhost:80"),
            ("https://127.0.0.1:8443/", "https://127.0.0.1:8443"),
            ("http://[::1]:0", "http://[::1]:0"),
            ("http://[::]", "http://[::]:80"),
            ("http://[fe80::1%eth0.5]", "http://[fe80::1%eth0.5]:80"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
        ];
        for (text, shown) in rows {
            assert_eq!(text.parse::<Listen>().map(|listen| listen.to_string()).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn bad_addresses_are_refused() {
        for text in [
            "",
            ":8080",
            "8080",
            "ftp://:21",
            "http://:http",
            "http://:65536",
            "http://:-1",
            "http://:+80",
            "http://:",
            "http://a b:80",
            "http://1.2.3:80",
            "http://256.1.1.1",
            "http://[::1",
            "http://[1.2.3.4]:80",
            "http://::1:80",
            "http://[::1%lo]",
            "http://[fe80::1%]",
            "http://[fe80::1%a/b]",
            "http://[fe80::1%interface-of-sixteen]",
            "http://h/path",
            "unix:",
            "http://user@h:80",
            "HTTP://:80",
        ] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }
}
