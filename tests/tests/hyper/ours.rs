//! The bytes of a connection read by our codec, the way the web server does.

use ioto::http1::{BodyDecoder, Error, Limits, RequestHead, Step, Version, parse_request};

use super::request::Request;

/// How the reading ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The connection closes after the last request, or there is no other.
    Clean,
    /// The last request is not complete.
    Incomplete,
    /// The next request is refused.
    Refused(Error),
}

/// The requests, each with its whole body, and why there is not another one.
pub fn requests(mut bytes: &[u8]) -> (Vec<Request>, End) {
    let limits = Limits::default();
    let mut served = Vec::new();
    while !bytes.is_empty() {
        let (head, length) = match parse_request(bytes, &limits) {
            Ok(Some(found)) => found,
            Ok(None) => return (served, End::Incomplete),
            Err(error) => return (served, End::Refused(error)),
        };
        bytes = &bytes[length..];
        match body(&head, bytes) {
            Ok(Some((payload, used))) => {
                bytes = &bytes[used..];
                let is_last = !head.keeps_alive();
                served.push(request(&head, payload));
                if is_last {
                    return (served, End::Clean);
                }
            }
            Ok(None) => return (served, End::Incomplete),
            Err(error) => return (served, End::Refused(error)),
        }
    }
    (served, End::Clean)
}

/// The payload, and the bytes that it took; nothing when it is not complete.
fn body(head: &RequestHead, bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Error> {
    let mut decoder = BodyDecoder::new(head.framing()?);
    let (mut payload, mut at) = (Vec::new(), 0);
    loop {
        match decoder.decode(&bytes[at..])? {
            Step::Payload { start, end } => {
                payload.extend_from_slice(&bytes[at + start..at + end]);
                at += end;
            }
            Step::End { used } => return Ok(Some((payload, at + used))),
            Step::More { .. } => return Ok(None),
        }
    }
}

fn request(head: &RequestHead, body: Vec<u8>) -> Request {
    let is_absolute = head.target != "*" && !head.target.starts_with('/');
    let mut path = head.path().to_owned();
    if let Some(query) = head.query() {
        path = format!("{path}?{query}");
    }
    Request::new(
        head.method.as_str(),
        head.authority().filter(|_| is_absolute),
        &path,
        head.version == Version::Http11,
        head.headers.iter().map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())),
        body,
    )
}
