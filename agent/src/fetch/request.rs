//! A request in the making.

use std::time::Duration;

use serde_json::Value;

use super::{Body, Client, Error, Response, Url};
use crate::http1::{Headers, Method};
use crate::net::base64;

/// Fields that follow from the body and the connection; given by hand they could only contradict it.
const OWN: [&str; 5] = ["content-length", "transfer-encoding", "connection", "expect", "upgrade"];

/// A request in the making; [`send`](Self::send) ends it. What is wrong with it is told there.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    pub(super) client: Client,
    pub(super) method: Method,
    pub(super) url: Result<Url, Error>,
    pub(super) headers: Headers,
    pub(super) body: Body,
    pub(super) timeout: Option<Duration>,
    pub(super) repeatable: bool,
    pub(super) error: Option<Error>,
}

impl Request {
    pub(super) fn new(client: Client, method: Method, url: Result<Url, Error>) -> Self {
        let repeatable = matches!(
            method,
            Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options | Method::Trace
        );
        let mut request = Self {
            client,
            method,
            url,
            headers: Headers::new(),
            body: Body::empty(),
            timeout: None,
            repeatable,
            error: None,
        };
        if let Ok(Some((name, password))) = request.url.as_ref().map(Url::user) {
            let credentials = base64::encode(format!("{name}:{password}").as_bytes());
            request = request.header("Authorization", &format!("Basic {credentials}"));
        }
        request
    }

    /// Adds a header field; `Authorization`, `Host`, `User-Agent`, `Accept` and `Content-Type` take the place of an earlier
    /// one. Fields about framing and the connection cannot be given.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        const SINGLE: [&str; 5] = ["authorization", "host", "user-agent", "accept", "content-type"];
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

    /// Bounds the whole request, with redirections and the body of the response, instead of the client's
    /// [`Timeouts::total`](super::Timeouts::total).
    pub fn timeout(mut self, total: Duration) -> Self {
        self.timeout = Some(total);
        self
    }

    /// Says whether the server may get the request twice. GET, HEAD, PUT, DELETE, OPTIONS and TRACE are repeatable by
    /// themselves (RFC 9110 §9.2.2). A repeatable request is sent once more when a connection that was kept from an earlier
    /// request turns out to be dead.
    pub fn repeatable(mut self, yes: bool) -> Self {
        self.repeatable = yes;
        self
    }

    /// Sends the request and returns when the head of the response is there; its body follows as a stream.
    pub async fn send(self) -> Result<Response, Error> {
        super::client::run(self).await
    }
}
