//! The claim on the database file: its directory, its lock, whether it looks sound, and what becomes of a damaged one.

use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::Error;
use crate::sqlite::{beside, make_directory, make_file, was_left_open};

/// Damaged databases that are kept beside the new one. More would fill the disk of a device whose storage is dying.
const KEPT: u32 = 3;
/// What every SQLite file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Why a file should be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The process or the device stopped without closing it.
    NotClosed,
    /// The first bytes do not fit the file.
    Header,
    /// Damage was found in use.
    Failed,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Doubt::NotClosed => "it was not closed",
            Doubt::Header => "its header is wrong",
            Doubt::Failed => "it failed in use",
        })
    }
}

/// The right of this process to the file, until it is dropped.
pub(super) struct Claim {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Claim {
    /// Makes directory (0700) and file (0600) where they are missing, and locks the file against other processes.
    pub(super) fn stake(path: &Path) -> Result<Self, Error> {
        make_directory(path)
            .map_err(|source| Error::file("make the directory", path.parent().unwrap_or(path), source))?;
        let lock = beside(path, ".lock");
        let file = make_file(&lock).map_err(|source| Error::file("open", &lock, source))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => Error::InUse { path: path.into() },
            errno => Error::file("lock", &lock, errno.into()),
        })?;
        make_file(path).map_err(|source| Error::file("open", path, source))?;
        Ok(Self { path: path.into(), _lock: lock })
    }

    /// The database file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Why the file should be checked before it is used; `None` after a clean close.
    pub(super) fn doubt(&self) -> Option<Doubt> {
        if fs::exists(beside(&self.path, ".suspect")).unwrap_or(false) {
            Some(Doubt::Failed)
        } else if was_left_open(&self.path) {
            Some(Doubt::NotClosed)
        } else if !header_fits(&self.path).unwrap_or(false) {
            Some(Doubt::Header)
        } else {
            None
        }
    }

    /// Notes that the file is damaged, so that the next start checks it.
    pub(super) fn suspect(&self, error: &Error) {
        log::error!("{} is damaged, it will be checked at the next start: {error}", self.path.display());
        let marker = beside(&self.path, ".suspect");
        if let Err(error) = make_file(&marker) {
            log::error!("cannot write {}: {error}", marker.display());
        }
    }

    /// The file was checked and is sound.
    pub(super) fn trust(&self) {
        let _ = fs::remove_file(beside(&self.path, ".suspect"));
    }

    /// Renames the file and its log to `PATH.corrupt-N`, and makes an empty one.
    pub(super) fn set_aside(&self) -> Result<PathBuf, Error> {
        let name = |n: u32| beside(&self.path, &format!(".corrupt-{n}"));
        // The first are the most valuable: they were damaged after the longest life. The last makes room.
        let n = (1..KEPT).find(|&n| !fs::exists(name(n)).unwrap_or(true)).unwrap_or(KEPT);
        for suffix in ["", "-wal", "-shm"] {
            let (from, to) = (beside(&self.path, suffix), beside(&name(n), suffix));
            let moved = match suffix {
                "-shm" => fs::remove_file(&from),
                _ => fs::rename(&from, &to),
            };
            match moved {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(Error::file("set aside", &from, source));
                }
                Err(_) if suffix == "-wal" => drop(fs::remove_file(&to)),
                _ => {}
            }
        }
        self.trust();
        make_file(&self.path).map_err(|source| Error::file("make", &self.path, source))?;
        Ok(name(n))
    }
}

/// An empty file, or one that begins as SQLite's do and is as long as its header says (the number of pages at byte 28, their
/// size at byte 16: <https://sqlite.org/fileformat2.html#the_database_header>).
fn header_fits(path: &Path) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut header = [0; 100];
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(length == 0),
        Err(error) => return Err(error),
    }
    let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    let size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    Ok(header.starts_with(MAGIC) && u64::from(pages) * size == length)
}
