//! Why a transfer failed, with the exit status that curl has for it.

use std::fmt;
use std::io;

use ioto::fetch::{self, Error};
use ioto::{http1, net};

/// A transfer that failed.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub status: u8,
    text: String,
}

impl Failure {
    /// Bad usage.
    pub const USAGE: u8 = 2;
    /// Nothing at that path, or not as asked, when the caller wants that to fail (`--fail`).
    pub const REFUSED: u8 = 22;
    /// The file cannot be written.
    pub const WRITE: u8 = 23;
    /// What is to be sent cannot be read.
    pub const READ: u8 = 26;
    /// The server does not go on in the middle.
    pub const RANGE: u8 = 33;

    /// With this exit status.
    pub fn new(status: u8, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// Bad usage.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(Self::USAGE, text)
    }

    /// A file that cannot be read.
    pub fn read(path: &str, error: &io::Error) -> Self {
        Self::new(Self::READ, format!("cannot read {path}: {error}"))
    }

    /// What a stream of the client ended with.
    pub fn stream(error: io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => error.into(),
            Err(error) => Self::new(56, error.to_string()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Url { .. } => 3,
            Error::Connect(source) => connect_status(source),
            Error::Broken { .. } => 56,
            Error::Response { source: http1::Error::Truncated, .. } => 18,
            Error::Response { .. } => 8,
            Error::Timeout { .. } => 28,
            Error::Redirects { .. } => 47,
            Error::Body(_) => Self::READ,
            Error::Encoding { .. } => 61,
            Error::Login { .. } => 67,
            Error::Header { .. } | Error::Unsendable(_) => Self::USAGE,
            _ => 1,
        };
        Self::new(status, error.to_string())
    }
}

#[cfg(feature = "aws")]
impl From<ioto::aws::Error> for Failure {
    fn from(error: ioto::aws::Error) -> Self {
        match error {
            ioto::aws::Error::Fetch(error) => error.into(),
            error => Self::usage(error.to_string()),
        }
    }
}

fn connect_status(error: &net::Error) -> u8 {
    match error {
        net::Error::Resolve { .. } => 6,
        net::Error::Connect { .. } => 7,
        net::Error::Timeout { .. } => 28,
        net::Error::Proxy { .. } => 97,
        net::Error::Handshake { source, .. } => handshake_status(source),
        net::Error::Identity { .. } => 58,
        net::Error::NoRoots | net::Error::Pem { .. } | net::Error::File { .. } => 77,
        _ => 35,
    }
}

fn handshake_status(error: &io::Error) -> u8 {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(_)) => 60,
        // The verifier of pins says it so.
        Some(rustls::Error::General(_)) => 90,
        _ => 35,
    }
}

/// Whether the server closed the connection before it said anything.
pub fn is_silence(error: &fetch::Error, received: u64) -> bool {
    matches!(error, Error::Response { source: http1::Error::Truncated, .. }) && received == 0
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
