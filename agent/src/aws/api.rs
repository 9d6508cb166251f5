//! One call to a service: sign, send, understand the answer, and try again where that helps.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use smol::Timer;

use super::canonical::plain_target;
use super::crc32::crc32;
use super::outgoing::{Attempt, Content, Outgoing, Signer};
use super::retry::{Attempts, Fault, RetryQuota, Verdict};
use super::skew::Skews;
use super::{Error, Provider, Request};
use crate::config;
use crate::fetch::{self, Client, Options, Url};
use crate::http1::Method;
use crate::net::{self, Proxy, TlsClient};

/// Bytes of one answer. A page of a DynamoDB query can be larger: ask with `Limit`.
const ANSWER: usize = 1024 * 1024;

/// About so many bytes of a call are the headers of request and response, signature and session token included.
const HEADERS: u64 = 1500;

/// Idle connections that are kept: what so many calls at a time (`sync.window` can be 256) have used, the next as many use
/// again instead of shaking hands anew.
const CONNECTIONS: usize = 256;

/// A service that speaks JSON with the operation in the header `X-Amz-Target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// The first label of its host, as `dynamodb`.
    pub endpoint: &'static str,
    /// Its name in signatures; mostly the same.
    pub signing_name: &'static str,
    /// What stands before the operation in `X-Amz-Target`, as `DynamoDB_20120810`.
    pub target: &'static str,
    /// The version of its JSON protocol, `1.0` or `1.1`.
    pub json: &'static str,
}

/// Access to AWS with the agent's credentials. Clones share connections, quota and what is known about the clock.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    signer: Signer,
    /// In place of AWS's own endpoints.
    endpoint: Option<Url>,
    timeout: Duration,
    quota: RetryQuota,
    /// Bytes that calls sent and received.
    traffic: AtomicU64,
}

impl Api {
    /// Reads the trusted roots and the credentials; connects to nothing. `device` is the device's id.
    pub fn new(config: &config::Aws, device: &str) -> Result<Self, Error> {
        Self::with_provider(config, Provider::new(config, device)?)
    }

    /// With credentials from elsewhere than the configuration.
    pub fn with_provider(config: &config::Aws, provider: Provider) -> Result<Self, Error> {
        let tls = match &config.authority {
            Some(file) => Some(TlsClient::builder().authority(file).build().map_err(fetch::Error::from)?),
            None => None,
        };
        let proxy = Proxy::from_config(&config.proxy).map_err(|text| Error::Endpoint(format!("aws.proxy: {text}")))?;
        let options =
            Options { tls, proxies: proxy.into(), redirects: 0, idle_connections: CONNECTIONS, ..Options::default() };
        Self::with_client(config, provider, Client::new(options))
    }

    /// With a client of the caller's, which must not follow redirections: the signature is valid for one URL.
    pub fn with_client(config: &config::Aws, provider: Provider, client: Client) -> Result<Self, Error> {
        Self::build(config, provider, client, net::utc_ms)
    }

