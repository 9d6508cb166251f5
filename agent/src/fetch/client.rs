//! The client, and the story of a request.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};

use smol::future::FutureExt;

use super::body::Kind;
use super::connection::Connection;
use super::exchange::exchange;
use super::pool::{Origin, Pool};
use super::redirect::{self, Next};
use super::sender::Sender;
use super::timer::TotalTimer;
use super::{Body, Error, Options, Request, Response, Scheme, Stage, Url};
use crate::http1::{self, Headers, Method, RequestHead, encode_request};
use crate::net::{self, TlsClient};

const USER_AGENT: &str = concat!("ioto/", env!("CARGO_PKG_VERSION"));

/// Sends requests and keeps connections for the next ones. Clones share the connections.
///
/// A client has one TLS identity; who needs another makes another client.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    tls: OnceLock<TlsClient>,
    pool: Pool,
}

impl Client {
    /// A client that behaves as the options say.
    pub fn new(options: Options) -> Self {
        let pool = Pool::new(options.idle_connections, options.idle_time);
        Self { inner: Arc::new(Inner { options, tls: OnceLock::new(), pool }) }
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

    pub(super) fn keep(&self, origin: Origin, connection: Connection) {
        self.inner.pool.put(origin, connection);
    }

    async fn connect(&self, url: &Url) -> Result<Connection, Error> {
        let timeouts = &self.inner.options.timeouts;
        let tcp = net::connect_tcp(url.host(), url.port(), timeouts.connect).await?;
        Ok(Connection::new(match url.scheme() {
            Scheme::Http => tcp.into(),
            Scheme::Https => self.tls()?.handshake(url.host(), tcp, timeouts.tls).await?,
        }))
    }

    fn tls(&self) -> Result<&TlsClient, Error> {
        if let Some(tls) = self.inner.options.tls.as_ref().or(self.inner.tls.get()) {
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

/// Sends a request, and where its response leads to.
pub(super) async fn run(request: Request) -> Result<Response, Error> {
    let Request { client, mut method, url, mut headers, mut body, timeout, repeatable, error } = request;
    let mut url = url?;
    if let Some(error) = error {
        return Err(error);
    }
    let limit = client.options().redirects;
    let mut total = TotalTimer::new(timeout.or(client.options().timeouts.total));
    let mut followed = 0;
    loop {
        let again = body.again();
        let call = Call { client: &client, method: &method, url: &url, headers: &headers, repeatable };
        let response = call.send(body, total).await?;
        let next = match limit {
            0 => Next::Done,
            _ => redirect::next(response.status(), response.header("location"), &method, &url)?,
        };
        let (there, drops_body) = match next {
            Next::Done => return Ok(response),
            Next::Same(there) => (there, false),
            Next::Get(there) => (there, true),
        };
        if followed == limit {
            return Err(Error::Redirects { limit });
        }
        followed += 1;
        log::debug!("{} {url} leads to {there}", response.status());
        body = match (drops_body, again) {
            (true, _) => Body::empty(),
            (false, Some(body)) => body,
            (false, None) => {
                let reason = "the body of the request cannot be read twice; send bytes, or ask for this URL";
                return Err(Error::Redirect { location: there.to_string(), reason });
            }
        };
        redirect::adapt(&mut headers, &url, &there, drops_body);
        if drops_body {
            method = Method::Get;
        }
        url = there;
        total = response.discard().await;
    }
}

/// One request to one server.
struct Call<'a> {
    client: &'a Client,
    method: &'a Method,
    url: &'a Url,
    headers: &'a Headers,
    repeatable: bool,
}

impl Call<'_> {
    /// On a kept connection if there is one. It may have died a moment ago: then a fresh one is used, once, if the server
    /// cannot have acted on the request, or if acting twice is as good as once.
    async fn send(self, body: Body, mut total: TotalTimer) -> Result<Response, Error> {
        let head = self.encode_head(&body)?;
        let origin = Origin::of(self.url);
        let mut body = body;
        if let Some(connection) = self.client.inner.pool.take(&origin) {
            let again = body.again();
            let mut sender = Sender::new(head.clone(), body);
            match self.exchange(connection, &mut sender, &mut total).await {
                Ok((head, connection)) => return self.response(head, connection, sender, total),
                Err((error, answered)) => {
                    let harmless = self.repeatable || sender.total() == 0;
                    let dead =
                        matches!(error, Error::Broken { .. } | Error::Response { source: http1::Error::Truncated, .. });
                    match again {
                        Some(again) if dead && harmless && !answered => body = again,
                        _ => return Err(error),
                    }
                    log::debug!("a kept connection to {} was dead", self.url.host());
                }
            }
        }
        let connection = self.connect(&mut total).await?;
        let mut sender = Sender::new(head, body);
        match self.exchange(connection, &mut sender, &mut total).await {
            Ok((head, connection)) => self.response(head, connection, sender, total),
            Err((error, _)) => Err(error),
        }
    }

    /// An error comes with whether the server had begun to answer.
    async fn exchange(
        &self,
        mut connection: Connection,
        sender: &mut Sender,
        total: &mut TotalTimer,
    ) -> Result<(http1::ResponseHead, Connection), (Error, bool)> {
        let options = self.client.options();
        match exchange(&mut connection, sender, self.url.host(), options, total).await {
            Ok(head) => Ok((head, connection)),
            Err(error) => Err((error, !connection.buffered().is_empty())),
        }
    }

    async fn connect(&self, total: &mut TotalTimer) -> Result<Connection, Error> {
        let too_late = async {
            let after = poll_fn(|cx| total.poll(cx)).await;
            Err(Error::Timeout { host: self.url.host().into(), stage: Stage::Total, after })
        };
        self.client.connect(self.url).or(too_late).await
    }

    fn response(
        &self,
        head: http1::ResponseHead,
        connection: Connection,
        sender: Sender,
        total: TotalTimer,
    ) -> Result<Response, Error> {
        Response::new(self.client, self.url.clone(), self.method, head, connection, sender, total)
    }

    fn encode_head(&self, body: &Body) -> Result<Vec<u8>, Error> {
        let mut head = RequestHead::new(self.method.clone(), self.url.target());
        let mut put = |name: &str, value: &str| head.headers.append(name, value).map_err(Error::Unsendable);
        let mut put_default = |name: &str, value: &str| match self.headers.get(name) {
            None => put(name, value),
            Some(_) => Ok(()),
        };
        put_default("Host", &self.url.authority())?;
        put_default("User-Agent", USER_AGENT)?;
        put_default("Accept", "*/*")?;
        for (name, value) in self.headers.iter() {
            put(name, value)?;
        }
        match &body.0 {
            // A server must not wonder whether a body was lost (RFC 9110 §8.6).
            Kind::Empty if matches!(self.method, Method::Post | Method::Put | Method::Patch) => {
                put("Content-Length", "0")?;
            }
            Kind::Empty => {}
            Kind::Bytes(bytes) => put("Content-Length", &bytes.len().to_string())?,
            Kind::Reader(Some(length), _) => put("Content-Length", &length.to_string())?,
            Kind::Reader(None, _) => put("Transfer-Encoding", "chunked")?,
        }
        let mut bytes = Vec::with_capacity(512);
        encode_request(&head, &mut bytes).map_err(Error::Unsendable)?;
        Ok(bytes)
    }
}
