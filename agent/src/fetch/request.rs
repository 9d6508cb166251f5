//! A request in the making.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::meter::{Hook, Meter};
use super::{Body, Client, Download, Error, EventSource, Progress, Proxies, Response, Url, WebSocket};
use crate::config::Secret;
use crate::http1::{Headers, Method};
use crate::net::{Proxy, TlsClient, base64};

/// Fields that follow from the body and the connection; given by hand they could only contradict it.
const OWN: [&str; 6] = ["content-length", "transfer-encoding", "connection", "expect", "upgrade", "te"];

/// Fields of which a request has one.
const SINGLE: [&str; 9] = [
    "authorization",
    "host",
    "user-agent",
    "accept",
    "content-type",
    "range",
    "if-range",
    "accept-encoding",
    "last-event-id",
];

/// A request in the making; [`send`](Self::send) ends it. What is wrong with it is told there.
///
/// ```no_run
/// # async fn run(client: ioto::fetch::Client) -> Result<(), ioto::fetch::Error> {
/// use std::time::Duration;
///
/// let answer = client
///     .post("https://example.com/readings")
///     .bearer("a token")
///     .json(&serde_json::json!({"temperature": 21.5}))
///     .timeout(Duration::from_secs(60))
///     .retries(3)
///     .repeatable(true)
///     .send()
///     .await?
///     .json(64 * 1024)
///     .await?;
/// # drop(answer);
/// # Ok(())
/// # }
/// ```
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    pub(super) client: Client,
    pub(super) method: Method,
    pub(super) url: Result<Url, Error>,
    pub(super) headers: Headers,
    pub(super) body: Body,
    pub(super) plan: Plan,
    progress: Option<Hook>,
    rate: Option<u64>,
    error: Option<Error>,
}

/// How a request is carried out, whatever is in it.
#[derive(Clone)]
pub(super) struct Plan {
    pub timeout: Option<Duration>,
    pub repeatable: bool,
    pub retries: u8,
    pub redirects: u8,
    pub compressed: bool,
    pub digest: Option<(String, Secret)>,
    pub tls: Option<TlsClient>,
    pub proxies: Proxies,
    /// So many bytes of the whole are here already when a range is asked for.
    pub offset: u64,
    /// `Connection: Upgrade` to this protocol.
    pub upgrade: Option<&'static str>,
}

impl Request {
    pub(super) fn new(client: Client, method: Method, url: Result<Url, Error>) -> Self {
        let repeatable = matches!(
            method,
            Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options | Method::Trace
        );
        let options = client.options();
        let plan = Plan {
            timeout: options.timeouts.total,
            repeatable,
            retries: options.retries,
            redirects: options.redirects,
            compressed: options.compressed,
            digest: None,
            tls: options.tls.clone(),
            proxies: options.proxies.clone(),
            offset: 0,
            upgrade: None,
        };
        let mut request = Self {
            client,
            method,
            url,
            headers: Headers::new(),
            body: Body::empty(),
            plan,
            progress: None,
            rate: None,
            error: None,
        };
        if let Ok(Some((name, password))) = request.url.as_ref().map(Url::user) {
            let (name, password) = (name.to_owned(), password.to_owned());
            request = request.basic(&name, &password);
        }
        request
    }

