//! One attempt of a request: sign it with the time as it is known, send it, learn the time from the answer.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use smol::io::AsyncRead;

use super::chunked::{SignedChunks, encoded_length, sign_chunked};
use super::retry::Fault;
use super::skew::Skews;
use super::{Credentials, Error, Provider, sigv4};
use crate::fetch::{self, Body, Client, Url};
use crate::http1::Method;

/// The bytes of a body, from their beginning.
pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// The body of a signed request: it can be sent again, with another signature.
#[derive(Clone, Default)]
pub(super) enum Content {
    #[default]
    Empty,
    Bytes(Arc<Vec<u8>>),
    /// In signed chunks, with a checksum behind them. Only S3 takes that.
    Chunks {
        length: u64,
        open: Arc<dyn Fn() -> io::Result<Reader> + Send + Sync>,
    },
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Chunks { length, .. } => write!(f, "Chunks({length})"),
        }
    }
}

/// Who signs, with what is known about the clocks of the services.
pub(super) struct Signer {
    pub(super) provider: Provider,
    pub(super) region: String,
    pub(super) skews: Skews,
    pub(super) clock: fn() -> i64,
}

/// A change of the request before it is sent, of what is not signed.
pub(super) type Adapt = Box<dyn Fn(fetch::Request) -> fetch::Request + Send + Sync>;

/// A request that is to be signed.
pub(super) struct Outgoing {
    /// The name of the service in signatures.
    pub(super) service: String,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(String, String)>,
    pub(super) content: Content,
    /// Says of the body nothing; for S3 over TLS.
    pub(super) unsigned: bool,
    /// Whether the service may get it twice without a new attempt of ours.
    pub(super) repeatable: bool,
    pub(super) adapt: Option<Adapt>,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, method, url, headers, content, .. } = self;
        write!(f, "{service}: {} {url} {headers:?} {content:?}", method.as_str())
    }
}

/// An answer, and what the caller must know to go on.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) response: fetch::Response,
    /// The device's clock was wrong, and now we know by how much.
    pub(super) clock_was_wrong: bool,
    /// The service says when to come back.
    pub(super) retry_after: Option<Duration>,
    /// Whose signature it was.
    pub(super) access_key_id: String,
}

impl Outgoing {
    /// Where the service differs from the others in signing.
    pub(super) fn options(service: &str) -> sigv4::Options {
        if service == "s3" { sigv4::Options::s3() } else { sigv4::Options::default() }
    }

    /// Signs and sends it; `left` is the time it may take with its answer.
    pub(super) async fn attempt(&self, client: &Client, signer: &Signer, left: Duration) -> Result<Attempt, Error> {
        let endpoint = self.url.authority();
        let skew = signer.skews.of(&endpoint);
        let sent = (signer.clock)();
        let now = sent.saturating_add(skew);
        let credentials = signer.provider.credentials(now).await?;
        let request = self.signed(client, signer, &credentials, now)?;
        let response = request.timeout(left).send().await?;
        let clock_was_wrong = signer.skews.learn(&endpoint, response.headers(), sent, (signer.clock)(), skew);
        let retry_after = response.header("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let access_key_id = credentials.access_key_id().to_owned();
        Ok(Attempt { response, clock_was_wrong, retry_after, access_key_id })
    }

    fn signed(
        &self,
        client: &Client,
        signer: &Signer,
        credentials: &Credentials,
        now: i64,
    ) -> Result<fetch::Request, Error> {
        let authority = self.url.authority();
        let given = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let headers: Vec<(&str, &str)> = given.chain([("Host", authority.as_str())]).collect();
        let payload = match &self.content {
            _ if self.unsigned => sigv4::Payload::Unsigned,
            Content::Bytes(bytes) => sigv4::Payload::Bytes(bytes),
            _ => sigv4::Payload::Bytes(b""),
        };
        let signing =
            sigv4::Request { method: self.method.as_str(), target: self.url.target(), headers: &headers, payload };
        let scope = sigv4::Scope { region: &signer.region, service: &self.service };
        let (added, body) = match &self.content {
            Content::Chunks { length, open } => {
                let reader = open().map_err(|source| Error::Fetch(fetch::Error::Body(source)))?;
                let (added, chunks) = sign_chunked(&signing, credentials, &scope, now, *length, true);
                let reader = SignedChunks::new(reader, *length, chunks, true);
                (added, Body::reader(Some(encoded_length(*length, true)), reader))
            }
            content => {
                let options = Self::options(&self.service);
                let body = match content {
                    Content::Bytes(bytes) => Body::bytes(bytes.as_slice()),
                    _ => Body::empty(),
                };
                (sigv4::sign(&signing, credentials, &scope, now, &options), body)
            }
        };
        // The wait for a new attempt is not the client's: a kept connection that died is the only thing repeated below.
        let request = client.request(self.method.clone(), &self.url.to_string()).repeatable(self.repeatable).body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let request = added.iter().fold(request, |request, (name, value)| request.header(name, value));
        Ok(match &self.adapt {
            Some(adapt) => adapt(request),
            None => request,
        })
    }
}

impl Attempt {
    /// What is wrong by the status alone, before anybody reads the body. `repeatable`: the request may be carried out twice.
    pub(super) fn fault(&self, repeatable: bool) -> Fault {
        let status = self.response.status();
        Fault {
            // The first two say that nothing was done.
            transient: matches!(status, 429 | 503) || repeatable && matches!(status, 500 | 502 | 504),
            timeout: false,
            clock: matches!(status, 400 | 401 | 403) && self.clock_was_wrong,
            // The code that says so is in the body.
            credentials: false,
            retry_after: self.retry_after,
        }
    }
}
