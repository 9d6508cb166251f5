//! How a client behaves.

use std::time::Duration;

use crate::http1::Limits;
use crate::net::TlsClient;

/// Deadlines. Each is long enough for a bad mobile link and short enough to notice a dead one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Finding the address and connecting; 15 s.
    pub connect: Duration,
    /// The TLS handshake; 15 s.
    pub tls: Duration,
    /// From the end of the request to the end of the head of the response; 30 s.
    pub head: Duration,
    /// Without a byte of a body in either direction; 30 s.
    pub idle: Duration,
    /// All of it, with redirections and the body of the response; unlimited.
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
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Bounds of the head of a response.
    pub limits: Limits,
    /// Redirections that are followed; 10. 0 returns them to the caller.
    pub redirects: u8,
    /// Idle connections that are kept, to all servers together; 8. 0 closes each after its response.
    pub idle_connections: usize,
    /// How long an idle connection is kept; 30 s.
    pub idle_time: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: None,
            timeouts: Timeouts::default(),
            limits: Limits { head: 32 * 1024, ..Limits::default() },
            redirects: 10,
            idle_connections: 8,
            idle_time: Duration::from_secs(30),
        }
    }
}
