//! What can go wrong with the identity of the device.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why the device has no identity.
#[derive(Debug)]
pub enum Error {
    /// A file of the state directory cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of the state directory cannot be written.
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file with the identity is there and has none. No new identity is made: the old one is known to the cloud.
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The id of the configuration cannot serve as a name in AWS IoT or on the MQTT broker.
    Id {
        /// The id as configured.
        id: String,
    },
    /// The kernel gives no random numbers.
    Random {
        /// What the kernel said.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => {
                write!(f, "cannot read {}: {source}; check the owner and mode of the state directory", path.display())
            }
            Self::Write { path, source } => {
                write!(f, "cannot write {}: {source}; check that the state directory is writable", path.display())
            }
            Self::Damaged { path } => write!(
                f,
                "{} does not hold the device's id as {{id: '…'}}; restore it, or remove the file to give the device a new \
                 identity",
                path.display()
            ),
            Self::Id { id } => {
                write!(f, "device.id '{id}' cannot be used: expected 1 to 128 letters, digits, '-', '_' or ':'")
            }
            Self::Random { source } => write!(f, "cannot read /dev/urandom to make the device's id: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } | Self::Random { source } => Some(source),
            Self::Damaged { .. } | Self::Id { .. } => None,
        }
    }
}
