//! What an end without warning, a power cut or a kill, leaves behind: files that were being received, directories of workers.
//!
//! Which of them are left behind does not depend on the clock, which may be wrong at the start: who receives a file holds a
//! lock on it, and a directory bears the number of its process.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::signal::kill;
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::{Pid, UnlinkatFlags, geteuid, unlinkat};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno as Fault;

use crate::config::Web;

/// What the names of files begin with while they are received; 16 hexadecimal digits follow.
const FILE: &str = ".upload-";
/// What the directories of workers begin with; the number of the process follows, a dash and 16 hexadecimal digits.
pub(super) const PLACE: &str = "ioto-worker-";
/// How deep files are looked for beneath the document root, and how many entries are looked at in all.
const DEPTH: usize = 16;
const ENTRIES: usize = 100_000;
const STACK: usize = 512 * 1024;

/// A new name for a file that is received.
pub(super) fn name() -> String {
    format!("{FILE}{:016x}", fastrand::u64(..))
}

/// Marks the new file as being received, for as long as it is open. `false`: it is taken for a leftover already, and another is
/// needed.
pub(super) fn hold(file: &File) -> bool {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Fault::WOULDBLOCK) => false,
        // Where there are no locks nothing is taken for a leftover either.
        _ => fstat(file).is_ok_and(|found| found.st_nlink > 0),
    }
}

/// Removes what earlier processes left behind, on a thread of its own.
pub(super) fn remove(settings: &Web) {
    let receives = settings.routes.iter().any(|route| route.methods.iter().any(|method| method == "PUT"));
    let documents = receives.then(|| settings.documents.clone());
    let uploads = settings.upload.dir.clone();
    let work = move || {
        let mut sweep = Sweep { left: ENTRIES, removed: 0 };
        sweep.path(&uploads, 0);
        if let Some(documents) = documents {
            sweep.path(&documents, DEPTH);
        }
        if sweep.removed > 0 {
            log::info!("removed {} files that an earlier end left half received", sweep.removed);
        }
        remove_places(&std::env::temp_dir());
    };
    if let Err(error) = thread::Builder::new().name("leftovers".to_owned()).stack_size(STACK).spawn(work) {
        log::warn!("what an earlier end left behind stays: {error}");
    }
}

/// A walk that ends.
struct Sweep {
    left: usize,
    removed: usize,
}

impl Sweep {
    fn path(&mut self, path: &Path, depth: usize) {
        match Dir::open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(directory) => self.directory(directory, depth),
            Err(Errno::ENOENT) => {}
            Err(error) => log::debug!("{} is not searched for leftovers: {error}", path.display()),
        }
    }

    /// Removes what is ours in a directory and, so deep, in those beneath. Links are never followed.
    fn directory(&mut self, mut directory: Dir, depth: usize) {
        let (mut files, mut below) = (Vec::new(), Vec::new());
        for entry in directory.iter() {
            let Ok(entry) = entry else { break };
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            let Ok(name) = entry.file_name().to_str() else { continue };
            match entry.file_type() {
                _ if name == "." || name == ".." => {}
                Some(Type::File) | None if is_ours(name) => files.push(name.to_owned()),
                Some(Type::Directory) | None if depth > 0 => below.push(name.to_owned()),
                _ => {}
            }
        }
        for name in files {
            self.removed += usize::from(remove_file(&directory, &name).unwrap_or_default());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        for name in below {
            if let Ok(next) = Dir::openat(&directory, name.as_str(), flags, Mode::empty()) {
                self.directory(next, depth - 1);
            }
        }
    }
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix(FILE).is_some_and(is_number)
}

