//! How a client behaves.

use std::net::IpAddr;
use std::time::Duration;

use super::{CookieJar, Exceptions, Proxies};
use crate::http1::Limits;
use crate::net::TlsClient;

/// Deadlines. Each is long enough for a bad mobile link and short enough to notice a dead one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Finding the address and connecting, also through a proxy; 15 s.
    pub connect: Duration,
    /// The TLS handshake; 15 s.
    pub tls: Duration,
    /// From the end of the request to the end of the head of the response; 30 s.
    pub head: Duration,
    /// Without a byte of a body in either direction; 30 s.
    pub idle: Duration,
    /// All of it, with redirections, retries and the body of the response; unlimited.
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            tls: Duration::from_secs(15),
            head: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            total: None,
        }
    }
}

/// What a [`Client`](super::Client) is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom to trust and who we are on `https`. Nothing: the system's roots, read at the first such request.
    pub tls: Option<TlsClient>,
    /// The proxies that requests go through; none.
    pub proxies: Proxies,
    /// Where they are not asked; nowhere.
    pub direct: Exceptions,
    /// Addresses of hosts that the name server is not asked for; none.
    pub hosts: Vec<(String, Vec<IpAddr>)>,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Bounds of the head of a response.
    pub limits: Limits,
    /// Redirections that are followed; 10. 0 returns them to the caller.
    pub redirects: u8,
    /// So many times a request that may be repeated is repeated after a failure that passes by itself: no connection, no
    /// answer, or the status 408, 429, 500, 502, 503 or 504. 0. The waits between grow and have a random part; `Retry-After`
    /// is followed up to 2 minutes.
    pub retries: u8,
    /// Whether responses may come as gzip, which is undone while they are read; no. The bounds of memory and of
    /// [`Response::bytes`](super::Response::bytes) hold for what comes out of it.
    pub compressed: bool,
    /// Where cookies are kept that servers set; nowhere.
    pub cookies: Option<CookieJar>,
    /// Idle connections that are kept, to all servers together; 8. 0 closes each after its response.
    pub idle_connections: usize,
    /// How long an idle connection is kept; 30 s.
    pub idle_time: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: None,
            proxies: Proxies::default(),
            direct: Exceptions::default(),
            hosts: Vec::new(),
            timeouts: Timeouts::default(),
            limits: Limits { head: 32 * 1024, ..Limits::default() },
            redirects: 10,
            retries: 0,
            compressed: false,
            cookies: None,
            idle_connections: 8,
            idle_time: Duration::from_secs(30),
        }
    }
}
