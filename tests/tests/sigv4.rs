//! Our signatures and those of botocore, AWS's own library for Python, for the same random requests. botocore does not sign
//! chunks: their signatures are computed by the script beside this file, from what AWS documents.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use ioto::aws::chunked::{SignedChunks, sign_chunked};
use ioto::aws::{Credentials, Provider, WebSocketSigner, sigv4};
use ioto_tests::{python, repository, seed};
use serde_json::{Value, json};
use smol::io::AsyncReadExt;

const REQUESTS: usize = 2000;

/// A request to sign.
struct Case {
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
    id: String,
    secret: String,
    token: Option<String>,
    region: &'static str,
    service: &'static str,
    time: i64,
    expires: u64,
    form: Form,
}

/// Where the signature stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Header,
    Query,
    /// In the query of the WebSocket of IoT Core, with the token behind it.
    WebSocket,
    /// In the headers and before each chunk of the body.
    Chunks,
    /// With a checksum behind the body.
    ChunksAndTrailer,
}

#[test]
fn signatures_agree_with_botocore() {
    let mut random = fastrand::Rng::with_seed(seed());
    let cases: Vec<Case> = (0..REQUESTS).map(|_| Case::new(&mut random)).collect();
    let input: String = cases.iter().map(|case| format!("{}\n", case.to_json())).collect();
    let output = botocore(&input);
    let signatures: Vec<&str> = output.lines().collect();
    assert_eq!(signatures.len(), REQUESTS);
    for (case, signature) in cases.iter().zip(signatures) {
        assert_eq!(case.sign(), signature, "{}", case.to_json());
    }
}

