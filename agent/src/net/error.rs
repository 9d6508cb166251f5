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
    /// The proxy's answer.
    Proxy,
    /// The TLS handshake.
    Handshake,
}

/// Why a proxy did not let us through.
#[derive(Debug)]
pub enum Fault {
    /// It wants a user name and a password, or others than it got.
    Login,
    /// The host cannot be said in the proxy's protocol.
    Host(String),
    /// The user name or the password has more than 255 bytes, which SOCKS5 cannot say.
    TooLong,
    /// The status of its answer to CONNECT, and the reason it gave.
    Status(u16, String),
    /// The reply of a SOCKS5 proxy (RFC 1928 §6).
    Reply(u8),
    /// It does not speak HTTP/1.
    NotHttp,
    /// It does not speak SOCKS5.
    NotSocks,
    /// It closed the connection.
    Hangup,
    /// Reading or writing failed.
    Io(io::Error),
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
    /// The proxy did not let us through.
    Proxy {
        /// The proxy, without the password.
        proxy: String,
        /// What is wrong.
        fault: Fault,
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
            Self::Proxy { fault, .. } => {
                matches!(fault, Fault::Status(500.., _) | Fault::Reply(1 | 3..=6) | Fault::Hangup | Fault::Io(_))
            }
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
                    Step::Proxy => "no answer of the proxy",
                    Step::Handshake => "no end of the TLS handshake with",
                };
                write!(f, "{what} {host} port {port} within {after:?}; check the network or allow more time")
            }
            Self::Proxy { proxy, fault } => write!(f, "the proxy {proxy} {fault}"),
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

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Login => f.write_str("does not take this user name and password; check the login for the proxy"),
            Self::Host(host) => write!(f, "cannot be asked for '{}'; check the name", host.escape_debug()),
            Self::TooLong => f.write_str("takes user names and passwords of at most 255 bytes"),
            Self::Status(status, reason) => {
                write!(f, "refused: {status} {reason}; check that it allows this host and port")
            }
            Self::Reply(reply) => {
                let reason = match reply {
                    1 => "it failed",
                    2 => "its rules do not allow this host and port",
                    3 => "it cannot reach the network",
                    4 => "it cannot reach the host, or does not know its address",
                    5 => "the host refused the connection",
                    6 => "the host did not answer in time",
                    7 => "it does not make connections",
                    8 => "it does not know this kind of address",
                    _ => "for a reason that SOCKS5 does not name",
                };
                write!(f, "refused: {reason} (reply {reply})")
            }
            Self::NotHttp => f.write_str("does not answer in HTTP; check its kind and port"),
            Self::NotSocks => f.write_str("does not answer in SOCKS5; check its kind and port"),
            Self::Hangup => f.write_str("closed the connection; check that it allows this host and port"),
            Self::Io(error) => write!(f, "cannot be used: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Resolve { source, .. }
            | Self::Connect { source, .. }
            | Self::Handshake { source, .. }
            | Self::File { source, .. }
            | Self::Proxy { fault: Fault::Io(source), .. } => Some(source),
            _ => None,
        }
    }
}
