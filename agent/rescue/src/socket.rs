//! The socket that clients connect to: passed by systemd, or made.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};

use crate::privileges::Identity;

/// Only we and the group may connect.
const CLOSED: u32 = 0o117;

/// The listener, not blocking. Made as root, it belongs to whom we become.
pub fn listen(path: &Path, owner: Option<&Identity>) -> Result<UnixListener, String> {
    let listener = match ioto_wire::passed() {
        Some(listener) => listener.map_err(|error| format!("the socket that was passed: {error}")),
        None => make(path, owner).map_err(|error| format!("{}: {error}", path.display())),
    }?;
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    Ok(listener)
}

fn make(path: &Path, owner: Option<&Identity>) -> io::Result<UnixListener> {
    remove_stale(path)?;
    let mask = rustix::process::umask(Mode::from_raw_mode(CLOSED));
    let listener = UnixListener::bind(path);
    rustix::process::umask(mask);
    let listener = listener?;
    if let Some(Identity { user, group }) = owner {
        // The directory belongs to another user: what has the name now must be a socket without another name, not a link to
        // anything, so that no other program's is given away.
        let entry = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let found = rustix::fs::fstat(&entry)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Socket || found.st_nlink != 1 {
            return Err(io::Error::new(ErrorKind::InvalidInput, "somebody replaced it"));
        }
        let (user, group) = (Uid::from_raw(user.uid.as_raw()), Gid::from_raw(group.as_raw()));
        rustix::fs::chownat(&entry, "", Some(user), Some(group), AtFlags::EMPTY_PATH)?;
    }
    Ok(listener)
}

/// Removes a socket at which nobody listens any more; one that is answered, or anything else, stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "it is there and not a socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another ioto-rescue listens there")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            let same = |now: &fs::Metadata| (now.dev(), now.ino()) == (found.dev(), found.ino());
            match fs::symlink_metadata(path) {
                Ok(now) if same(&now) => fs::remove_file(path),
                _ => Ok(()),
            }
        }
        Err(error) => Err(error),
    }
}
