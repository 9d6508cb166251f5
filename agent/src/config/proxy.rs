//! `web.routes[].proxy` and `web.proxy`: programs behind the web server.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;

use super::listen::split_port;
use super::node::{Node, Value, quote};
use super::section::{Section, text};

/// `web.routes[].proxy`: the program that answers the requests of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Where it is.
    pub target: ProxyTarget,
    /// What its paths begin with; empty, or `/…` without a slash at the end.
    pub base: String,
}

/// Where a program behind the web server is: on this device, always.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProxyTarget {
    /// It listens on a Unix socket.
    Unix(PathBuf),
    /// It listens on a loopback address.
    Tcp(SocketAddr),
    /// It is started by the server and takes its connections from the socket that is its standard input: the program, an
    /// absolute path, and its arguments.
    Program(Vec<String>),
}

/// `web.proxy`: the connections to programs behind the web server. The counts are for each program and each thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxies {
    /// `connections`: requests that a program works on at a time; more wait.
    pub connections: usize,
    /// `idle`: connections that are kept for the next request. 0 for a program that serves one connection after the other.
    pub idle: usize,
    /// `wait`: how long a request waits for its turn; then it gets 503 with `Retry-After`.
    pub wait: Duration,
    /// `connect`: how long a program may take to accept a connection.
    pub connect: Duration,
}

impl Default for Proxies {
    fn default() -> Self {
        Self { connections: 16, idle: 4, wait: Duration::from_secs(5), connect: Duration::from_secs(2) }
    }
}

impl Proxies {
    pub(super) fn read(s: &Section) -> Self {
        let d = Self::default();
        let range = || Duration::from_millis(10)..=Duration::from_secs(300);
        Self {
            connections: s.count("connections", 1..=4096, d.connections),
            idle: s.count("idle", 0..=4096, d.idle),
            wait: s.duration("wait", range(), d.wait),
            connect: s.duration("connect", range(), d.connect),
        }
    }
}

impl Proxy {
    /// The key `proxy` of a route whose handler is `handler`.
    pub(super) fn read(route: &Section, handler: &str) -> Option<Self> {
        let show = |proxy: &Option<Proxy>| proxy.as_ref().map_or(Json::Null, |proxy| Json::from(proxy.to_string()));
        let proxy = route.value("proxy", None, show, |node| match &node.value {
            Value::Object(_) => program(node).map(Some),
            _ => {
                let mut proxy: Proxy = text(node)?.parse()?;
                if let ProxyTarget::Unix(path) = &mut proxy.target {
                    *path = route.resolve(&path.to_string_lossy(), node)?;
                }
                Ok(Some(proxy))
            }
        });
        match (handler == "proxy", route.has("proxy")) {
            (true, false) => route.problem(
                "handler",
                "'proxy' needs the key `proxy`, which says where the program is, as 'unix:/run/app.sock' or 'http://127.0.0.1:9000'",
            ),
            (false, true) => route.problem("proxy", "has no meaning here, expected handler: 'proxy' beside it"),
            _ => {}
        }
        proxy
    }
}

impl std::str::FromStr for Proxy {
    type Err = String;

