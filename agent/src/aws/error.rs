//! What can go wrong with a call to AWS.

use std::fmt;

use serde_json::Value;

use super::api::checked_body;
use super::retry::Fault;
use crate::{fetch, net};

/// Codes by which services ask for patience (botocore, `data/_retry.json`, and the DynamoDB Developer Guide, "Error
/// handling with DynamoDB").
const THROTTLED: [&str; 13] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottledException",
    "TooManyRequestsException",
    "ProvisionedThroughputExceededException",
    "TransactionInProgressException",
    "ReplicatedWriteConflictException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "LimitExceededException",
    "SlowDown",
    "PriorRequestNotComplete",
];

/// Codes of a service that failed itself.
const FAILED: [&str; 5] =
    ["RequestTimeout", "RequestTimeoutException", "InternalServerError", "InternalFailure", "ServiceUnavailable"];

/// Codes under which services refuse a signature with a wrong time; some stand for other faults too.
const SKEWED: [&str; 6] = [
    "RequestTimeTooSkewed",
    "RequestExpired",
    "RequestInTheFuture",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "AuthFailure",
];

/// Codes for temporary credentials that have come to their end, also for those that were revoked (AWS API references, "Common
/// Errors").
const UNKNOWN_KEY: [&str; 5] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
];

/// Characters of a code or message that are kept: errors go to logs and status, and may be kept for many rows.
const TEXT: usize = 400;

/// Why a call to AWS failed.
#[derive(Debug)]
pub enum Error {
    /// The service refused or failed.
    Service {
        /// The HTTP status.
        status: u16,
        /// The code of the error without namespace, as `ConditionalCheckFailedException`.
        code: String,
        /// What the service says about it.
        message: String,
        /// The body of the answer when it is JSON: with `ReturnValuesOnConditionCheckFailure` it holds the item.
        body: Value,
    },
    /// There was no answer.
    Fetch(fetch::Error),
    /// The answer is not what the service sends.
    Answer(String),
    /// The answer was changed on its way: its checksum `x-amz-crc32` is wrong.
    Checksum,
    /// No access key is configured.
    NoCredentials,
    /// The temporary access key is no longer valid.
    Expired {
        /// When it expired.
        at: String,
    },
    /// `aws.endpoint` is no URL that calls can be sent to.
    Endpoint(String),
}

impl Error {
    /// Whether trying again later can help although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Service { status, code, .. } => {
                matches!(status, 429 | 500 | 502 | 503 | 504) || self.is_throttled() || FAILED.contains(&code.as_str())
            }
            Self::Fetch(error) => error.is_transient(),
            Self::Checksum => true,
            _ => false,
        }
    }

    /// Whether the service asks for patience.
    pub fn is_throttled(&self) -> bool {
        matches!(self, Self::Service { status, code, .. } if *status == 429 || THROTTLED.contains(&code.as_str()))
    }

    /// Whether a wrong time of the signature can be the reason.
    pub(super) fn may_be_skew(&self) -> bool {
        self.code().is_some_and(|code| SKEWED.contains(&code))
    }

    /// Whether the service does not know the access key, or not any more.
    pub(super) fn is_unknown_key(&self) -> bool {
        self.code().is_some_and(|code| UNKNOWN_KEY.contains(&code))
    }

    /// The code of the service's error, if it is one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Service { code, .. } => Some(code),
            _ => None,
        }
    }

    /// What an attempt that ended so means for the next.
    pub(super) fn fault(&self) -> Fault {
        let timeout = match self {
            Self::Fetch(fetch::Error::Timeout { .. }) => true,
            Self::Fetch(fetch::Error::Connect(source)) => matches!(source, net::Error::Timeout { .. }),
            _ => false,
        };
        Fault { transient: self.is_transient(), timeout, ..Fault::default() }
    }

    /// The error that a response tells of which is no success; its body is read, up to 1 MiB.
    pub async fn refusal(response: fetch::Response) -> Self {
        let status = response.status();
        let kind = response.header("x-amzn-errortype").map(str::to_owned);
        match checked_body(response).await {
            Ok(body) => Self::service(status, kind.as_deref(), &body),
            Err(error) => error,
        }
    }

    /// Reads the body of an error: JSON as most services write it, XML as S3 and emulators do.
    ///
    /// `kind` is the header `x-amzn-errortype`, which some services use instead.
    pub(super) fn service(status: u16, kind: Option<&str>, body: &[u8]) -> Self {
        let json: Option<Value> = serde_json::from_slice(body).ok();
        let text = String::from_utf8_lossy(body);
        let of_json = |names: &[&str]| {
            let object = json.as_ref()?.as_object()?;
            names.iter().find_map(|name| object.get(*name)?.as_str()).map(str::to_owned)
        };
        let code = of_json(&["__type", "code", "Code"])
            .or_else(|| element(&text, "Code"))
            .or_else(|| kind.map(str::to_owned))
            .unwrap_or_default();
        let message = of_json(&["message", "Message", "errorMessage"])
            .or_else(|| element(&text, "Message"))
            .unwrap_or_else(|| cut(&text));
        let (code, message) = (cut(bare_code(&code)), cut(&message));
        Self::Service { status, code, message, body: json.unwrap_or(Value::Null) }
    }
}

