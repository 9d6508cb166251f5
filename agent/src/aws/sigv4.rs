//! AWS Signature Version 4: proves to AWS who sends a request and that nobody changed it.
//!
//! Source: AWS Identity and Access Management User Guide, "AWS Signature Version 4 for API requests"; for S3 the Amazon
//! S3 API Reference, "Authenticating Requests".

use std::time::Duration;

use ring::{digest, hmac};

use super::Credentials;
use super::canonical::{CanonicalHeaders, canonical_query, canonical_request, encoded, split_target};
use crate::net::{self, hex};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// A request to sign, as it goes over the wire.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, as `POST`.
    pub method: &'a str,
    /// Path and query, percent-encoded, as they stand in the request line.
    pub target: &'a str,
    /// The header fields, `Host` among them. All are signed but those that proxies change.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub payload: Payload<'a>,
}

/// What the signature says about the body.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// The whole body; its hash is signed.
    Bytes(&'a [u8]),
    /// The SHA-256 of a body that is sent as a stream.
    Sha256([u8; 32]),
    /// Nothing: the body is protected by TLS alone. S3 takes that, most other services do not.
    Unsigned,
    /// That each chunk of it has a signature of its own, see [`sign_chunked`](super::chunked::sign_chunked). S3 takes that.
    Chunked {
        /// Whether a checksum follows the last chunk.
        trailer: bool,
    },
}

impl Payload<'_> {
    fn text(&self) -> String {
        match self {
            Self::Bytes(bytes) => hex::encode(digest::digest(&digest::SHA256, bytes).as_ref()),
            Self::Sha256(hash) => hex::encode(hash),
            Self::Unsigned => "UNSIGNED-PAYLOAD".into(),
            Self::Chunked { trailer: false } => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".into(),
            Self::Chunked { trailer: true } => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER".into(),
        }
    }
}

/// Where a signature is valid.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The region, as `eu-central-1`.
    pub region: &'a str,
    /// The signing name of the service, as `dynamodb`; it is not always the first label of the host.
    pub service: &'a str,
}

/// In what services differ. The default suits all but S3 and the WebSocket of IoT Core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Percent-encodes the encoded path once more.
    pub encode_path_twice: bool,
    /// Takes `.`, `..` and repeated slashes out of the path.
    pub normalize_path: bool,
    /// Adds the hash of the body as `X-Amz-Content-Sha256`.
    pub content_header: bool,
    /// Adds the session token after signing, as MQTT over WebSocket to IoT Core wants it.
    pub unsigned_token: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { encode_path_twice: true, normalize_path: true, content_header: false, unsigned_token: false }
    }
}

impl Options {
    /// The rules of S3: names of objects are taken literally, and the hash of the body is a header.
    pub fn s3() -> Self {
        Self { encode_path_twice: false, normalize_path: false, content_header: true, unsigned_token: false }
    }
}

/// Signs a request in its headers: returns the fields to add to it.
///
/// `now` is the time in milliseconds since 1970, corrected by what is known about the skew of the device's clock: AWS
/// accepts 5 minutes of difference, S3 15.
///
/// ```
/// use ioto::aws::{Credentials, sigv4};
///
/// let headers = [("Host", "dynamodb.eu-central-1.amazonaws.com"), ("X-Amz-Target", "DynamoDB_20120810.ListTables")];
/// let request =
///     sigv4::Request { method: "POST", target: "/", headers: &headers, payload: sigv4::Payload::Bytes(b"{}") };
/// let scope = sigv4::Scope { region: "eu-central-1", service: "dynamodb" };
/// let credentials = Credentials::new("AKIDEXAMPLE", "secret");
/// for (name, value) in sigv4::sign(&request, &credentials, &scope, ioto::net::utc_ms(), &Default::default()) {
///     println!("{name}: {value}");
/// }
/// ```
pub fn sign(
    request: &Request,
    credentials: &Credentials,
    scope: &Scope,
    now: i64,
    options: &Options,
) -> Vec<(&'static str, String)> {
    sign_with(request, credentials, scope, &net::amz_date(now), options, Vec::new()).0
}

