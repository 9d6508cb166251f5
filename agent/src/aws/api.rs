//! One call to a service: sign, send, understand the answer, and try again where that helps.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use smol::Timer;

use super::crc32::crc32;
use super::retry::{ATTEMPTS, RetryQuota};
use super::skew::Skews;
use super::{Error, Provider, sigv4};
use crate::config;
use crate::fetch::{self, Client, Options, Url};
use crate::net::{self, Backoff, TlsClient};

/// Bytes of one answer. A page of a DynamoDB query can be larger: ask with `Limit`.
const ANSWER: usize = 1024 * 1024;

/// Idle connections that are kept: what so many calls at a time (`sync.window` can be 256) have used, the next as many use
/// again instead of shaking hands anew.
const CONNECTIONS: usize = 256;

/// Waits between attempts (botocore `retries/standard.py`).
const BASE: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(20);

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
    region: String,
    /// In place of AWS's own endpoints.
    endpoint: Option<Url>,
    provider: Provider,
    timeout: Duration,
    quota: RetryQuota,
    skews: Skews,
    clock: fn() -> i64,
}

impl Api {
    /// Reads the trusted roots and the credentials; connects to nothing.
    pub fn new(config: &config::Aws) -> Result<Self, Error> {
        Self::with_provider(config, Provider::new(config)?)
    }

    /// With credentials from elsewhere than the configuration.
    pub fn with_provider(config: &config::Aws, provider: Provider) -> Result<Self, Error> {
        Self::build(config, provider, net::utc_ms)
    }

    fn build(config: &config::Aws, provider: Provider, clock: fn() -> i64) -> Result<Self, Error> {
        let tls = match &config.authority {
            Some(file) => Some(TlsClient::builder().authority(file).build().map_err(fetch::Error::from)?),
            None => None,
        };
        let endpoint = match &config.endpoint {
            Some(text) => Some(text.parse().map_err(|e: fetch::Error| Error::Endpoint(e.to_string()))?),
            None => None,
        };
        let inner = Inner {
            client: Client::new(Options { tls, redirects: 0, idle_connections: CONNECTIONS, ..Options::default() }),
            region: config.region.clone(),
            endpoint,
            provider,
            timeout: config.timeout,
            quota: RetryQuota::new(),
            skews: Skews::default(),
            clock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The region that calls go to.
    pub fn region(&self) -> &str {
        &self.inner.region
    }

    /// Calls an operation and returns its answer.
    ///
    /// Failures that pass by themselves are repeated, 3 attempts in all, within `timeouts.aws`. So an operation may be carried
    /// out twice: make it conditional or idempotent.
    pub async fn call(&self, service: &Service, operation: &str, body: &Value) -> Result<Value, Error> {
        let url = self.url_of(service)?;
        let call = Call { inner: &self.inner, service, operation, url, body: body.to_string() };
        call.run().await
    }

    fn url_of(&self, service: &Service) -> Result<Url, Error> {
        if let Some(endpoint) = &self.inner.endpoint {
            return Ok(endpoint.clone());
        }
        let region = &self.inner.region;
        // The partition China has its own domain (AWS General Reference, "Service endpoints").
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("https://{}.{region}.{domain}/", service.endpoint)
            .parse()
            .map_err(|_| Error::Endpoint(format!("'{region}' is no AWS region")))
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("region", &self.inner.region).finish_non_exhaustive()
    }
}

/// One call with its attempts.
struct Call<'a> {
    inner: &'a Inner,
    service: &'a Service,
    operation: &'a str,
    url: Url,
    body: String,
}

/// What one attempt brought, and what the caller of it must know to go on.
struct Attempt {
    result: Result<Value, Error>,
    /// The device's clock was wrong, and now we know by how much.
    clock_was_wrong: bool,
    /// The service says when to come back.
    retry_after: Option<Duration>,
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self { result: Err(error), clock_was_wrong: false, retry_after: None }
    }
}

impl Call<'_> {
    async fn run(&self) -> Result<Value, Error> {
        let start = Instant::now();
        let mut backoff = Backoff::new(BASE, CAP);
        let mut corrected = false;
        loop {
            let left = self.inner.timeout.saturating_sub(start.elapsed());
            let attempt = self.attempt(left).await;
            let error = match attempt.result {
                Ok(answer) => {
                    self.inner.quota.succeeded(backoff.attempts() > 0);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if error.may_be_skew() && attempt.clock_was_wrong && !corrected {
                log::info!("the device's clock is wrong; signing again with the time of the service");
                corrected = true;
                continue;
            }
            if !error.is_transient() || backoff.attempts() + 1 >= ATTEMPTS {
                return Err(error);
            }
            let wait = backoff.next().max(attempt.retry_after.unwrap_or_default());
            let left = self.inner.timeout.saturating_sub(start.elapsed());
            if wait >= left || !self.inner.quota.take() {
                return Err(error);
            }
            log::debug!("{} {}: {error}; again in {wait:?}", self.service.endpoint, self.operation);
            Timer::after(wait).await;
        }
    }

    async fn attempt(&self, left: Duration) -> Attempt {
        let inner = self.inner;
        let endpoint = self.url.authority();
        let skew = inner.skews.of(&endpoint);
        let sent = (inner.clock)();
        let request = match self.request(sent.saturating_add(skew)).await {
            Ok(request) => request.timeout(left),
            Err(error) => return error.into(),
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Error::from(error).into(),
        };
        let clock_was_wrong = inner.skews.learn(&endpoint, response.headers(), sent, (inner.clock)(), skew);
        let retry_after = response.header("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
        Attempt { result: read(response).await, clock_was_wrong, retry_after }
    }

    async fn request(&self, now: i64) -> Result<fetch::Request, Error> {
        let credentials = self.inner.provider.credentials(now).await?;
        let authority = self.url.authority();
        let content_type = format!("application/x-amz-json-{}", self.service.json);
        let target = format!("{}.{}", self.service.target, self.operation);
        let headers =
            [("Host", authority.as_str()), ("Content-Type", content_type.as_str()), ("X-Amz-Target", target.as_str())];
        let signing = sigv4::Request {
            method: "POST",
            target: self.url.target(),
            headers: &headers,
            payload: sigv4::Payload::Bytes(self.body.as_bytes()),
        };
        let scope = sigv4::Scope { region: &self.inner.region, service: self.service.signing_name };
        let added = sigv4::sign(&signing, &credentials, &scope, now, &sigv4::Options::default());

        // The wait for a new attempt is ours: a kept connection that died is the only thing repeated below.
        let request = self.inner.client.post(&self.url.to_string()).repeatable(true).body(self.body.as_str());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        Ok(added.iter().fold(request, |request, (name, value)| request.header(name, value)))
    }
}

async fn read(response: fetch::Response) -> Result<Value, Error> {
    let status = response.status();
    let success = response.is_success();
    let kind = response.header("x-amzn-errortype").map(str::to_owned);
    let checksum = response.header("x-amz-crc32").and_then(|text| text.parse().ok());
    let body = response.bytes(ANSWER).await?;
    if checksum.is_some_and(|expected: u32| expected != crc32(&body)) {
        return Err(Error::Checksum);
    }
    match (success, body.is_empty()) {
        (false, _) => Err(Error::service(status, kind.as_deref(), &body)),
        (true, true) => Ok(Value::Null),
        (true, false) => serde_json::from_slice(&body).map_err(|e| Error::Answer(e.to_string())),
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
    use std::time::SystemTime;

    use serde_json::json;

    use super::super::Credentials;
    use super::*;

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
        let api = Api::build(&config, provider, clock).unwrap();
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