    /// Adds a header field; one of which a request has a single one (`Authorization`, `Host`, `User-Agent`, `Accept`,
    /// `Content-Type`, `Range` and the like) takes the place of an earlier one. Fields about framing and the connection
    /// cannot be given.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let is_in = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        let result = match (is_in(&OWN), is_in(&SINGLE)) {
            (true, _) => Err(Error::Header { name: name.into() }),
            (_, true) => self.headers.set(name, value).map_err(Error::Unsendable),
            (_, false) => self.headers.append(name, value).map_err(Error::Unsendable),
        };
        if let Err(error) = result {
            self.error.get_or_insert(error);
        }
        self
    }

    /// Sends this body.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends a value as JSON, with its content type.
    pub fn json(self, value: &Value) -> Self {
        self.header("Content-Type", "application/json").body(value.to_string())
    }

    /// Says who we are with a name and a password that everybody on the way can read unless it is `https` (RFC 7617).
    pub fn basic(self, name: &str, password: &str) -> Self {
        let credentials = base64::encode(format!("{name}:{password}").as_bytes());
        self.header("Authorization", &format!("Basic {credentials}"))
    }

    /// Says who we are with a token (RFC 6750).
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Answers a server that asks for a digest of name and password (RFC 7616, MD5 and SHA-256). The request is sent twice
    /// then, the first time for the question; later requests of this client answer it at once.
    pub fn digest(mut self, name: &str, password: &str) -> Self {
        self.headers.remove("authorization");
        self.plan.digest = Some((name.into(), Secret::new(password)));
        self
    }

    /// Bounds the whole request, with redirections, retries and the body of the response, instead of the client's
    /// [`Timeouts::total`](super::Timeouts::total). Of a [`Download`] it bounds each part; events have no such end.
    pub fn timeout(mut self, total: Duration) -> Self {
        self.plan.timeout = Some(total);
        self
    }

    /// Says whether the server may get the request twice. GET, HEAD, PUT, DELETE, OPTIONS and TRACE are repeatable by
    /// themselves (RFC 9110 §9.2.2). A repeatable request is sent once more when a connection that was kept from an earlier
    /// request turns out to be dead.
    pub fn repeatable(mut self, yes: bool) -> Self {
        self.plan.repeatable = yes;
        self
    }

    /// Repeats a [`repeatable`](Self::repeatable) request so many times when it failed in a way that passes by itself, with
    /// waits that grow, instead of the client's [`Options::retries`](super::Options::retries).
    pub fn retries(mut self, times: u8) -> Self {
        self.plan.retries = times;
        self
    }

    /// Follows so many redirections instead of the client's [`Options::redirects`](super::Options::redirects).
    pub fn redirects(mut self, most: u8) -> Self {
        self.plan.redirects = most;
        self
    }

    /// Whether the response may come as gzip, which is undone while it is read, instead of the client's
    /// [`Options::compressed`](super::Options::compressed).
    pub fn compressed(mut self, yes: bool) -> Self {
        self.plan.compressed = yes;
        self
    }

    /// Another TLS identity and trust than the client's; connections of different ones are kept apart.
    pub fn tls(mut self, tls: TlsClient) -> Self {
        self.plan.tls = Some(tls);
        self
    }

    /// Another proxy than the client's, whatever the scheme of the URL; `None`: none.
    pub fn proxy(mut self, proxy: Option<Proxy>) -> Self {
        self.plan.proxies = proxy.into();
        self
    }

    /// Asks for the bytes from `first` to `last`, both counted from 0; without `last` to the end (RFC 9110 §14.2). A server
    /// that knows no ranges answers 200 with everything, see [`Response::range`](super::Response::range).
    pub fn range(self, first: u64, last: Option<u64>) -> Self {
        let last = last.map(|last| last.to_string()).unwrap_or_default();
        self.header("Range", &format!("bytes={first}-{last}"))
    }

    /// Is called whenever bytes of a body have moved, of either direction.
    pub fn progress(mut self, hook: impl FnMut(Progress) + Send + 'static) -> Self {
        self.progress = Some(Arc::new(Mutex::new(hook)));
        self
    }

    /// Moves at most so many bytes a second in either direction.
    pub fn limit_rate(mut self, bytes_per_second: u64) -> Self {
        self.rate = Some(bytes_per_second);
        self
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The URL; nothing when it is no good one, as [`send`](Self::send) will say.
    pub fn url(&self) -> Option<&Url> {
        self.url.as_ref().ok()
    }

    /// The header fields so far.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Sends the request and returns when the head of the response is there; its body follows as a stream.
    pub async fn send(mut self) -> Result<Response, Error> {
        match self.error.take() {
            Some(error) => Err(error),
            None => super::story::run(self).await,
        }
    }

    /// Saves the response as a file, see [`Download`].
    pub fn download(self, path: impl Into<std::path::PathBuf>) -> Download {
        Download::new(self, path.into())
    }

    /// Listens to events of the server (Server-Sent Events), see [`EventSource`].
    pub fn events(self) -> EventSource {
        EventSource::new(self)
    }

    /// Makes the connection a WebSocket that speaks one of these sub-protocols, see [`WebSocket`].
    pub async fn websocket(self, protocols: &[&str]) -> Result<WebSocket, Error> {
        WebSocket::connect(self, protocols).await
    }

    /// The same request once more; nothing when its body can be read only once, or something is wrong.
    pub(super) fn again(&self) -> Option<Self> {
        let (Ok(url), None) = (&self.url, &self.error) else { return None };
        Some(Self {
            client: self.client.clone(),
            method: self.method.clone(),
            url: Ok(url.clone()),
            headers: self.headers.clone(),
            body: self.body.again()?,
            plan: self.plan.clone(),
            progress: self.progress.clone(),
            rate: self.rate,
            error: None,
        })
    }

    /// Why there is no such request.
    pub(super) fn fault(&mut self) -> Error {
        if let Some(error) = self.error.take() {
            return error;
        }
        let once = Error::Body(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the body can be read only once, and this request may have to be sent again; send bytes or a file",
        ));
        match &mut self.url {
            Ok(_) => once,
            Err(error) => std::mem::replace(error, once),
        }
    }

    pub(super) fn meter(&self) -> Meter {
        Meter::new(self.progress.clone(), self.rate)
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &self.url)
            .field("headers", &self.headers)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}
