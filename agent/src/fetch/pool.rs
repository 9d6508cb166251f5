//! Connections that wait for the next request.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::{Scheme, Url};

/// Idle connections of one client, which has one TLS identity; bounded in number and age.
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

/// Where a connection leads.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
}

impl Origin {
    pub(super) fn of(url: &Url) -> Self {
        Self { scheme: url.scheme(), host: url.host().into(), port: url.port() }
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

    pub(super) fn put(&self, origin: Origin, connection: Connection) {
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
        Origin::of(&url.parse().unwrap())
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
