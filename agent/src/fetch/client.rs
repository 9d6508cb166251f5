//! The client: what its requests share.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use super::connection::Connection;
use super::digest::Challenges;
use super::pool::{Origin, Pool};
use super::request::Plan;
use super::{Error, Options, Request, Scheme, Url};
use crate::http1::Method;
use crate::net::{self, Proxy, TlsClient};

/// Sends requests and keeps connections for the next ones. Clones share the connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    tls: OnceLock<TlsClient>,
    pool: Pool,
    challenges: Challenges,
}

impl Client {
    /// A client that behaves as the options say.
    pub fn new(options: Options) -> Self {
        let pool = Pool::new(options.idle_connections, options.idle_time);
        Self { inner: Arc::new(Inner { options, tls: OnceLock::new(), pool, challenges: Challenges::default() }) }
    }

    /// A request with any method but CONNECT.
    pub fn request(&self, method: Method, url: &str) -> Request {
        Request::new(self.clone(), method, url.parse())
    }

    /// Asks for what is there.
    pub fn get(&self, url: &str) -> Request {
        self.request(Method::Get, url)
    }

    /// Asks for the head alone.
    pub fn head(&self, url: &str) -> Request {
        self.request(Method::Head, url)
    }

    /// Gives something to what is there.
    pub fn post(&self, url: &str) -> Request {
        self.request(Method::Post, url)
    }

    /// Puts something there.
    pub fn put(&self, url: &str) -> Request {
        self.request(Method::Put, url)
    }

    /// Removes what is there.
    pub fn delete(&self, url: &str) -> Request {
        self.request(Method::Delete, url)
    }

    pub(super) fn options(&self) -> &Options {
        &self.inner.options
    }

    pub(super) fn challenges(&self) -> &Challenges {
        &self.inner.challenges
    }

    /// A connection that was kept.
    pub(super) fn kept(&self, origin: &Origin) -> Option<Connection> {
        self.inner.pool.take(origin)
    }

    pub(super) fn keep(&self, origin: Origin, connection: Connection) {
        self.inner.pool.put(origin, connection);
    }

    /// The proxy for a URL, unless it is an exception.
    pub(super) fn proxy_for<'a>(&self, url: &Url, plan: &'a Plan) -> Option<&'a Proxy> {
        plan.proxies.of(url).filter(|_| !self.inner.options.direct.holds(url.host()))
    }

    /// The proxy that gets the request itself and not just a connection to make. A WebSocket goes through a tunnel (RFC 6455
    /// §4.1): few proxies pass an upgrade on.
    pub(super) fn forwarder<'a>(&self, url: &Url, plan: &'a Plan) -> Option<&'a Proxy> {
        let is_plain = url.scheme() == Scheme::Http && plan.upgrade.is_none();
        self.proxy_for(url, plan).filter(|proxy| is_plain && proxy.forwards())
    }

    /// A new connection.
    pub(super) async fn connect(&self, url: &Url, plan: &Plan) -> Result<Connection, Error> {
        let (host, port) = (url.host(), url.port());
        let timeouts = &self.inner.options.timeouts;
        let tcp = match (self.proxy_for(url, plan), self.addresses_of(host)) {
            (Some(proxy), _) if self.forwarder(url, plan).is_some() => proxy.reach(timeouts.connect).await?,
            (Some(proxy), _) => proxy.connect(host, port, timeouts.connect).await?,
            (None, Some(known)) => {
                let known: Vec<_> = known.iter().map(|address| SocketAddr::new(*address, port)).collect();
                net::connect_first(host, port, &known, timeouts.connect).await?
            }
            (None, None) => net::connect_tcp(host, port, timeouts.connect).await?,
        };
        Ok(Connection::new(match (url.scheme(), &plan.tls) {
            (Scheme::Http, _) => tcp.into(),
            (Scheme::Https, Some(tls)) => tls.handshake(host, tcp, timeouts.tls).await?,
            (Scheme::Https, None) => self.tls()?.handshake(host, tcp, timeouts.tls).await?,
        }))
    }

    fn addresses_of(&self, host: &str) -> Option<&[IpAddr]> {
        let mut hosts = self.inner.options.hosts.iter();
        hosts.find(|(name, _)| name.eq_ignore_ascii_case(host)).map(|(_, addresses)| addresses.as_slice())
    }

    fn tls(&self) -> Result<&TlsClient, Error> {
        if let Some(tls) = self.inner.tls.get() {
            return Ok(tls);
        }
        let tls = TlsClient::system()?;
        Ok(self.inner.tls.get_or_init(|| tls))
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.inner.options).finish_non_exhaustive()
    }
}