    fn build(config: &config::Aws, provider: Provider, client: Client, clock: fn() -> i64) -> Result<Self, Error> {
        let endpoint = match &config.endpoint {
            Some(text) => Some(text.parse().map_err(|e: fetch::Error| Error::Endpoint(e.to_string()))?),
            None => None,
        };
        let inner = Inner {
            client,
            signer: Signer { provider, region: config.region.clone(), skews: Skews::default(), clock },
            endpoint,
            timeout: config.timeout,
            quota: RetryQuota::new(),
            traffic: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The region that calls go to.
    pub fn region(&self) -> &str {
        &self.inner.signer.region
    }

    /// About how many bytes calls have sent and received since this was made, their repetitions and headers included; connecting
    /// is not.
    pub fn traffic(&self) -> u64 {
        self.inner.traffic.load(Ordering::Relaxed)
    }

    /// Calls an operation and returns its answer.
    ///
    /// Failures that pass by themselves are repeated, 3 attempts in all, within `timeouts.aws`. So an operation may be carried
    /// out twice: make it conditional or idempotent.
    pub async fn call(&self, service: &Service, operation: &str, body: &Value) -> Result<Value, Error> {
        self.call_with(service, operation, body.to_string().into_bytes()).await
    }

    /// The same with a body that is written already.
    pub async fn call_with(&self, service: &Service, operation: &str, body: Vec<u8>) -> Result<Value, Error> {
        let body = Arc::new(body);
        let outgoing = Outgoing {
            service: service.signing_name.into(),
            method: Method::Post,
            url: self.url_of(service)?,
            headers: vec![
                ("Content-Type".into(), format!("application/x-amz-json-{}", service.json)),
                ("X-Amz-Target".into(), format!("{}.{operation}", service.target)),
            ],
            content: Content::Bytes(Arc::clone(&body)),
            unsigned: false,
            repeatable: true,
            adapt: None,
        };
        let mut attempts = self.attempts(None);
        let sent = HEADERS + body.len() as u64;
        loop {
            self.inner.traffic.fetch_add(sent, Ordering::Relaxed);
            let (result, answered) = match self.attempt(&outgoing, attempts.left()).await {
                Ok(attempt) => {
                    let Attempt { response, clock_was_wrong: clock, retry_after, access_key_id } = attempt;
                    let length = response.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
                    self.inner.traffic.fetch_add(length, Ordering::Relaxed);
                    let result = read(response).await;
                    let is_unknown = result.as_ref().is_err_and(Error::is_unknown_key);
                    let credentials = is_unknown && self.inner.signer.provider.refused(&access_key_id);
                    (result, Fault { clock, credentials, retry_after, ..Fault::default() })
                }
                Err(error) => (Err(error), Fault::default()),
            };
            let error = match result {
                Ok(answer) => {
                    attempts.succeeded();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let Fault { credentials, retry_after, .. } = answered;
            let clock = answered.clock && error.may_be_skew();
            match attempts.failed(Fault { clock, credentials, retry_after, ..error.fault() }) {
                Verdict::Correct => {
                    log::info!("the device's clock is wrong; signing again with the time of the service")
                }
                Verdict::Renew => log::info!("{error}; signing again with new credentials"),
                Verdict::Wait(wait) => {
                    log::debug!("{} {operation}: {error}; again in {wait:?}", service.endpoint);
                    Timer::after(wait).await;
                }
                Verdict::GiveUp => return Err(error),
            }
        }
    }

    /// A request to any service, signed under its name, as `s3`, `iotdata` or `execute-api`. The URL is the caller's.
    pub fn request(&self, service: &str, method: Method, url: &str) -> Result<Request, Error> {
        let url: Url = url.parse()?;
        let scheme = if url.scheme() == fetch::Scheme::Https { "https" } else { "http" };
        let target = plain_target(url.target(), &Outgoing::options(service));
        let url = format!("{scheme}://{}{target}", url.authority()).parse()?;
        Ok(Request::new(self.clone(), service, method, url))
    }

    pub(super) fn attempts(&self, timeout: Option<Duration>) -> Attempts<'_> {
        Attempts::new(&self.inner.quota, timeout.unwrap_or(self.inner.timeout))
    }

    pub(super) async fn attempt(&self, outgoing: &Outgoing, left: Duration) -> Result<Attempt, Error> {
        outgoing.attempt(&self.inner.client, &self.inner.signer, left).await
    }

    fn url_of(&self, service: &Service) -> Result<Url, Error> {
        if let Some(endpoint) = &self.inner.endpoint {
            return Ok(endpoint.clone());
        }
        let region = &self.inner.signer.region;
        // The partition China has its own domain (AWS General Reference, "Service endpoints").
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("https://{}.{region}.{domain}/", service.endpoint)
            .parse()
            .map_err(|_| Error::Endpoint(format!("'{region}' is no AWS region")))
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("region", &self.inner.signer.region).finish_non_exhaustive()
    }
}

async fn read(response: fetch::Response) -> Result<Value, Error> {
    if !response.is_success() {
        return Err(Error::refusal(response).await);
    }
    let body = checked_body(response).await?;
    match body.is_empty() {
        true => Ok(Value::Null),
        false => serde_json::from_slice(&body).map_err(|e| Error::Answer(e.to_string())),
    }
}

/// The body of an answer, which some services give a checksum to.
pub(super) async fn checked_body(response: fetch::Response) -> Result<Vec<u8>, Error> {
    let checksum = response.header("x-amz-crc32").and_then(|text| text.parse().ok());
    let body = response.bytes(ANSWER).await?;
    match checksum.is_some_and(|expected: u32| expected != crc32(&body)) {
        true => Err(Error::Checksum),
        false => Ok(body),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::JoinHandle;
    use std::time::{Instant, SystemTime};

    use serde_json::json;

    use super::super::Credentials;
    use super::*;
    use crate::config::Secret;

    const SERVICE: Service =
        Service { endpoint: "dynamodb", signing_name: "dynamodb", target: "DynamoDB_20120810", json: "1.0" };

    /// Answers one request after the other, each on its own connection; returns the heads of the requests.
    fn server(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer_all = move || {
            answers
                .iter()
                .map(|answer| {
                    let mut stream = listener.accept().unwrap().0;
                    let mut request = Vec::new();
                    while !request.ends_with(b"{}") {
                        let mut piece = [0; 1024];
                        let got = stream.read(&mut piece).unwrap();
                        assert!(got > 0, "the request breaks off");
                        request.extend_from_slice(&piece[..got]);
                    }
                    stream.write_all(answer.as_bytes()).unwrap();
                    String::from_utf8(request).unwrap()
                })
                .collect()
        };
        (url, std::thread::spawn(answer_all))
    }

    fn answer(status: u16, headers: &str, body: &str) -> String {
        let date = net::http_date(SystemTime::now());
        let length = body.len();
        format!(
            "HTTP/1.1 {status} X\r\nDate: {date}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        )
    }

    fn call(url: &str, clock: fn() -> i64, timeout: Duration) -> Result<Value, Error> {
        let config = config::Aws { endpoint: Some(url.into()), timeout, ..Default::default() };
        let provider = Provider::Static(Credentials::new("AKID", "secret"));
        let api = Api::build(&config, provider, Client::default(), clock).unwrap();
        smol::block_on(api.call(&SERVICE, "ListTables", &json!({})))
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_call_is_a_signed_post_with_its_target() {
        let (url, server) = server(vec![answer(200, "x-amz-crc32: 2745614147\r\n", "{}")]);
        assert_eq!(call(&url, net::utc_ms, LONG).unwrap(), json!({}));
        let request = server.join().unwrap().remove(0).to_lowercase();
        assert!(request.starts_with("post / http/1.1\r\n"), "{request}");
        for part in [
            "x-amz-target: dynamodb_20120810.listtables\r\n",
            "content-type: application/x-amz-json-1.0\r\n",
            "signedheaders=content-type;host;x-amz-date;x-amz-target,",
            "/us-east-1/dynamodb/aws4_request,",
        ] {
            assert!(request.contains(part), "{part}: {request}");
        }
    }

    #[test]
    fn a_proxy_of_the_configuration_is_on_the_way() {
        let (url, server) = server(vec![answer(200, "", "{}")]);
        let proxy = config::OutboundProxy { url, username: Some("me".into()), password: Secret::new("secret") };
        let endpoint = Some("http://dynamodb.example:8000".into());
        let config = config::Aws { endpoint, proxy, timeout: LONG, ..Default::default() };
        let api = Api::with_provider(&config, Provider::Static(Credentials::new("AKID", "secret"))).unwrap();
        smol::block_on(api.call(&SERVICE, "ListTables", &json!({}))).unwrap();
        let request = server.join().unwrap().remove(0);
        assert!(request.starts_with("POST http://dynamodb.example:8000/ HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("Proxy-Authorization: Basic bWU6c2VjcmV0\r\n"), "{request}");
    }

    #[test]
    fn a_wrong_clock_is_repaired_in_one_retry() {
        let refusal = r#"{"__type":"InvalidSignatureException","message":"Signature expired"}"#;
        let (url, server) = server(vec![answer(403, "", refusal), answer(200, "", "{}")]);
        call(&url, || net::utc_ms() - 3 * 3_600_000, LONG).unwrap();
        let dates: Vec<String> = server.join().unwrap().iter().map(|request| date_of(request)).collect();
        let hour_of = |date: &str| date[9..11].parse::<i64>().unwrap();
        let difference = (hour_of(&dates[1]) - hour_of(&dates[0])).rem_euclid(24);
        // The hour may turn between the two.
        assert!((3..=4).contains(&difference), "{dates:?}");
    }

    #[test]
    fn connections_of_many_calls_at_a_time_are_kept_for_the_next_as_many() {
        const MANY: usize = 24;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        std::thread::spawn(move || {
            let together = Arc::new(Barrier::new(MANY));
            for stream in listener.incoming() {
                counter.fetch_add(1, Ordering::Relaxed);
                let (mut stream, together) = (stream.unwrap(), together.clone());
                std::thread::spawn(move || {
                    let mut request = [0; 4096];
                    while stream.read(&mut request).is_ok_and(|got| got > 0) {
                        together.wait();
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
                    }
                });
            }
        });
        let config = config::Aws { endpoint: Some(url), timeout: LONG, ..Default::default() };
        let api = Api::with_provider(&config, Provider::Static(Credentials::new("AKID", "secret"))).unwrap();
        let body = json!({});
        let executor = smol::LocalExecutor::new();
        for _ in 0..3 {
            let calls = [(); MANY].map(|()| executor.spawn(api.call(&SERVICE, "ListTables", &body)));
            for call in calls {
                smol::block_on(executor.run(call)).unwrap();
            }
        }
        assert_eq!(connections.load(Ordering::Relaxed), MANY);
    }

    fn date_of(request: &str) -> String {
        request.lines().find_map(|line| line.strip_prefix("X-Amz-Date: ")).unwrap().to_owned()
    }

    #[test]
    fn a_wrong_key_is_not_tried_again() {
        let refusal = r#"{"__type":"InvalidSignatureException","message":"does not match"}"#;
        let (url, server) = server(vec![answer(403, "", refusal)]);
        let error = call(&url, net::utc_ms, LONG).unwrap_err();
        assert_eq!(error.code(), Some("InvalidSignatureException"));
        assert_eq!(server.join().unwrap().len(), 1);
    }

    #[test]
    fn a_service_that_fails_is_asked_three_times() {
        let busy = || answer(503, "", "");
        let (url, one) = server(vec![busy(), busy(), answer(200, "", "{\"a\":1}")]);
        assert_eq!(call(&url, net::utc_ms, LONG).unwrap(), json!({"a": 1}));
        assert_eq!(one.join().unwrap().len(), 3);
        let (url, other) = server(vec![busy(), busy(), busy()]);
        assert!(matches!(call(&url, net::utc_ms, LONG), Err(Error::Service { status: 503, .. })));
        assert_eq!(other.join().unwrap().len(), 3);
    }

    #[test]
    fn an_answer_with_a_wrong_checksum_is_asked_for_again() {
        let (url, server) =
            server(vec![answer(200, "x-amz-crc32: 1\r\n", "{}"), answer(200, "x-amz-crc32: 2745614147\r\n", "{}")]);
        call(&url, net::utc_ms, LONG).unwrap();
        server.join().unwrap();
    }

    #[test]
    fn the_time_for_a_call_bounds_its_waits() {
        let (url, server) = server(vec![answer(503, "Retry-After: 60\r\n", "")]);
        let start = Instant::now();
        assert!(call(&url, net::utc_ms, Duration::from_secs(10)).is_err());
        assert!(start.elapsed() < Duration::from_secs(5));
        server.join().unwrap();
    }

    #[test]
    fn each_region_has_its_endpoint() {
        let url = |region: &str| {
            let config = config::Aws { region: region.into(), ..Default::default() };
            let provider = Provider::Static(Credentials::new("AKID", "secret"));
            Api::with_provider(&config, provider).unwrap().url_of(&SERVICE).map(|url| url.to_string())
        };
        assert_eq!(url("eu-central-1").unwrap(), "https://dynamodb.eu-central-1.amazonaws.com/");
        assert_eq!(url("cn-north-1").unwrap(), "https://dynamodb.cn-north-1.amazonaws.com.cn/");
        assert!(matches!(url("not a region"), Err(Error::Endpoint(_))));
    }

    #[test]
    fn an_endpoint_that_is_no_url_is_refused_at_once() {
        let config = config::Aws { endpoint: Some("localhost:5000".into()), ..Default::default() };
        let error = Api::with_provider(&config, Provider::Static(Credentials::new("AKID", "s"))).unwrap_err();
        assert!(error.to_string().contains("aws.endpoint") && error.to_string().contains("http://"), "{error}");
    }
}