/// `com.amazonaws.dynamodb.v20120810#Name` and `Name:http://…` are `Name`.
fn bare_code(code: &str) -> &str {
    let code = code.rsplit('#').next().unwrap_or_default();
    code.split(':').next().unwrap_or_default().trim()
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT).collect()
}

/// The text of the first XML element of that name.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    Some(plain.iter().fold(value.trim().to_owned(), |text, (entity, plain)| text.replace(entity, plain)))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { status, code, message, .. } => {
                let code = if code.is_empty() { "an error without a code" } else { code };
                write!(f, "AWS answers {status} {code}: {message}")
            }
            Self::Fetch(source) => source.fmt(f),
            Self::Answer(what) => write!(f, "the answer of AWS is not understood: {what}"),
            Self::Checksum => f.write_str("the answer of AWS was damaged on its way; try again"),
            Self::NoCredentials => f.write_str(
                "no AWS credentials; set aws.credentials, or aws.accessKeyId and aws.secretAccessKey, or AWS_ACCESS_KEY_ID \
                 and AWS_SECRET_ACCESS_KEY",
            ),
            Self::Expired { at } => write!(f, "the AWS credentials expired at {at}; provide new ones"),
            Self::Endpoint(reason) => write!(f, "aws.endpoint: {reason}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Fetch(source) => Some(source),
            _ => None,
        }
    }
}

impl From<fetch::Error> for Error {
    fn from(error: fetch::Error) -> Self {
        Self::Fetch(error)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parts(error: &Error) -> (&str, &str) {
        match error {
            Error::Service { code, message, .. } => (code, message),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn errors_in_json_are_read() {
        let body = br#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
            "message":"The conditional request failed","Item":{"pk":{"S":"x"}}}"#;
        let error = Error::service(400, None, body);
        assert_eq!(parts(&error), ("ConditionalCheckFailedException", "The conditional request failed"));
        assert!(matches!(&error, Error::Service { body, .. } if body["Item"]["pk"]["S"] == "x"));
        assert!(!error.is_transient());
        let error = Error::service(400, None, br#"{"__type":"Throttling","Message":"Slow down"}"#);
        assert!(error.is_transient() && error.is_throttled());
    }

    #[test]
    fn long_codes_and_messages_are_cut_because_many_errors_may_be_kept() {
        let long = "\u{fc}".repeat(100_000);
        for body in [format!(r#"{{"__type":"{long}","message":"{long}"}}"#), format!("<Code>{long}</Code>{long}")] {
            let error = Error::service(400, None, body.as_bytes());
            assert!(error.to_string().len() < 2000, "{}", error.to_string().len());
        }
    }

    #[test]
    fn errors_in_xml_are_read() {
        let body = b"<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>a &lt;b&gt; &amp;amp;</Message></Error>";
        assert_eq!(parts(&Error::service(403, None, body)), ("SignatureDoesNotMatch", "a <b> &amp;"));
    }

    #[test]
    fn errors_without_a_body_have_their_code_in_the_header() {
        let error = Error::service(500, Some("InternalFailure:http://internal.amazon.com/"), b"");
        assert_eq!(parts(&error), ("InternalFailure", ""));
        assert!(error.is_transient());
        assert_eq!(parts(&Error::service(502, None, b"<html>Bad gateway")), ("", "<html>Bad gateway"));
        for body in [&b"[]"[..], b"null", b"\xff\xfe", b"{\"__type\":7}", b"<Code>open"] {
            assert_eq!(parts(&Error::service(400, None, body)).0, "");
        }
    }

    #[test]
    fn a_wrong_clock_can_be_the_reason_of_a_wrong_signature_only() {
        let of = |code: &str| Error::service(403, None, format!(r#"{{"__type":"{code}"}}"#).as_bytes());
        assert!(of("RequestTimeTooSkewed").may_be_skew() && of("SignatureDoesNotMatch").may_be_skew());
        assert!(!of("AccessDenied").may_be_skew() && !Error::Checksum.may_be_skew());
    }
}
