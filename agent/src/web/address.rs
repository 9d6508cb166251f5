//! Where the server listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

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
