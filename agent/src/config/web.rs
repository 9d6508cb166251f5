//! `web`: the embedded web server.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

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

/// One entry of `web.routes`; the first that matches serves the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `match`: empty matches all, a trailing `/` matches a prefix, anything else the exact path.
    pub matches: String,
    /// `handler`: `file` or `action`.
    pub handler: String,
    /// `methods`; empty: GET and HEAD for files, all for actions.
    pub methods: Vec<String>,
}

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
    /// Connections at a time in all; more wait in the listen queue of the kernel.
    pub connections: usize,
    /// Requests on one connection.
    pub requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { header: 10 * 1024, headers: 64, uri: 8 * 1024, body: 100 * 1024, connections: 100, requests: 1000 }
    }
}

/// `web.timeouts`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of a request to the end of its head.
    pub parse: Duration,
    /// Without a byte in either direction during a request.
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

/// The web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// `web.listen`
    pub listen: Vec<Listen>,
    /// `web.documents`: the root of the files that are served.
    pub documents: PathBuf,
    /// `web.index`: the file that stands for a directory.
    pub index: String,
    /// `web.headers`: added to every response.
    pub headers: Vec<(String, String)>,
    /// `web.routes`; empty: actions first, then files.
    pub routes: Vec<Route>,
    /// `web.mime`: types by extension, beside the built-in ones.
    pub mime: Vec<(String, String)>,
    /// `web.limits`
    pub limits: Limits,
    /// `web.timeouts`
    pub timeouts: Timeouts,
    /// `web.api.open`: the management API is open to clients on this machine. Profile dev only.
    pub open: bool,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            listen: vec![
                Listen { scheme: Scheme::Http, host: String::new(), port: 80 },
                Listen { scheme: Scheme::Https, host: String::new(), port: 443 },
            ],
            documents: "/usr/share/ioto/www".into(),
            index: "index.html".into(),
            headers: Vec::new(),
            routes: Vec::new(),
            mime: Vec::new(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            open: false,
        }
    }
}
