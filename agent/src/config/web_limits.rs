//! `web.limits` and `web.timeouts`: how much a client of the web server may take, and how long.

use std::time::Duration;

use super::section::Section;
use super::units::{FOREVER, UNLIMITED};

/// `web.limits`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of request line and headers.
    pub header: usize,
    /// Number of header fields.
    pub headers: usize,
    /// Bytes of the request target.
    pub uri: usize,
    /// Bytes of a request body that an action reads at once.
    pub body: u64,
    /// Connections at a time in all, and never more than the file descriptors of the process allow. More wait a moment in
    /// the listen queue of the kernel; then they get a 503. One that is idle takes 6 KB of memory, 24 KB with TLS.
    pub connections: usize,
    /// `perAddress`: connections at a time from one IPv4 address, or from one IPv6 network of 64 bits. One more gets a 429.
    /// 127.0.0.1, ::1 and Unix sockets have no such limit: a proxy on this machine brings everybody's requests.
    pub per_address: usize,
    /// `rate`: bytes per second that a client moves at least, on average over `timeouts.inactivity`, while the server waits
    /// for its body or for it to take the response; 0: no minimum. Event streams and WebSockets have none.
    pub rate: u32,
    /// Requests on one connection.
    pub requests: usize,
    /// `maxFrame`: bytes of one frame that a WebSocket takes; a longer one closes it with 1009.
    pub frame: usize,
    /// `maxMessage`: bytes of one message that a WebSocket takes, of all its frames together; a longer one closes it with 1009.
    pub message: usize,
    /// Bytes of all files that are uploaded by one request: by PUT to a route for files, or by a form.
    pub upload: u64,
    /// Number of files that are uploaded by one request.
    pub uploads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header: 10 * 1024,
            headers: 64,
            uri: 8 * 1024,
            body: 100 * 1024,
            // The memory of a small device bears it: 6 MB, or 24 MB if all of them use TLS.
            connections: 1024,
            // Room for an office behind one address (a browser opens six), while no single one can fill the server.
            per_address: 256,
            // Below the slowest links that carry HTTP (2400 bit/s are 300 B/s), far above a client that drips.
            rate: 128,
            requests: 1000,
            frame: 100 * 1024,
            message: 100 * 1024,
            upload: 20 << 20,
            uploads: 20,
        }
    }
}

/// `web.timeouts`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of a request to the end of its head.
    pub parse: Duration,
    /// Without a byte in either direction during a request; also the time over which `limits.rate` is measured.
    pub inactivity: Duration,
    /// Between two requests on a connection.
    pub idle: Duration,
    /// A whole request, from its head to the end of the response.
    pub request: Duration,
    /// The TLS handshake.
    pub tls: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            parse: Duration::from_secs(10),
            inactivity: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            request: Duration::from_secs(5 * 60),
            tls: Duration::from_secs(10),
        }
    }
}

impl Limits {
    pub(super) fn read(s: &Section) -> Self {
        let d = Self::default();
        Self {
            header: s.size("header", 1024..=1 << 20, d.header),
            headers: s.count("headers", 8..=1024, d.headers),
            uri: s.size("uri", 64..=64 << 10, d.uri),
            body: s.size("body", 0..=1 << 30, d.body),
            connections: s.count("connections", 1..=65_536, d.connections),
            per_address: s.count("perAddress", 1..=UNLIMITED, d.per_address),
            rate: s.size("rate", 0..=1 << 20, d.rate),
            requests: s.count("requests", 1..=UNLIMITED, d.requests),
            frame: s.size("maxFrame", 125..=16 << 20, d.frame),
            message: s.size("maxMessage", 125..=16 << 20, d.message),
            upload: s.size("upload", 0..=UNLIMITED, d.upload),
            uploads: match s.count("uploads", 0..=UNLIMITED, d.uploads) {
                // As in the files of others: no limit.
                0 => UNLIMITED as usize,
                uploads => uploads,
            },
        }
    }
}

impl Timeouts {
    pub(super) fn read(s: &Section) -> Self {
        let d = Self::default();
        let range = || Duration::from_millis(100)..=FOREVER;
        Self {
            parse: s.duration("parse", range(), d.parse),
            inactivity: s.duration("inactivity", range(), d.inactivity),
            idle: s.duration("idle", range(), d.idle),
            request: s.duration("request", range(), d.request),
            tls: s.duration("tls", range(), d.tls),
        }
    }
}
