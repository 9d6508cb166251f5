//! What is measured, and the goals.

use crate::servers::Subject;

pub struct Case {
    pub name: &'static str,
    pub about: &'static str,
    /// The figure's unit.
    pub unit: &'static str,
    pub kind: Kind,
    /// What is measured beside our server.
    pub peers: &'static [Subject],
    /// Numbers of connections; each is measured.
    pub connections: &'static [usize],
    pub goals: &'static [Goal],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// CPU time of the server for each of wrk's requests.
    Requests(Requests),
    /// CPU time of the server for each new TLS connection: full handshake, a request, close.
    Handshakes,
    /// Memory of the server for each connection that idles.
    Idle { tls: bool },
    /// Requests per second with `web.threads` 1 and 2.
    Threads,
    /// Requests that failed.
    Errors,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Requests {
    pub file: &'static str,
    pub tls: bool,
    /// Each on a connection of its own.
    pub close: bool,
}

/// How our figure must compare.
pub struct Goal {
    pub against: Against,
    /// Holds for this number of connections only.
    pub at: Option<usize>,
    pub limit: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// At most so many times the peer's figure.
    Times(Subject),
    /// At least so many times that of one thread.
    OneThread,
    /// At most this figure.
    Figure,
}

/// The files, in the directory of documents.
pub const SMALL: &str = "1k.html";
pub const LARGE: &str = "100k.bin";

const EACH: &[usize] = &[1, 10, 100];

const fn requests(file: &'static str) -> Requests {
    Requests { file, tls: false, close: false }
}

const fn times(subject: Subject, limit: f64) -> Goal {
    Goal { against: Against::Times(subject), at: None, limit }
}

const fn times_at(at: usize, limit: f64) -> Goal {
    Goal { against: Against::Times(Subject::Lighttpd), at: Some(at), limit }
}

const fn at_most(limit: f64) -> Goal {
    Goal { against: Against::Figure, at: None, limit }
}

pub const CASES: &[Case] = &[
    Case {
        name: "file",
        about: "1 KB file, keep-alive",
        unit: "us/request",
        kind: Kind::Requests(requests(SMALL)),
        peers: &[Subject::Lighttpd, Subject::Nginx],
        connections: EACH,
        goals: &[times_at(1, 1.1), times_at(10, 1.1), times_at(100, 1.0), times(Subject::Nginx, 0.6)],
    },
    Case {
        name: "action",
        about: "8 bytes from an action, keep-alive; lighttpd: its 1 KB file",
        unit: "us/request",
        kind: Kind::Requests(requests("test/bench")),
        peers: &[Subject::Lighttpd],
        connections: EACH,
        goals: &[times(Subject::Lighttpd, 1.0)],
    },
    Case {
        name: "large",
        about: "100 KB file, keep-alive",
        unit: "us/request",
        kind: Kind::Requests(requests(LARGE)),
        peers: &[Subject::Lighttpd, Subject::Nginx],
        connections: EACH,
        goals: &[times(Subject::Lighttpd, 1.0)],
    },
    Case {
        name: "connect",
        about: "1 KB file, a new connection each",
        unit: "us/request",
        kind: Kind::Requests(Requests { close: true, ..requests(SMALL) }),
        peers: &[Subject::Lighttpd, Subject::Nginx],
        connections: EACH,
        goals: &[times(Subject::Nginx, 1.0)],
    },
    Case {
        name: "tls",
        about: "1 KB file over TLS, keep-alive",
        unit: "us/request",
        kind: Kind::Requests(Requests { tls: true, ..requests(SMALL) }),
        peers: &[Subject::Nginx],
        connections: EACH,
        goals: &[times(Subject::Nginx, 0.9)],
    },
    Case {
        name: "handshake",
        about: "1 KB file, a new TLS connection each: TLS 1.3, ECDSA P-256, full handshake",
        unit: "us/request",
        kind: Kind::Handshakes,
        peers: &[Subject::Nginx],
        connections: EACH,
        goals: &[times(Subject::Nginx, 0.75)],
    },
    Case {
        name: "memory",
        about: "memory of the process for each of 1000 idle keep-alive connections",
        unit: "KB each",
        kind: Kind::Idle { tls: false },
        peers: &[Subject::Lighttpd, Subject::Nginx],
        connections: &[1000],
        goals: &[at_most(6.0)],
    },
    Case {
        name: "memory-tls",
        about: "the same over TLS",
        unit: "KB each",
        kind: Kind::Idle { tls: true },
        peers: &[Subject::Nginx],
        connections: &[1000],
        goals: &[at_most(24.0)],
    },
    Case {
        name: "threads",
        about: "requests that compute for 0.5 ms: web.threads 2 beside 1, on both cores",
        unit: "requests/s",
        kind: Kind::Threads,
        peers: &[Subject::OneThread],
        connections: &[32],
        goals: &[Goal { against: Against::OneThread, at: None, limit: 1.8 }],
    },
    Case {
        name: "errors",
        about: "requests that failed, default configuration, 1 KB file, keep-alive",
        unit: "errors",
        kind: Kind::Errors,
        peers: &[Subject::Lighttpd, Subject::Nginx],
        connections: &[100, 1000],
        goals: &[at_most(0.0)],
    },
];
