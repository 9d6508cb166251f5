//! Word of what happens to files and directories (inotify).

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use smol::Async;

/// The watches of a source.
pub(super) struct Watch {
    inotify: Async<OwnedFd>,
}

impl Watch {
    pub fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify: Async::new_nonblocking(inotify)? })
    }

    /// Names that come and go in a directory.
    pub fn directory(&self, path: &Path) -> io::Result<()> {
        let what = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        inotify::add_watch(&self.inotify, path, what | WatchFlags::ONLYDIR)?;
        Ok(())
    }

    /// What is written to a file, whatever its name is by now.
    pub fn file(&self, file: &File, path: &Path) -> io::Result<i32> {
        let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
        let watch = inotify::add_watch(&self.inotify, itself, WatchFlags::MODIFY);
        Ok(watch.or_else(|_| inotify::add_watch(&self.inotify, path, WatchFlags::MODIFY))?)
    }

    pub fn forget(&self, watch: i32) {
        // It is gone by itself when the file is.
        let _ = inotify::remove_watch(&self.inotify, watch);
    }

    pub async fn changed(&self) -> io::Result<()> {
        self.inotify.readable().await
    }

    /// Takes what was told; whether names changed, or may have.
    pub fn take(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut names = false;
        while let Ok(event) = reader.next() {
            names |= !event.events().difference(ReadFlags::MODIFY).is_empty();
        }
        names
    }
}
