//! Why the agent does not start without its sandbox.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why the sandbox could not be entered. The text tells what to do.
#[derive(Debug)]
pub enum Error {
    /// Started as root, and there is no such user.
    NoUser(String),
    /// Started as root, and there is no such group.
    NoGroup(String),
    /// Started as root in profile prod, without a sandbox.
    Root,
    /// A directory is one that other programs have, too.
    Shared(PathBuf),
    /// A directory could not be made or given to the user.
    Directory(PathBuf, io::Error),
    /// A step that does not fail on a sound system.
    Step(&'static str, io::Error),
}

impl Error {
    /// Whether the configuration is to blame, rather than the machine.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, Self::Directory(..) | Self::Step(..))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUser(name) => write!(
                f,
                "started as root, and there is no user `{name}` to become: make it (`adduser -S -D -H {name}` of BusyBox, \
                 `useradd -r {name}`, or `systemd-sysusers`), or name another by sandbox.user"
            ),
            Self::NoGroup(name) => write!(
                f,
                "started as root, and there is no group `{name}` to become: make it (`addgroup -S {name}` of BusyBox, \
                 `groupadd -r {name}`, or `systemd-sysusers`), or name another by sandbox.group"
            ),
            Self::Root => f.write_str(
                "started as root in profile prod with sandbox.enable: false; start it as another user, remove that key, or \
                 say sandbox.user: 'root' beside it when root is really meant",
            ),
            Self::Shared(path) => write!(
                f,
                "{}: belongs to root and is no directory for the agent alone, so it is not given to its user; name another \
                 by --state DIR or directories.run",
                path.display()
            ),
            Self::Directory(path, error) => {
                write!(f, "{}: the directory can not be made or given to the agent's user: {error}", path.display())
            }
            Self::Step(step, error) => write!(f, "the sandbox could not be entered: {step}: {error}"),
        }
    }
}

impl std::error::Error for Error {}
