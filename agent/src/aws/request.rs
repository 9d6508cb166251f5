//! A request to any service, as the caller makes it: the rest of HTTP is his, the signature is ours.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use smol::Timer;
use smol::io::AsyncRead;

use super::outgoing::{Content, Outgoing};
use super::retry::{Fault, Verdict};
use super::{Api, Error};
use crate::fetch;
use crate::http1::Method;

/// A signed request in the making; [`send`](Self::send) ends it.
///
/// ```no_run
/// # async fn example(api: ioto::aws::Api) -> Result<(), ioto::aws::Error> {
/// use ioto::http1::Method;
///
/// let url = "https://bucket.s3.eu-central-1.amazonaws.com/logs/pump-7.txt";
/// let response = api.request("s3", Method::Put, url)?.body("all is well").send().await?;
/// println!("{}", response.status());
/// # Ok(())
/// # }
/// ```
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    api: Api,
    outgoing: Outgoing,
    timeout: Option<Duration>,
}

impl Request {
    pub(super) fn new(api: Api, service: &str, method: Method, url: fetch::Url) -> Self {
        let repeatable = matches!(
            method,
            Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options | Method::Trace
        );
        let (service, headers, content) = (service.to_owned(), Vec::new(), Content::Empty);
        let outgoing = Outgoing { service, method, url, headers, content, unsigned: false, repeatable, adapt: None };
        Self { api, outgoing, timeout: None }
    }

    /// Adds a header field, which will be signed. `Host` and those of the signature are ours.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.outgoing.headers.push((name.into(), value.into()));
        self
    }

    /// Sends these bytes; their hash is signed.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.outgoing.content = Content::Bytes(Arc::new(bytes.into()));
        self
    }

    /// Sends `length` bytes of what `open` opens, in signed chunks that go out while they are read, with a checksum behind
    /// them. `open` is called again for another attempt. Only S3 takes such bodies.
    pub fn chunks<R, F>(mut self, length: u64, open: F) -> Self
    where
        R: AsyncRead + Send + Unpin + 'static,
        F: Fn() -> io::Result<R> + Send + Sync + 'static,
    {
        let open = Arc::new(move || Ok(Box::new(open()?) as Box<dyn AsyncRead + Send + Unpin>));
        self.outgoing.content = Content::Chunks { length, open };
        self
    }

    /// Does not sign the body: TLS alone protects it. Few services beside S3 take that.
    pub fn unsigned_body(mut self) -> Self {
        self.outgoing.unsigned = true;
        self
    }

    /// Says whether the service may carry it out twice; see [`fetch::Request::repeatable`].
    pub fn repeatable(mut self, yes: bool) -> Self {
        self.outgoing.repeatable = yes;
        self
    }

    /// Adapts each attempt on its way, as with [`limit_rate`](fetch::Request::limit_rate). What is signed must stay as it is.
    pub fn with(mut self, adapt: impl Fn(fetch::Request) -> fetch::Request + Send + Sync + 'static) -> Self {
        self.outgoing.adapt = Some(Box::new(adapt));
        self
    }

    /// Bounds the request with its attempts and the body of its response, instead of `timeouts.aws`.
    pub fn timeout(mut self, total: Duration) -> Self {
        self.timeout = Some(total);
        self
    }

    /// Sends it, 3 times at most when the service is busy or fails, and once more when the device's clock is wrong. Returns
    /// the last response whatever its status; [`Error::refusal`] makes an error of one that says no.
    pub async fn send(self) -> Result<fetch::Response, Error> {
        let Self { api, outgoing, timeout } = self;
        let mut attempts = api.attempts(timeout);
        loop {
            let result = api.attempt(&outgoing, attempts.left()).await;
            let fault = match &result {
                Ok(attempt) if attempt.response.status() < 400 => {
                    attempts.succeeded();
                    Fault::default()
                }
                Ok(attempt) => attempt.fault(outgoing.repeatable),
                Err(error) => Fault { transient: outgoing.repeatable && error.is_transient(), ..error.fault() },
            };
            match attempts.failed(fault) {
                Verdict::Correct => {
                    log::info!("the device's clock is wrong; signing again with the time of the service")
                }
                Verdict::Renew => {}
                Verdict::Wait(wait) => {
                    log::debug!("{} {}: again in {wait:?}", outgoing.method.as_str(), outgoing.url);
                    Timer::after(wait).await;
                }
                Verdict::GiveUp => return result.map(|attempt| attempt.response),
            }
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.outgoing.fmt(f)
    }
}