/// The fields to add, `added` among them, and the signature. `date` is the time as AWS writes it.
pub(super) fn sign_with(
    request: &Request,
    credentials: &Credentials,
    scope: &Scope,
    date: &str,
    options: &Options,
    mut added: Vec<(&'static str, String)>,
) -> (Vec<(&'static str, String)>, String) {
    let payload = request.payload.text();
    added.push(("X-Amz-Date", date.to_owned()));
    if options.content_header {
        added.push(("X-Amz-Content-Sha256", payload.clone()));
    }
    let token = credentials.token().map(|token| ("X-Amz-Security-Token", token.to_owned()));
    let (signed_token, late_token) = if options.unsigned_token { (None, token) } else { (token, None) };
    added.extend(signed_token);

    let fields: Vec<(&str, &str)> = added.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let headers = CanonicalHeaders::new(request, &fields);
    let query = canonical_query(split_target(request.target).1, &[]);
    let canonical = canonical_request(request, &query, &headers, &payload, options);
    let signature = signature_of(&canonical, credentials, scope, date);

    let authorization = format!(
        "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={signature}",
        credentials.access_key_id(),
        scope_text(scope, date),
        headers.names,
    );
    added.extend(late_token);
    added.push(("Authorization", authorization));
    (added, signature)
}

/// Signs a request in its query: returns the target to send, which is valid for `expires` from `now`, at most 7 days.
///
/// Whoever knows the URL can send the request, with the headers given here and, unless the payload is
/// [`Payload::Unsigned`], with this body only.
pub fn presign(
    request: &Request,
    credentials: &Credentials,
    scope: &Scope,
    now: i64,
    expires: Duration,
    options: &Options,
) -> String {
    let date = net::amz_date(now);
    let headers = CanonicalHeaders::new(request, &[]);
    let credential = format!("{}/{}", credentials.access_key_id(), scope_text(scope, &date));
    let seconds = expires.as_secs().to_string();
    let mut added = vec![
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", &credential),
        ("X-Amz-Date", &date),
        ("X-Amz-Expires", &seconds),
        ("X-Amz-SignedHeaders", &headers.names),
    ];
    let token = credentials.token().map(|token| ("X-Amz-Security-Token", token));
    let (signed_token, late_token) = if options.unsigned_token { (None, token) } else { (token, None) };
    added.extend(signed_token);

    let (path, query) = split_target(request.target);
    let query = canonical_query(query, &added);
    let canonical = canonical_request(request, &query, &headers, &request.payload.text(), options);
    let signature = signature_of(&canonical, credentials, scope, &date);

    let path = if path.is_empty() { "/" } else { path };
    let late = late_token.map_or(String::new(), |(name, token)| format!("&{name}={}", encoded(token.as_bytes())));
    format!("{path}?{query}&X-Amz-Signature={signature}{late}")
}

fn signature_of(canonical: &str, credentials: &Credentials, scope: &Scope, date: &str) -> String {
    let key = signing_key(credentials, scope, date);
    hex::encode(hmac::sign(&key, string_to_sign(canonical, scope, date).as_bytes()).as_ref())
}

fn string_to_sign(canonical: &str, scope: &Scope, date: &str) -> String {
    let hash = hex::encode(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    format!("{ALGORITHM}\n{date}\n{}\n{hash}", scope_text(scope, date))
}

pub(super) fn scope_text(scope: &Scope, date: &str) -> String {
    format!("{}/{}/{}/aws4_request", day_of(date), scope.region, scope.service)
}

/// The key for one day, region and service: who learns it cannot sign for another.
pub(super) fn signing_key(credentials: &Credentials, scope: &Scope, date: &str) -> hmac::Key {
    let secret = format!("AWS4{}", credentials.secret_access_key());
    let parts = [day_of(date), scope.region, scope.service, "aws4_request"];
    parts.iter().fold(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), |key, part| {
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
    })
}

fn day_of(date: &str) -> &str {
    date.split('T').next().unwrap_or(date)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// See the README beside the file.
    const VECTORS: &str = include_str!("../../tests/data/sigv4/v4.json");
    const SCOPE: Scope = Scope { region: "us-east-1", service: "service" };

    /// A case of the suite: the request and what must come out.
    struct Case {
        name: String,
        method: String,
        target: String,
        headers: Vec<(String, String)>,
        body: String,
        credentials: Credentials,
        options: Options,
        expected: Value,
    }

    impl Case {
        fn all() -> Vec<Self> {
            let cases: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
            assert_eq!(cases.len(), 38);
            cases.into_iter().map(Self::new).collect()
        }

        /// The target of a request line is raw in the suite: it may hold blanks. Header lines may be folded.
        fn new(case: Value) -> Self {
            let text = case["request"].as_str().unwrap();
            let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
            let mut lines = head.lines();
            let (method, target) = lines.next().unwrap().trim_end_matches(" HTTP/1.1").split_once(' ').unwrap();
            let mut headers: Vec<(String, String)> = Vec::new();
            for line in lines {
                match line.strip_prefix(' ') {
                    Some(folded) => headers.last_mut().unwrap().1.push_str(&format!(" {folded}")),
                    None => {
                        let (name, value) = line.split_once(':').unwrap();
                        headers.push((name.into(), value.into()));
                    }
                }
            }
            let flag = |name: &str| case[name].as_bool().unwrap();
            let mut credentials = Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
            if let Some(token) = case["token"].as_str() {
                credentials = credentials.with_token(token);
            }
            Self {
                name: case["name"].as_str().unwrap().into(),
                method: method.into(),
                target: target.into(),
                headers,
                body: body.into(),
                credentials,
                options: Options {
                    normalize_path: flag("normalize"),
                    content_header: flag("sign_body"),
                    unsigned_token: flag("omit_session_token"),
                    ..Options::default()
                },
                expected: case,
            }
        }

        fn expected(&self, form: &str, text: &str) -> &str {
            self.expected[form][text].as_str().unwrap()
        }

        fn with_request<T>(&self, use_it: impl FnOnce(&Request) -> T) -> T {
            let headers: Vec<(&str, &str)> = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let payload = Payload::Bytes(self.body.as_bytes());
            use_it(&Request { method: &self.method, target: &self.target, headers: &headers, payload })
        }
    }

    fn now() -> i64 {
        net::parse_iso8601("2015-08-30T12:36:00Z").unwrap()
    }

    fn value<'a>(added: &'a [(&str, String)], name: &str) -> Option<&'a str> {
        added.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn header_signatures_are_those_of_the_published_vectors() {
        for case in Case::all() {
            let added = case.with_request(|request| sign(request, &case.credentials, &SCOPE, now(), &case.options));
            let authorization = value(&added, "Authorization").unwrap();
            let signature = authorization.rsplit_once("Signature=").unwrap().1;
            assert_eq!(signature, case.expected("header", "signature"), "{}", case.name);
            assert_eq!(value(&added, "X-Amz-Security-Token"), case.expected["token"].as_str(), "{}", case.name);
        }
    }

    #[test]
    fn query_signatures_are_those_of_the_published_vectors() {
        for case in Case::all() {
            let hour = Duration::from_secs(3600);
            let target = case.with_request(|r| presign(r, &case.credentials, &SCOPE, now(), hour, &case.options));
            let signature = target.split_once("X-Amz-Signature=").unwrap().1;
            let signature = signature.split('&').next().unwrap();
            assert_eq!(signature, case.expected("query", "signature"), "{}", case.name);
            let token_is_late = target.rsplit('&').next().unwrap().starts_with("X-Amz-Security-Token=");
            assert_eq!(token_is_late, case.options.unsigned_token, "{}", case.name);
        }
    }

    #[test]
    fn canonical_requests_and_strings_to_sign_are_those_of_the_published_vectors() {
        for case in Case::all() {
            let date = net::amz_date(now());
            case.with_request(|request| {
                let hash = request.payload.text();
                let mut added = vec![("X-Amz-Date", date.as_str())];
                if case.options.content_header {
                    added.push(("x-amz-content-sha256", &hash));
                }
                if let Some(token) = case.credentials.token().filter(|_| !case.options.unsigned_token) {
                    added.push(("X-Amz-Security-Token", token));
                }
                let headers = CanonicalHeaders::new(request, &added);
                let query = canonical_query(split_target(request.target).1, &[]);
                let canonical = canonical_request(request, &query, &headers, &hash, &case.options);
                assert_eq!(canonical, case.expected("header", "canonical_request"), "{}", case.name);
                let string = string_to_sign(&canonical, &SCOPE, &date);
                assert_eq!(string, case.expected("header", "string_to_sign"), "{}", case.name);
            });
        }
    }

    /// The examples of the Amazon S3 API Reference, "Signature Calculations for the Authorization Header".
    #[test]
    fn s3_signatures_are_those_of_the_documents() {
        let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        let scope = Scope { region: "us-east-1", service: "s3" };
        let now = net::parse_iso8601("2013-05-24T00:00:00Z").unwrap();
        let host = ("Host", "examplebucket.s3.amazonaws.com");
        let put = [host, ("Date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        type Example<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);
        let examples: [Example; 4] = [
            (
                "GET",
                "/test.txt",
                &[host, ("Range", "bytes=0-9")],
                "",
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "PUT",
                "/test%24file.text",
                &put,
                "Welcome to Amazon S3.",
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
            ("GET", "/?lifecycle", &[host], "", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            (
                "GET",
                "/?max-keys=2&prefix=J",
                &[host],
                "",
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ];
        for (method, target, headers, body, signature) in examples {
            let request = Request { method, target, headers, payload: Payload::Bytes(body.as_bytes()) };
            let added = sign(&request, &credentials, &scope, now, &Options::s3());
            assert!(value(&added, "Authorization").unwrap().ends_with(signature), "{method} {target}");
        }
        let request = Request { method: "GET", target: "/test.txt", headers: &[host], payload: Payload::Unsigned };
        let day = Duration::from_secs(86_400);
        let target = presign(&request, &credentials, &scope, now, day, &Options::s3());
        assert!(target.ends_with("aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"), "{target}");
    }

    #[test]
    fn a_hash_made_elsewhere_signs_like_the_bytes() {
        let body = b"a body";
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, body).as_ref());
        let credentials = Credentials::new("id", "secret");
        let signed = |payload| {
            let request = Request { method: "PUT", target: "/", headers: &[("Host", "h")], payload };
            sign(&request, &credentials, &SCOPE, 0, &Options::s3())
        };
        assert_eq!(signed(Payload::Bytes(body)), signed(Payload::Sha256(hash)));
        assert_ne!(signed(Payload::Bytes(body)), signed(Payload::Unsigned));
    }

    #[test]
    fn what_proxies_change_is_not_signed() {
        let headers = [("Host", "h"), ("User-Agent", "a"), ("Connection", "close"), ("Transfer-Encoding", "chunked")];
        let request = Request { method: "GET", target: "/", headers: &headers, payload: Payload::Bytes(b"") };
        let added = sign(&request, &Credentials::new("id", "secret"), &SCOPE, 0, &Options::default());
        assert!(value(&added, "Authorization").unwrap().contains("SignedHeaders=host;x-amz-date,"));
    }
}
