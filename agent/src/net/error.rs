//! What can go wrong between us and a peer, before the first byte of a protocol.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A step of making a connection; each has its own deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Asking the name server for the addresses of a host.
    Resolve,
    /// The TCP handshake.
    Connect,
    /// The TLS handshake.
    Handshake,
}

/// Why there is no connection, or no TLS configuration to make one with.
#[derive(Debug)]
pub enum Error {
    /// The name server knows no address of the host, or did not answer.
    Resolve {
        /// The host as asked for.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No address of the host took the connection; `source` is the refusal of the last one.
    Connect {
        /// The host as asked for.
        host: String,
        /// The port as asked for.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// A step took longer than it may.
    Timeout {
        /// The host as asked for.
        host: String,
        /// The port as asked for.
        port: u16,
        /// What did not come to its end.
        step: Step,
        /// How long we waited.
        after: Duration,
    },
    /// The host is neither a DNS name nor an IP address, so no certificate can be valid for it.
    Name {
        /// The host as asked for.
        host: String,
    },
    /// The TLS handshake failed: the peer's certificate was refused, ours was, or the peer does not speak TLS.
    Handshake {
        /// The host as asked for.
        host: String,
        /// What rustls or the kernel said.
        source: io::Error,
    },
    /// A certificate or key file cannot be read.
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file was read and has no usable PEM section of the wanted kind.
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for, as "certificate".
        wanted: &'static str,
    },
    /// Certificate and key cannot serve as the client's identity.
    Identity {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The reason, as rustls gives it.
        reason: String,
    },
    /// A server's TLS cannot be set up; the text says why.
    Tls(String),
    /// None of the usual files with the system's roots is there.
    NoRoots,
}

impl Error {
    /// Whether trying again later can help although nobody changes anything here.
    ///
    /// A refused certificate, a wrong name and an unreadable file stay as they are; everything else is the weather.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Resolve { .. } | Self::Connect { .. } | Self::Timeout { .. } => true,
            Self::Handshake { source, .. } => source.kind() != io::ErrorKind::InvalidData,
            Self::Name { .. }
            | Self::File { .. }
            | Self::Pem { .. }
            | Self::Identity { .. }
            | Self::Tls(_)
            | Self::NoRoots => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { host, source } => {
                write!(f, "cannot find the address of '{host}': {source}; check the name and the device's DNS")
            }
            Self::Connect { host, port, source } => {
                write!(f, "cannot connect to {host} port {port}: {source}; check that it runs and can be reached")
            }
            Self::Timeout { host, port, step, after } => {
                let what = match step {
                    Step::Resolve => "the name server gave no answer about",
                    Step::Connect => "no connection to",
                    Step::Handshake => "no end of the TLS handshake with",
                };
                write!(f, "{what} {host} port {port} within {after:?}; check the network or allow more time")
            }
            Self::Name { host } => {
                write!(f, "'{host}' is neither a DNS name nor an IP address, TLS needs one to check the certificate")
            }
            Self::Handshake { host, source } if source.kind() == io::ErrorKind::InvalidData => write!(
                f,
                "no secure connection to {host}: {source}; check the device's clock and that the authority file has the \
                 root of that server"
            ),
            Self::Handshake { host, source } => {
                write!(f, "no secure connection to {host}: {source}; check that this port speaks TLS")
            }
            Self::File { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::Pem { path, wanted } => {
                write!(f, "{} has no usable {wanted}; a PEM file with one is needed", path.display())
            }
            Self::Identity { certificate, reason } => {
                write!(f, "the certificate {} cannot be used with its key: {reason}", certificate.display())
            }
            Self::Tls(text) => f.write_str(text),
            Self::NoRoots => f.write_str(
                "no file with the system's root certificates; install ca-certificates, name an authority file, or set \
                 SSL_CERT_FILE",
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Resolve { source, .. }
            | Self::Connect { source, .. }
            | Self::Handshake { source, .. }
            | Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
