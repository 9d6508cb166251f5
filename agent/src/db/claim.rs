//! The claim on the database file: its directory, its lock, whether it looks sound, and what becomes of a damaged one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

use super::error::Error;
use super::health::Monitor;
use super::room::Limit;
use super::seal::Vault;
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

/// The right of this process to the file, until it is released or dropped.
pub(super) struct Claim {
    path: PathBuf,
    monitor: Monitor,
    vault: Vault,
    limit: Option<Limit>,
    lock: Mutex<Option<Flock<File>>>,
}

impl Claim {
    /// Makes directory (0700) and file (0600) where they are missing, and locks the file against other processes.
    pub(super) fn stake(path: &Path, vault: Vault) -> Result<Self, Error> {
        make_directory(path)
            .map_err(|source| Error::file("make the directory", path.parent().unwrap_or(path), source))?;
        let lock = beside(path, ".lock");
        let file = make_file(&lock).map_err(|source| Error::file("open", &lock, source))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => Error::InUse { path: path.into() },
            errno => Error::file("lock", &lock, errno.into()),
        })?;
        let claim =
            Self { path: path.into(), monitor: Monitor::default(), vault, limit: None, lock: Mutex::new(Some(lock)) };
        claim.finish_setting_aside()?;
        make_file(path).map_err(|source| Error::file("open", path, source))?;
        Ok(claim)
    }

    /// With a bound of the file.
    pub(super) fn limited(self, limit: Option<Limit>) -> Self {
        Self { limit, ..self }
    }

    /// How large the file may be.
    pub(super) fn limit(&self) -> Option<Limit> {
        self.limit
    }

    /// Lets another have the file, which is closed.
    pub(super) fn release(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The database file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What all who use the file know of it.
    pub(super) fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// The keys of what is sealed in it.
    pub(super) fn vault(&self) -> &Vault {
        &self.vault
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

    /// Notes that the file is damaged: it is recovered at once, or at the next start when this one ends before.
    pub(super) fn suspect(&self, error: &Error) {
        if self.monitor.is_suspect() {
            return;
        }
        let marker = beside(&self.path, ".suspect");
        if let Err(error) = make_file(&marker) {
            log::error!("cannot write {}: {error}", marker.display());
        }
        // Wakes the writer, who finds the marker.
        self.monitor.suspect(error);
    }

    /// The file was checked and is sound.
    pub(super) fn trust(&self) {
        let _ = fs::remove_file(beside(&self.path, ".suspect"));
    }

    /// Renames the file and its log to `PATH.corrupt-N`, and makes an empty one. Until [`salvaged`](Self::salvaged) is called, each
    /// opening finds what is left to do in [`unfinished`](Self::unfinished).
    pub(super) fn set_aside(&self) -> Result<PathBuf, Error> {
        let name = |n: u32| beside(&self.path, &format!(".corrupt-{n}"));
        // The first are the most valuable: they were damaged after the longest life. The last makes room.
        let n = (1..KEPT).find(|&n| !fs::exists(name(n)).unwrap_or(true)).unwrap_or(KEPT);
        let aside = name(n);
        for suffix in ["", "-wal"] {
            let _ = fs::remove_file(beside(&aside, suffix));
        }
        let roots: serde_json::Map<_, _> = self.roots().into_iter().map(|(name, page)| (name, page.into())).collect();
        let note = serde_json::json!({"aside": n, "roots": roots}).to_string();
        let salvage = beside(&self.path, ".salvage");
        write(&salvage, &note).map_err(|source| Error::file("write", &salvage, source))?;
        self.rename(&aside)?;
        self.trust();
        make_file(&self.path).map_err(|source| Error::file("make", &self.path, source))?;
        Ok(aside)
    }

    /// A file that was set aside and whose rows were not all recovered, and the first pages of its tables.
    pub(super) fn unfinished(&self) -> Option<(PathBuf, BTreeMap<String, u32>)> {
        let note: Value = serde_json::from_str(&fs::read_to_string(beside(&self.path, ".salvage")).ok()?).ok()?;
        let n = note["aside"].as_u64().filter(|n| (1..=u64::from(KEPT)).contains(n))?;
        Some((beside(&self.path, &format!(".corrupt-{n}")), pages(&note["roots"])))
    }

    /// All that could be recovered is in the file.
    pub(super) fn salvaged(&self) {
        let _ = fs::remove_file(beside(&self.path, ".salvage"));
    }

    /// Writes down where the tables begin, for the case that the page which has that is damaged.
    pub(super) fn note_roots(&self, roots: BTreeMap<String, u32>) {
        if self.roots() != roots {
            let map: serde_json::Map<_, _> = roots.into_iter().map(|(name, page)| (name, page.into())).collect();
            let file = beside(&self.path, ".roots");
            if let Err(error) = write(&file, &Value::Object(map).to_string()) {
                log::debug!("cannot write {}: {error}", file.display());
            }
        }
    }

    fn roots(&self) -> BTreeMap<String, u32> {
        let text = fs::read_to_string(beside(&self.path, ".roots")).unwrap_or_default();
        pages(&serde_json::from_str(&text).unwrap_or_default())
    }

    /// A power cut may have come between the note and the renaming, or between two files.
    fn finish_setting_aside(&self) -> Result<(), Error> {
        match self.unfinished() {
            Some((aside, _)) if !fs::exists(&aside).unwrap_or(true) => self.rename(&aside),
            Some((aside, _)) if fs::metadata(&self.path).map_or(0, |file| file.len()) == 0 => {
                let log = beside(&self.path, "-wal");
                let _ = fs::rename(log, beside(&aside, "-wal"));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn rename(&self, aside: &Path) -> Result<(), Error> {
        for suffix in ["", "-wal", "-shm"] {
            let (from, to) = (beside(&self.path, suffix), beside(aside, suffix));
            let moved = match suffix {
                "-shm" => fs::remove_file(&from),
                _ => fs::rename(&from, &to),
            };
            match moved {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(Error::file("set aside", &from, source));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Writes a small file so that it is there as a whole or not at all.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let fresh = beside(path, ".new");
    let mut file = make_file(&fresh)?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

fn pages(map: &Value) -> BTreeMap<String, u32> {
    let pages = map.as_object().into_iter().flatten();
    pages.filter_map(|(name, page)| Some((name.clone(), u32::try_from(page.as_u64()?).ok()?))).collect()
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
