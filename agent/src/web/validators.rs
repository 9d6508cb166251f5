//! Entity tags and dates of files (RFC 9110 §8.8).

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::digest;

/// Longer files get a weak tag of size and time: reading them only for a tag would take long on a small device.
const MAX_HASHED: u64 = 8 * 1024 * 1024;
/// Bytes hashed before others get their turn.
const BLOCK: usize = 64 * 1024;
/// Files whose tags are remembered; a setup page has a few dozen.
const MAX_KNOWN: usize = 512;

/// Tags of files by what tells that a file has not changed.
#[derive(Default)]
pub(super) struct EtagCache {
    known: RefCell<HashMap<Key, String>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    device: u64,
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl EtagCache {
    /// The entity tag of an open file, with its quotes. It is made of the content, so it is the same after the same bytes
    /// were installed again, and on every device of a fleet.
    pub async fn tag(&self, file: &File, metadata: &Metadata) -> io::Result<String> {
        let key = Key {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
        };
        if key.size > MAX_HASHED {
            return Ok(format!("W/\"{:x}-{:x}.{:x}\"", key.size, key.seconds, key.nanoseconds));
        }
        if let Some(tag) = self.known.borrow().get(&key) {
            return Ok(tag.clone());
        }
        let tag = hash(file).await?;
        let mut known = self.known.borrow_mut();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(key, tag.clone());
        Ok(tag)
    }
}

async fn hash(file: &File) -> io::Result<String> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    loop {
        match file.read_at(&mut block, at) {
            Ok(0) => break,
            Ok(read) => {
                context.update(block.get(..read).unwrap_or_default());
                at += read as u64;
                if read == BLOCK {
                    smol::future::yield_now().await;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let digest = context.finish();
    let hex: String = digest.as_ref().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("\"{hex}\""))
}

/// When the file was changed, in whole seconds as HTTP has them; a time before 1970 counts as 1970.
pub(super) fn modified(metadata: &Metadata) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(metadata.mtime()).unwrap_or(0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_depends_on_the_bytes_alone() {
        let path = std::env::temp_dir().join(format!("ioto-etag-{}-{}", std::process::id(), fastrand::u64(..)));
        let cache = EtagCache::default();
        let tag = |text: &str| {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, text).unwrap();
            let file = File::open(&path).unwrap();
            smol::block_on(cache.tag(&file, &file.metadata().unwrap())).unwrap()
        };
        let (first, other, again) = (tag("one"), tag("two"), tag("one"));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(first, again);
        assert_ne!(first, other);
    }
}