fn is_number(digits: &str) -> bool {
    digits.len() == 16 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Removes a file of this user that nobody holds.
fn remove_file(directory: &Dir, name: &str) -> io::Result<bool> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = openat(directory.as_fd(), name, flags, Mode::empty())?;
    let found = fstat(&file)?;
    let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFREG || found.st_uid != geteuid().as_raw() || found.st_nlink != 1 {
        return Ok(false);
    }
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    // Under the lock: whoever made it in between finds it gone, and makes another.
    let now = fstatat(directory.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if (now.st_dev, now.st_ino) != (found.st_dev, found.st_ino) {
        return Ok(false);
    }
    unlinkat(directory.as_fd(), name, UnlinkatFlags::NoRemoveDir)?;
    Ok(true)
}

/// Removes the directories of workers whose server is no more.
fn remove_places(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten().take(ENTRIES) {
        let name = entry.file_name();
        let Some((process, number)) =
            name.to_str().and_then(|name| name.strip_prefix(PLACE)).and_then(|rest| rest.split_once('-'))
        else {
            continue;
        };
        let Some(process) = process.parse().ok().filter(|process| *process > 0 && is_number(number)) else { continue };
        if is_alive(process) || !is_place(directory, &name) {
            continue;
        }
        // It may live where we cannot see it: in another container that shares the directory.
        let path = entry.path();
        let Ok(_held) = File::open(&path).and_then(|held| {
            flock(&held, FlockOperation::NonBlockingLockExclusive)?;
            Ok(held)
        }) else {
            continue;
        };
        // A socket and nothing else is in there; what is more than that is not ours.
        let _ = fs::remove_file(path.join("socket"));
        match fs::remove_dir(&path) {
            Ok(()) => log::debug!("removed {}, whose server is no more", path.display()),
            Err(error) => log::debug!("{} stays: {error}", path.display()),
        }
    }
}

fn is_alive(process: i32) -> bool {
    // That of another user counts too.
    kill(Pid::from_raw(process), None) != Err(Errno::ESRCH)
}

/// Whether it is a directory of this user that nobody else can enter; not a link to one.
fn is_place(directory: &Path, name: &std::ffi::OsStr) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(directory.join(name)).is_ok_and(|found| {
        found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & (libc::S_IRWXG | libc::S_IRWXO) == 0
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("ioto-leftovers-{:016x}", fastrand::u64(..)));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn sweep(path: &Path, depth: usize) -> usize {
        let mut sweep = Sweep { left: ENTRIES, removed: 0 };
        sweep.path(path, depth);
        sweep.removed
    }

    #[test]
    fn only_files_of_ours_that_nobody_holds_are_removed() {
        let scratch = Scratch::new();
        let root = scratch.0.join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(scratch.0.join("outside")).unwrap();
        let number = "0123456789abcdef";
        let leftover = format!(".upload-{number}");
        for place in ["root", "root/a/b", "outside"] {
            fs::write(scratch.0.join(place).join(&leftover), "half").unwrap();
        }
        for other in [".upload-", ".upload-x", ".upload-0123456789abcdeF", "upload-0123456789abcdef", "x.upload-0123"] {
            fs::write(root.join(other), "kept").unwrap();
        }
        fs::create_dir(root.join(".upload-1111111111111111")).unwrap();
        symlink(scratch.0.join("outside"), root.join("link")).unwrap();
        symlink(scratch.0.join("outside").join(&leftover), root.join(".upload-2222222222222222")).unwrap();
        fs::write(root.join("linked"), "kept").unwrap();
        fs::hard_link(root.join("linked"), root.join(".upload-3333333333333333")).unwrap();
        let held = File::create(root.join(".upload-4444444444444444")).unwrap();
        assert!(hold(&held));

        assert_eq!(sweep(&root, 0), 1);
        assert_eq!(sweep(&root, 2), 1);
        assert_eq!(sweep(&root, 2), 0);
        drop(held);
        assert_eq!(sweep(&root, 2), 1);
        assert!(scratch.0.join("outside").join(&leftover).exists());
        assert_eq!(fs::read_dir(&root).unwrap().count(), 11);
        assert_eq!(sweep(&root.join("missing"), 2), 0);
    }

    #[test]
    fn a_file_that_is_being_removed_is_not_received_into() {
        let scratch = Scratch::new();
        let path = scratch.0.join(name());
        let ours = File::create(&path).unwrap();
        let cleaner = File::open(&path).unwrap();
        flock(&cleaner, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(!hold(&ours));
        fs::remove_file(&path).unwrap();
        drop(cleaner);
        assert!(!hold(&ours));
    }

    #[test]
    fn the_directory_of_a_worker_goes_when_its_server_is_no_more() {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        let scratch = Scratch::new();
        let mut child = Command::new("true").spawn().unwrap();
        let dead = child.id();
        child.wait().unwrap();
        let make = |process: u32, number: &str| {
            let path = scratch.0.join(format!("{PLACE}{process}-{number}"));
            fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
            fs::write(path.join("socket"), "").unwrap();
            path
        };
        let gone = make(dead, "0123456789abcdef");
        let (alive, open, fuller) = (
            make(std::process::id(), "0123456789abcdef"),
            make(dead, "1111111111111111"),
            make(dead, "2222222222222222"),
        );
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(fuller.join("precious"), "").unwrap();
        let elsewhere = make(dead, "4444444444444444");
        let held = File::open(&elsewhere).unwrap();
        assert!(hold(&held));
        let odd = make(dead, "x");
        let link = scratch.0.join(format!("{PLACE}{dead}-3333333333333333"));
        symlink(&alive, &link).unwrap();

        remove_places(&scratch.0);
        assert!(!gone.exists());
        assert!(elsewhere.join("socket").exists());
        assert!([alive.join("socket"), open, fuller.join("precious"), odd, link].iter().all(|path| path.exists()));
    }
}
