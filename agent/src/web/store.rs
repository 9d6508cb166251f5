//! Files that clients write and remove: PUT and DELETE.
//!
//! A file is there as a whole or not at all: it is received under a hidden name in its directory, made durable, and renamed.
//! Hidden names are never served. What a power cut leaves of them is removed at the next start.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use smol::io::AsyncReadExt;

use super::files::open;
use super::preconditions::{Current, Verdict, is_conditional, judge};
use super::validators::modified;
use super::{Error, Exchange, leftovers};
use crate::http1;

/// Bytes gathered before they are written.
const BLOCK: u64 = 64 * 1024;

/// Writes the request's body to the file: 201 when it is new, 204 when it was replaced.
pub(super) async fn put(exchange: &mut Exchange, path: &str) -> Result<(), Error> {
    if exchange.header("content-range").is_some() {
        return Err(Error::status(400, "a part of a file cannot be written (RFC 9110 §14.5)"));
    }
    if exchange.header("content-encoding").is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        return Err(Error::status(415, "send the file without Content-Encoding"));
    }
    let limit = exchange.shared.settings.limits.upload;
    if exchange.transfer.borrow().remaining().is_some_and(|length| length > limit) {
        return Err(http1::Error::BodyTooLarge.into());
    }
    let place = Place::find(exchange, path).map_err(|error| match error {
        Error::Status { status: 404, .. } => Error::status(409, "there is no such directory"),
        error => error,
    })?;
    place.exists()?;
    check(exchange, path).await?;

    let draft = Draft::create(&place)?;
    receive(exchange, draft.file.clone(), limit).await?;
    // Someone else may have changed the file in the meantime.
    check(exchange, path).await?;
    let existed = place.exists()?;
    draft.keep()?;
    exchange.shared.changed();
    place.sync().await?;
    exchange.set_status(if existed { 204 } else { 201 });
    exchange.send("", "").await
}

/// Removes the file: 204.
pub(super) async fn delete(exchange: &mut Exchange, path: &str) -> Result<(), Error> {
    let place = Place::find(exchange, path)?;
    if !place.exists()? {
        return Err(Error::status(404, "there is nothing here"));
    }
    check(exchange, path).await?;
    unlinkat(&place.directory, place.name.as_str(), UnlinkatFlags::NoRemoveDir).map_err(refused)?;
    exchange.shared.changed();
    place.sync().await?;
    exchange.set_status(204);
    exchange.send("", "").await
}

/// Refuses the request when its conditions do not hold.
async fn check(exchange: &Exchange, path: &str) -> Result<(), Error> {
    if !is_conditional(exchange.headers()) {
        return Ok(());
    }
    let verdict = match open(exchange, path) {
        Ok((file, metadata)) if metadata.is_file() => {
            let tag = exchange.local.etags.tag(&file, &metadata).await?;
            let current = Current { tag: &tag, modified: modified(&metadata) };
            judge(exchange.method(), exchange.headers(), Some(current))
        }
        _ => judge(exchange.method(), exchange.headers(), None),
    };
    match verdict {
        Verdict::Go => Ok(()),
        _ => Err(Error::status(412, "the file is another one by now")),
    }
}

/// Receives the body into the file and makes it durable. Writing waits for the disk, so it is done elsewhere, and only
/// while there is something to write: a slow client keeps no thread.
async fn receive(exchange: &Exchange, file: Arc<File>, limit: u64) -> Result<(), Error> {
    let mut body = exchange.body();
    let (mut block, mut left) = (Vec::new(), limit);
    loop {
        let wanted = BLOCK.min(left.saturating_add(1));
        let received = (&mut body).take(wanted).read_to_end(&mut block).await? as u64;
        left = left.checked_sub(received).ok_or(http1::Error::BodyTooLarge)?;
        if received == 0 {
            break;
        }
        let out = file.clone();
        let written = smol::unblock(move || out.as_ref().write_all(&block).map(|()| block));
        block = written.await.map_err(failed)?;
        block.clear();
    }
    smol::unblock(move || file.sync_all()).await.map_err(failed)
}

/// A name in a directory beneath the root, and the directory held open: what happens to it is beneath the root too.
struct Place {
    directory: Arc<File>,
    name: String,
}

impl Place {
    fn find(exchange: &Exchange, path: &str) -> Result<Self, Error> {
        let (directory, name) = path.rsplit_once('/').unwrap_or((".", path));
        if name.is_empty() {
            return Err(is_directory());
        }
        match open(exchange, directory)? {
            (directory, metadata) if metadata.is_dir() => {
                Ok(Self { directory: Arc::new(directory), name: name.to_owned() })
            }
            _ => Err(Error::status(404, "there is nothing here")),
        }
    }

    /// Whether there is a file, or a link, which counts as one.
    fn exists(&self) -> Result<bool, Error> {
        match fstatat(&self.directory, self.name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
                SFlag::S_IFREG | SFlag::S_IFLNK => Ok(true),
                _ => Err(is_directory()),
            },
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(refused(error)),
        }
    }

    /// Makes names durable.
    async fn sync(&self) -> Result<(), Error> {
        let directory = self.directory.clone();
        smol::unblock(move || directory.sync_all()).await.map_err(failed)
    }
}

/// A file that is being received. It is removed unless it is kept.
struct Draft<'a> {
    place: &'a Place,
    name: String,
    file: Arc<File>,
    kept: bool,
}

impl<'a> Draft<'a> {
    fn create(place: &'a Place) -> Result<Self, Error> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        loop {
            let name = leftovers::name();
            let file =
                openat(&place.directory, name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(refused)?;
            let file = Arc::new(File::from(file));
            if leftovers::hold(&file) {
                return Ok(Self { place, name, file, kept: false });
            }
        }
    }

    /// Gives the file its name, in place of what has it.
    fn keep(mut self) -> Result<(), Error> {
        let Place { directory, name } = self.place;
        renameat(directory, self.name.as_str(), directory, name.as_str()).map_err(refused)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let _ = unlinkat(&self.place.directory, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

fn is_directory() -> Error {
    Error::status(409, "this is no file")
}

fn refused(error: Errno) -> Error {
    failed(error.into())
}

/// What went wrong on the disk, as far as the client can do something about it.
fn failed(error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => Error::status(507, "there is no space for this"),
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => Error::status(403, "this cannot be changed"),
        Some(libc::EMFILE | libc::ENFILE) => Error::status(503, "too many files are open, try again"),
        Some(libc::ENAMETOOLONG) => Error::status(400, "the name is too long"),
        Some(libc::EISDIR | libc::ENOTDIR) => is_directory(),
        Some(libc::ENOENT) => Error::status(404, "there is nothing here"),
        _ => Error::failed(error),
    }
}
