//! Why the agent could not start.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::{device, logs};

/// Why the agent could not start. The text tells what to do.
#[derive(Debug)]
pub enum Error {
    /// The log could not be started.
    Log(logs::Error),
    /// A directory of the agent could not be made.
    Directory(PathBuf, io::Error),
    /// The device has no identity.
    Identity(device::Error),
    /// The models of the database are wrong.
    #[cfg(feature = "db")]
    Schema(crate::db::Error),
    /// A listener of the web server or the certificate is wrong.
    #[cfg(feature = "web")]
    Web(crate::web::Error),
    /// The device's own certificate could not be made.
    #[cfg(feature = "web")]
    Certificate(PathBuf, io::Error),
    /// Certificate or key of the web server can not be used.
    #[cfg(feature = "web")]
    Tls(crate::net::Error),
    /// The sandbox could not be entered.
    Sandbox(crate::system::sandbox::Error),
    /// Signals can not be received.
    Signals(io::Error),
}

impl Error {
    /// Whether the configuration is to blame, rather than the machine.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Sandbox(error) => error.is_configuration(),
            #[cfg(feature = "db")]
            Self::Schema(_) => true,
            #[cfg(feature = "web")]
            Self::Tls(_) => true,
            #[cfg(feature = "web")]
            Self::Web(crate::web::Error::Setting(_)) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(error) => write!(f, "the log: {error}"),
            Self::Directory(path, error) => {
                write!(f, "{}: the directory can not be made: {error}; choose another by --state DIR", path.display())
            }
            Self::Identity(error) => error.fmt(f),
            #[cfg(feature = "db")]
            Self::Schema(error) => error.fmt(f),
            #[cfg(feature = "web")]
            Self::Web(error) => error.fmt(f),
            #[cfg(feature = "web")]
            Self::Certificate(path, error) => {
                write!(f, "{}: the device's own certificate can not be made: {error}", path.display())
            }
            #[cfg(feature = "web")]
            Self::Tls(error) => error.fmt(f),
            Self::Sandbox(error) => error.fmt(f),
            Self::Signals(error) => write!(f, "signals can not be received: {error}"),
        }
    }
}

impl std::error::Error for Error {}
