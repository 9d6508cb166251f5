//! Removing what a factory reset removes.

use super::network;
use crate::files::AGENT_STATE;
use crate::settings;
use ioto_wire::Request;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, open, openat, renameat_with, statat, unlinkat};
use rustix::io::{Errno, Result};
use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// What is kept: one path below the agent's state a line, by the integrator or by default.
const KEEP: [&str; 2] = ["/etc/ioto/reset.keep", "/usr/share/ioto/reset.keep"];

/// Removes all below the agent's state but what is kept, the settings, and the network profiles.
pub fn wipe() -> std::result::Result<String, String> {
    let kept = kept()?;
    let failed = |error: Errno| format!("{AGENT_STATE} can not be emptied: {}", std::io::Error::from(error));
    let mut emptying = Emptying { device: 0, moved: 0, skipped: 0 };
    match open(AGENT_STATE, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(top) => {
            emptying.device = rustix::fs::fstat(&top).map_err(failed)?.st_dev;
            emptying.empty(&top, &kept).map_err(failed)?;
            rustix::fs::syncfs(&top).map_err(failed)?;
        }
        Err(Errno::NOENT) => {}
        Err(error) => return Err(failed(error)),
    }
    for (path, setting) in settings::all() {
        if let Ok(Request::Network(profile)) = &setting {
            network::remove(profile);
        }
        fs::remove_file(&path).map_err(|error| format!("{} can not be removed: {error}", path.display()))?;
    }
    rustix::fs::sync();
    Ok(match emptying.skipped {
        0 => "what was stored is removed".into(),
        count => format!("what was stored is removed; {count} mounted directories stay"),
    })
}

/// Paths as lists of names; a line that leads elsewhere is an error, because what should be kept would be removed.
fn kept() -> std::result::Result<Vec<Vec<CString>>, String> {
    let Some((path, text)) = KEEP.iter().find_map(|path| fs::read_to_string(path).ok().map(|text| (path, text))) else {
        return Ok(Vec::new());
    };
    if fs::metadata(path).is_ok_and(|found| found.uid() != 0) {
        return Err(format!("{path} must belong to root"));
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let names: Vec<&str> = line.trim_end_matches('/').split('/').collect();
            match names.len() <= 8 && names.iter().all(|name| !matches!(*name, "" | "." | "..")) {
                true => names.into_iter().map(|name| CString::new(name).map_err(|error| error.to_string())).collect(),
                false => Err(format!("{path}: {line:?} must be a path below {AGENT_STATE}, as certs/device.pem")),
            }
        })
        .collect()
}

struct Emptying {
    device: u64,
    moved: u64,
    skipped: u64,
}

impl Emptying {
    /// Empties a directory that has something to keep, or is the top. What is removed goes no deeper than one level: a
    /// directory within a directory is moved to the top first. So neither depth nor names can wear us out, and
    /// nothing but open directories is trusted.
    fn empty(&mut self, top: &OwnedFd, kept: &[Vec<CString>]) -> Result<()> {
        loop {
            let before = self.moved;
            let mut removed = false;
            let mut stay = 0;
            for name in names(top)? {
                let within: Vec<Vec<CString>> =
                    kept.iter().filter(|path| path.first() == Some(&name)).map(|path| path[1..].to_vec()).collect();
                if within.iter().any(Vec::is_empty) {
                    continue;
                }
                match self.enter(top, &name)? {
                    Entry::Gone => removed = true,
                    Entry::Mount => stay += 1,
                    Entry::Directory(directory) if !within.is_empty() => self.empty(&directory, &within)?,
                    Entry::Directory(directory) => {
                        self.flatten(&directory, top)?;
                        match unlinkat(top, &name, AtFlags::REMOVEDIR) {
                            // A mounted directory is in it.
                            Err(Errno::NOTEMPTY | Errno::BUSY) => stay += 1,
                            other => {
                                other?;
                                removed = true;
                            }
                        }
                    }
                }
            }
            if !removed && self.moved == before {
                self.skipped += stay;
                return Ok(());
            }
        }
    }

    /// Removes the files of a directory and moves its directories to the top.
    fn flatten(&mut self, directory: &OwnedFd, top: &OwnedFd) -> Result<()> {
        for name in names(directory)? {
            if let Entry::Directory(_) = self.enter(directory, &name)? {
                loop {
                    self.moved += 1;
                    let new = format!(".ioto-wipe-{}", self.moved);
                    match renameat_with(directory, &name, top, new, RenameFlags::NOREPLACE) {
                        Err(Errno::EXIST) => {}
                        Err(Errno::BUSY) => break,
                        other => {
                            other?;
                            break;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// An entry: a file is removed, a directory is opened.
    fn enter(&self, directory: &OwnedFd, name: &CStr) -> Result<Entry> {
        match unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(Entry::Gone),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(Errno::BUSY) => return Ok(Entry::Mount),
            Err(error) => return Err(error),
        }
        if statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_dev != self.device {
            return Ok(Entry::Mount);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(directory, name, flags, Mode::empty()).map(Entry::Directory)
    }
}

enum Entry {
    Gone,
    Mount,
    Directory(OwnedFd),
}

/// All names in a directory but the two of itself and its parent.
fn names(directory: impl AsFd) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}