    /// `unix:/run/app.sock`, `unix:/run/app.sock:/base`, `http://127.0.0.1:9000/base`
    fn from_str(written: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "{what}, expected where a program of this device listens as 'unix:/run/app.sock', \
                 'http://127.0.0.1:9000' or 'http://127.0.0.1:9000/base', found {}",
                quote(written)
            )
        };
        if let Some(rest) = written.strip_prefix("unix:") {
            let (path, base) = rest.split_once(":/").unwrap_or((rest, ""));
            if path.is_empty() {
                return Err(wrong("has no path"));
            }
            let base = if base.is_empty() { String::new() } else { format!("/{base}") };
            return Ok(Self {
                target: ProxyTarget::Unix(path.into()),
                base: base_of(&base).ok_or_else(|| wrong(BASE))?,
            });
        }
        let Some(rest) = written.strip_prefix("http://") else {
            return Err(wrong(match written.starts_with("https://") {
                true => "cannot be TLS, which has no use between programs of one device",
                false => "is no address",
            }));
        };
        let (authority, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = split_port(authority).ok_or_else(|| wrong("has a bad port"))?;
        let address = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host) {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse().map_err(|_| wrong("names a host, and only loopback addresses are allowed"))?,
        };
        if !address.is_loopback() {
            return Err(wrong(
                "is not on this device: requests go on without TLS, with the names of users in them, so only loopback \
                 addresses are allowed",
            ));
        }
        match port.unwrap_or(80) {
            0 => Err(wrong("has a bad port")),
            port => Ok(Self {
                target: ProxyTarget::Tcp(SocketAddr::new(address, port)),
                base: base_of(base).ok_or_else(|| wrong(BASE))?,
            }),
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.target, self.base.is_empty()) {
            (ProxyTarget::Unix(_), false) => write!(f, "{}:{}", self.target, self.base),
            _ => write!(f, "{}{}", self.target, self.base),
        }
    }
}

impl fmt::Display for ProxyTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyTarget::Unix(path) => write!(f, "unix:{}", path.display()),
            ProxyTarget::Tcp(address) => write!(f, "http://{address}"),
            ProxyTarget::Program(command) => write!(f, "program {}", command.join(" ")),
        }
    }
}

const BASE: &str = "has a base path that cannot stand in a request";

/// The base path without the slash at its end.
fn base_of(text: &str) -> Option<String> {
    let is_good = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    is_good.then(|| text.trim_end_matches('/').to_owned())
}

/// `{program: ['/usr/bin/app', 'argument']}`
fn program(node: &Node) -> Result<Proxy, String> {
    let wrong = || "expected {program: ['/usr/bin/app', 'argument']}, with an absolute path".to_owned();
    let mut command = Vec::new();
    for member in node.members() {
        match (&member.node.value, member.key.as_str()) {
            (Value::List(items), "program") => {
                for item in items {
                    command.push(text(item).map_err(|_| wrong())?);
                }
            }
            _ => return Err(wrong()),
        }
    }
    match command.first().is_some_and(|path| path.starts_with('/')) && !command.iter().any(|part| part.contains('\0')) {
        true => Ok(Proxy { target: ProxyTarget::Program(command), base: String::new() }),
        false => Err(wrong()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_this_device_are_taken() {
        for (text, shown) in [
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("unix:/run/app.sock:/", "unix:/run/app.sock"),
            ("unix:/run/app.sock:/base/", "unix:/run/app.sock:/base"),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("http://127.0.0.1:9000/a/b/", "http://127.0.0.1:9000/a/b"),
            ("http://127.8.7.6", "http://127.8.7.6:80"),
            ("http://localhost:81", "http://127.0.0.1:81"),
            ("http://[::1]:9000/x", "http://[::1]:9000/x"),
        ] {
            assert_eq!(text.parse::<Proxy>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn all_others_are_refused_with_the_reason() {
        for (text, why) in [
            ("http://192.168.0.1:80", "is not on this device"),
            ("http://0.0.0.0:80", "is not on this device"),
            ("http://[::]:80", "is not on this device"),
            ("http://[::ffff:10.0.0.1]:80", "is not on this device"),
            ("http://example.com", "only loopback"),
            ("http://localhost.example.com", "only loopback"),
            ("http://127.0.0.1@10.0.0.1/", "only loopback"),
            ("http://127.1", "only loopback"),
            ("http://:9000", "only loopback"),
            ("http://127.0.0.1:0", "bad port"),
            ("http://127.0.0.1:x", "bad port"),
            ("http://127.0.0.1:9/a b", "base path"),
            ("http://127.0.0.1:9/a?b", "base path"),
            ("http://127.0.0.1:9/a\r\nX: y", "base path"),
            ("https://127.0.0.1", "cannot be TLS"),
            ("unix:", "has no path"),
            ("/run/app.sock", "is no address"),
            ("", "is no address"),
        ] {
            let error = text.parse::<Proxy>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
