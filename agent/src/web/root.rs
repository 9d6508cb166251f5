//! Opens files beneath the document root, and nothing else.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

/// How long the root directory stays open before it is looked up again: it may be replaced by a new version of the pages.
const REFRESH: Duration = Duration::from_secs(1);

/// The root directory, kept open for a moment.
#[derive(Default)]
pub(super) struct OpenRoot {
    open: RefCell<Option<(OwnedFd, Instant)>>,
}

impl OpenRoot {
    /// Opens a file or directory for reading. `path` is relative. Symbolic links are followed as long as they stay in the
    /// root; the kernel checks that (openat2, Linux 5.6), or the resolved path is compared where it cannot.
    ///
    /// # Errors
    /// The file is not there, is not readable, or lies outside.
    pub fn open(&self, root: &Path, path: &str) -> io::Result<File> {
        self.refresh(root)?;
        let held = self.open.borrow();
        let Some((directory, _)) = held.as_ref() else { return Err(io::ErrorKind::NotFound.into()) };
        // A pipe or a device would make the whole server wait in open.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let how =
            OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        match openat2(directory, path, how) {
            Ok(file) => Ok(File::from(file)),
            Err(Errno::ENOSYS | Errno::EPERM) => open_checked(root, path),
            Err(error) => Err(error.into()),
        }
    }

    fn refresh(&self, root: &Path) -> io::Result<()> {
        let mut held = self.open.borrow_mut();
        let now = Instant::now();
        if held.as_ref().is_some_and(|(_, opened)| now.duration_since(*opened) < REFRESH) {
            return Ok(());
        }
        *held = None;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        *held = Some((open(root, flags, Mode::empty())?, now));
        Ok(())
    }
}

/// For kernels without openat2: resolves all links first, and refuses what is not beneath the root.
fn open_checked(root: &Path, path: &str) -> io::Result<File> {
    let root = fs::canonicalize(root)?;
    let resolved = fs::canonicalize(root.join(path))?;
    let kind = fs::metadata(&resolved)?;
    if !resolved.starts_with(&root) || !(kind.is_file() || kind.is_dir()) {
        return Err(io::ErrorKind::NotFound.into());
    }
    File::open(resolved)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_is_beneath_the_root_is_opened() {
        let base = std::env::temp_dir().join(format!("ioto-root-{}-{}", std::process::id(), fastrand::u64(..)));
        let root = base.join("www");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(base.join("secret"), "secret").unwrap();
        fs::write(root.join("sub/page"), "page").unwrap();
        symlink("sub/page", root.join("inside")).unwrap();
        symlink("../secret", root.join("outside")).unwrap();
        symlink(base.join("secret"), root.join("absolute")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        let held = OpenRoot::default();
        for (path, is_there) in [
            ("sub/page", true),
            ("sub", true),
            ("inside", true),
            ("outside", false),
            ("absolute", false),
            ("../secret", false),
            ("sub/../../secret", false),
            ("magic/etc/passwd", false),
            ("none", false),
        ] {
            assert_eq!(held.open(&root, path).is_ok(), is_there, "{path}");
            assert_eq!(open_checked(&root, path).is_ok(), is_there, "{path}, without openat2");
        }
        fs::remove_dir_all(&base).unwrap();
    }
}
