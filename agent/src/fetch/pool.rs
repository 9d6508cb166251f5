//! Connections that wait for the next request.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::request::Plan;
use super::{Scheme, Url};
use crate::net::{Proxy, TlsClient};

/// Idle connections of one client; bounded in number and age.
pub(super) struct Pool {
    limit: usize,
    age: Duration,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    origin: Origin,
    since: Instant,
    connection: Connection,
}

/// Where a connection leads, on which way, and as whom: only for the same of all it may serve another request.
#[derive(Clone)]
pub(super) struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
    proxy: Option<Proxy>,
    /// Whether the proxy gets the requests themselves.
    is_forwarded: bool,
    tls: Option<TlsClient>,
}

impl Origin {
    /// `proxy` is the one that is used for this URL.
    pub(super) fn of(url: &Url, plan: &Plan, proxy: Option<&Proxy>, is_forwarded: bool) -> Self {
        let tls = plan.tls.clone().filter(|_| url.scheme() == Scheme::Https);
        let (host, proxy) = (url.host().into(), proxy.cloned());
        Self { scheme: url.scheme(), host, port: url.port(), proxy, is_forwarded, tls }
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        let same_identity = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => ours.is_same(theirs),
            _ => false,
        };
        let same_place = self.scheme == other.scheme && self.host == other.host && self.port == other.port;
        same_identity && same_place && self.proxy == other.proxy && self.is_forwarded == other.is_forwarded
    }
}

impl Pool {
    pub(super) fn new(limit: usize, age: Duration) -> Self {
        Self { limit, age, idle: Mutex::new(Vec::new()) }
    }

    /// The connection that was used last: it is the least likely to have been closed by the server.
    pub(super) fn take(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.lock();
        self.remove_old(&mut idle);
        while let Some(index) = idle.iter().rposition(|entry| entry.origin == *origin) {
            let mut entry = idle.remove(index);
            if entry.connection.is_quiet() {
                return Some(entry.connection);
            }
        }
        None
    }

    pub(super) fn put(&self, origin: Origin, mut connection: Connection) {
        connection.rest();
        let mut idle = self.lock();
        self.remove_old(&mut idle);
        if self.limit == 0 {
            return;
        }
        if idle.len() >= self.limit {
            idle.remove(0);
        }
        idle.push(Idle { origin, since: Instant::now(), connection });
    }

    fn remove_old(&self, idle: &mut Vec<Idle>) {
        idle.retain(|entry| entry.since.elapsed() < self.age);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::net::Stream;

    fn origin(url: &str) -> Origin {
        let url: Url = url.parse().unwrap();
        Origin {
            scheme: url.scheme(),
            host: url.host().into(),
            port: url.port(),
            proxy: None,
            is_forwarded: false,
            tls: None,
        }
    }

    fn connection() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let ours = smol::net::unix::UnixStream::try_from(ours).unwrap();
        (Connection::new(Stream::from(ours)), theirs)
    }

    const LONG: Duration = Duration::from_secs(100);

    #[test]
    fn a_connection_serves_its_origin_once() {
        let pool = Pool::new(2, LONG);
        let (ours, _theirs) = connection();
        pool.put(origin("http://a"), ours);
        for other in ["http://b", "https://a", "http://a:81"] {
            assert!(pool.take(&origin(other)).is_none(), "{other}");
        }
        let proxied = Origin { proxy: Some("http://gate:3128".parse().unwrap()), ..origin("http://a") };
        assert!(pool.take(&proxied).is_none());
        assert!(pool.take(&origin("http://a/path")).is_some());
        assert!(pool.take(&origin("http://a")).is_none());
    }

    #[test]
    fn a_connection_that_was_closed_or_spoke_unasked_is_dropped() {
        let pool = Pool::new(4, LONG);
        let (closed, theirs) = connection();
        drop(theirs);
        pool.put(origin("http://a"), closed);
        let (spoke, mut theirs) = connection();
        theirs.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").unwrap();
        pool.put(origin("http://a"), spoke);
        assert!(pool.take(&origin("http://a")).is_none());
        assert!(pool.lock().is_empty());
    }

    #[test]
    fn number_and_age_are_bounded() {
        let pool = Pool::new(2, LONG);
        let kept: Vec<UnixStream> = ["http://a", "http://b", "http://c"]
            .map(|url| {
                let (ours, theirs) = connection();
                pool.put(origin(url), ours);
                theirs
            })
            .into();
        assert_eq!(pool.lock().len(), 2);
        assert!(pool.take(&origin("http://a")).is_none(), "the oldest made room");
        drop(kept);
        let short = Pool::new(2, Duration::ZERO);
        let (ours, _theirs) = connection();
        short.put(origin("http://a"), ours);
        assert!(short.take(&origin("http://a")).is_none());
        let none = Pool::new(0, LONG);
        none.put(origin("http://a"), connection().0);
        assert!(none.lock().is_empty());
    }
}