/// Runs the script beside this file in the environment that `ci/test` made.
fn botocore(input: &str) -> String {
    let mut child = python()
        .arg(repository().join("tests/tests/botocore_sigv4.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start python");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("wait for python");
    writer.join().expect("the writer does not panic").expect("write to python");
    assert!(output.status.success(), "python failed: {}", output.status);
    String::from_utf8(output.stdout).expect("signatures are text")
}

impl Case {
    fn new(random: &mut fastrand::Rng) -> Self {
        let form = match random.u8(..20) {
            0..12 => Form::Header,
            12..16 => Form::Query,
            16 => Form::WebSocket,
            17 => Form::ChunksAndTrailer,
            _ => Form::Chunks,
        };
        let service = match form {
            Form::Header | Form::Query => {
                random.choice(["dynamodb", "s3", "logs", "monitoring", "iotdata", "execute-api"]).expect("not empty")
            }
            Form::WebSocket => "iotdevicegateway",
            Form::Chunks | Form::ChunksAndTrailer => "s3",
        };
        let (s3, in_query) = (service == "s3", form == Form::Query);
        let mut headers = vec![("Host".to_owned(), format!("{}.example.com", word(random)))];
        for _ in 0..if form == Form::WebSocket { 0 } else { random.usize(..6) } {
            // Few names, so that some come twice, in different case.
            let name = *random
                .choice(&[
                    "X-Amz-Target",
                    "x-amz-target",
                    "X-Amz-Meta-A",
                    "x-b",
                    "Content-Type",
                    "User-Agent",
                    "Connection",
                ])
                .expect("not empty");
            headers.push((name.into(), value(random)));
        }
        Self {
            method: match form {
                Form::WebSocket => "GET",
                _ => random.choice(["GET", "POST", "PUT", "DELETE", "HEAD"]).expect("not empty"),
            },
            target: match form {
                Form::WebSocket => "/mqtt".to_owned(),
                _ => format!("{}{}", path(random, s3), query(random, in_query)),
            },
            headers,
            body: match form {
                // botocore takes the body of a request that is signed in its query for a form.
                Form::Query | Form::WebSocket => String::new(),
                Form::Header => text(random, 40),
                Form::Chunks | Form::ChunksAndTrailer => {
                    let size = [0, 1, 65_535, 65_536, 65_537, 131_072][random.usize(..6)] + random.usize(..100);
                    text(random, 40).chars().filter(char::is_ascii).chain(['.']).cycle().take(size).collect()
                }
            },
            id: format!("AKID{}", word(random)),
            secret: text(random, 40),
            token: random.bool().then(|| format!("t+/={}", word(random))),
            region: random.choice(["us-east-1", "eu-central-1", "cn-north-1"]).expect("not empty"),
            service,
            time: random.i64(946_684_800..4_102_444_800),
            expires: random.u64(1..604_800),
            form,
        }
    }

    fn to_json(&self) -> Value {
        let host = &self.headers[0].1;
        json!({
            "method": self.method, "url": format!("http://{host}{}", self.target), "headers": self.headers,
            "body": self.body, "id": self.id, "secret": self.secret, "token": self.token, "region": self.region,
            "service": self.service, "time": self.time, "expires": self.expires, "s3": self.service == "s3",
            "form": format!("{:?}", self.form),
        })
    }

    /// What the script says about the case, made by our code.
    fn sign(&self) -> String {
        let s3 = self.service == "s3";
        let options = if s3 { sigv4::Options::s3() } else { sigv4::Options::default() };
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let payload = match self.form == Form::Query && s3 {
            true => sigv4::Payload::Unsigned,
            false => sigv4::Payload::Bytes(self.body.as_bytes()),
        };
        let request = sigv4::Request { method: self.method, target: &self.target, headers: &headers, payload };
        let scope = sigv4::Scope { region: self.region, service: self.service };
        let mut credentials = Credentials::new(&self.id, &self.secret);
        if let Some(token) = &self.token {
            credentials = credentials.with_token(token);
        }
        let now = self.time * 1000;
        match self.form {
            Form::Header => authorization(sigv4::sign(&request, &credentials, &scope, now, &options)),
            Form::Query => {
                let expires = Duration::from_secs(self.expires);
                let target = sigv4::presign(&request, &credentials, &scope, now, expires, &options);
                target.rsplit("X-Amz-Signature=").next().unwrap_or_default().into()
            }
            Form::WebSocket => {
                let signer = WebSocketSigner::new(Provider::Static(credentials), self.region);
                smol::block_on(signer.target(headers[0].1, now)).expect("the credentials do not expire")
            }
            Form::Chunks | Form::ChunksAndTrailer => {
                let (length, trailer) = (self.body.len() as u64, self.form == Form::ChunksAndTrailer);
                let (added, signer) = sign_chunked(&request, &credentials, &scope, now, length, trailer);
                let mut chunks = SignedChunks::new(self.body.as_bytes(), length, signer, trailer);
                let mut wire = Vec::new();
                smol::block_on(chunks.read_to_end(&mut wire)).expect("the body is as long as it is");
                let hash = ring::digest::digest(&ring::digest::SHA256, &wire);
                format!("{} {hash:?}", authorization(added)).replace("SHA256:", "")
            }
        }
    }
}

fn authorization(added: Vec<(&'static str, String)>) -> String {
    added.into_iter().find(|(name, _)| *name == "Authorization").expect("it is signed").1
}

fn word(random: &mut fastrand::Rng) -> String {
    (0..random.usize(1..12)).map(|_| random.alphanumeric().to_ascii_lowercase()).collect()
}

/// Text with all that makes trouble in URLs.
fn text(random: &mut fastrand::Rng, limit: usize) -> String {
    const LETTERS: &str = "aZ09-_.~ !\"#$%&'()*+,/:;<=>?@[]^`{|}\u{e4}\u{df}\u{20ac}\u{1f600}";
    let letters: Vec<char> = LETTERS.chars().collect();
    (0..random.usize(..limit)).map(|_| letters[random.usize(..letters.len())]).collect()
}

/// A header value with blanks where they do not count.
fn value(random: &mut fastrand::Rng) -> String {
    let blank = |random: &mut fastrand::Rng| *random.choice(&["", " ", "  ", "\t ", "   "]).expect("not empty");
    let mut value = blank(random).to_owned();
    for _ in 0..random.usize(..4) {
        let part: String = text(random, 8).split_whitespace().collect();
        value.push_str(&part);
        value.push_str(blank(random));
    }
    value
}

fn path(random: &mut fastrand::Rng, s3: bool) -> String {
    let mut path = String::new();
    for _ in 0..random.usize(..5) {
        path.push('/');
        match random.u8(..8) {
            0 => path.push_str(random.choice([".", "..", "", "..."]).expect("not empty")),
            // Characters that may stand in a path as they are; S3 encodes them, and botocore leaves that to its caller.
            1 if !s3 => path.push_str("a:b@c!$&'()*+,;=d"),
            _ => path.push_str(&percent_encoded(&text(random, 10))),
        }
    }
    if path.is_empty() || random.bool() {
        path.push('/');
    }
    path
}

/// botocore forgets all but the first of several parameters of one name when it signs a query.
fn query(random: &mut fastrand::Rng, unique: bool) -> String {
    let mut pairs: Vec<String> = Vec::new();
    for number in 0..random.usize(..5) {
        let distinction = if unique { number.to_string() } else { String::new() };
        let name = format!("{}{distinction}", percent_encoded(&text(random, 4)));
        match name.is_empty() {
            true => pairs.push(format!("k={}", percent_encoded(&text(random, 8)))),
            false => pairs.push(format!("{name}={}", percent_encoded(&text(random, 8)))),
        }
    }
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
