//! The place up to which the sink has everything, in a small file in the run directory: written at each acknowledgement, at the
//! cost of one system call and no flash, so that an agent that was killed repeats next to nothing. Beside it stands from where
//! records are sent again after a kill: what was acknowledged just before may not have been read.
//!
//! The run directory is emptied by a reboot; where it is not, the id of the boot in the file says that it is stale.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::pack::digest;
use super::spool::Place;

/// Of the file.
const LENGTH: usize = 128;
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// How far the sink is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// It has accepted what is before this place.
    pub accepted: Place,
    /// And has read what is before this one.
    pub sure: Place,
}

/// The file, opened.
pub struct Marker {
    file: File,
    /// What stands in every version: the spool and the boot.
    front: String,
    written: Option<Marked>,
}

impl Marker {
    /// Opens or makes the file for the spool of this id.
    pub fn open(path: &Path, spool: &str) -> io::Result<Self> {
        let flags = nix::libc::O_NOFOLLOW;
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)?;
        let boot = fs::read_to_string(BOOT).unwrap_or_default();
        Ok(Self { file, front: format!("{spool} {}", boot.trim()), written: None })
    }

    /// What was last written, if that was in this boot and for this spool.
    pub fn read(&self) -> Option<Marked> {
        let mut bytes = [0; LENGTH];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let text = std::str::from_utf8(&bytes).ok()?.trim_end();
        let (said, sum) = text.rsplit_once(' ')?;
        if sum != format!("{:08x}", digest([said.as_bytes()])) {
            return None;
        }
        let mut numbers = said.strip_prefix(&self.front)?.strip_prefix(' ')?.split(' ');
        let mut place = || Some(Place { n: numbers.next()?.parse().ok()?, index: numbers.next()?.parse().ok()? });
        Some(Marked { accepted: place()?, sure: place()? })
    }

    /// Writes the places down.
    pub fn write(&mut self, marked: Marked) -> io::Result<()> {
        if self.written == Some(marked) {
            return Ok(());
        }
        let Marked { accepted, sure } = marked;
        let said = format!("{} {} {} {} {}", self.front, accepted.n, accepted.index, sure.n, sure.index);
        let line = format!("{said} {:08x}", digest([said.as_bytes()]));
        let mut bytes = format!("{line:<width$}", width = LENGTH - 1).into_bytes();
        bytes.push(b'\n');
        if let Err(error) = self.file.write_all_at(&bytes, 0) {
            // Nothing is better than what is no longer true.
            let _ = self.file.set_len(0);
            return Err(error);
        }
        self.written = Some(marked);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_holds_for_its_spool_and_is_never_half_believed() {
        let path = std::env::temp_dir().join(format!("ioto-marker-{:x}", fastrand::u64(..)));
        let mut marker = Marker::open(&path, "one").unwrap();
        assert_eq!(marker.read(), None);
        for accepted in [Place { n: 3, index: 0 }, Place { n: i64::MAX, index: u32::MAX }, Place { n: 7, index: 12 }] {
            let marked = Marked { accepted, sure: Place { n: accepted.n - 1, index: 2 } };
            marker.write(marked).unwrap();
            assert_eq!(Marker::open(&path, "one").unwrap().read(), Some(marked));
        }
        assert_eq!(Marker::open(&path, "two").unwrap().read(), None);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), LENGTH);
        for at in 0..bytes.iter().rposition(|byte| byte.is_ascii_hexdigit()).unwrap() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert_eq!(Marker::open(&path, "one").unwrap().read(), None, "byte {at}");
        }
        fs::remove_file(&path).unwrap();
    }
}
