//! Files that were served a moment ago, with all that is known of them.
//!
//! Opening a file, asking for its size and reading it costs more than the rest of a small request. What was found is taken
//! as it is for a second; then one look tells whether it is the same still. A file that changed just now is not kept at all:
//! it could change again within one tick of the file system's clock. What this server writes or removes itself is seen at
//! once, by all of its threads.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::validators::modified;
use crate::http1::{Error, Headers};
use crate::net::http_date;

/// How long a file is taken as it was found.
const FRESH: Duration = Duration::from_secs(1);
/// A file that did not change for so long is kept.
const SETTLED: Duration = Duration::from_secs(2);
/// Files that are kept.
const MAX_FILES: usize = 64;
/// Those of them that are kept open, because they are not kept in memory.
const MAX_OPEN: usize = 16;
/// Bytes of a file that is kept in memory, and of all of them.
const MAX_BYTES: u64 = 16 * 1024;
const MAX_TOTAL: usize = 512 * 1024;

/// A file as it was found.
pub(super) struct Opened {
    /// Beneath the root; it tells the type. For a directory that of its index.
    pub path: String,
    pub content: Content,
    pub length: u64,
    /// The entity tag with its quotes.
    pub tag: String,
    pub modified: SystemTime,
    /// `ETag`, `Last-Modified` and `Accept-Ranges`.
    pub fields: Headers,
    stamp: Stamp,
    /// When it was last looked at, and used.
    seen: Cell<Instant>,
    used: Cell<u64>,
}

/// Where the bytes are.
pub(super) enum Content {
    Memory(Vec<u8>),
    File(File),
}

/// What tells that a file is the same.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_settled(&self) -> bool {
        let changed = UNIX_EPOCH + Duration::from_secs(u64::try_from(self.changed.0).unwrap_or(0));
        SystemTime::now().duration_since(changed).is_ok_and(|age| age > SETTLED)
    }
}

impl Opened {
    /// What is known of an open file.
    ///
    /// # Errors
    /// The tag is none.
    pub fn new(path: String, file: File, metadata: &Metadata, tag: String, now: Instant) -> Result<Self, Error> {
        let modified = modified(metadata);
        let mut fields = Headers::with_capacity(3, 128);
        fields.append("ETag", &tag)?;
        fields.append("Last-Modified", &http_date(modified))?;
        fields.append("Accept-Ranges", "bytes")?;
        Ok(Self {
            path,
            content: Content::File(file),
            length: metadata.len(),
            tag,
            modified,
            fields,
            stamp: Stamp::of(metadata),
            seen: Cell::new(now),
            used: Cell::new(0),
        })
    }

    /// Reads a small file; afterwards it needs not be open.
    fn into_memory(mut self) -> Self {
        if self.length <= MAX_BYTES {
            if let Content::File(file) = &self.content {
                // A byte more would show that it grew.
                let mut bytes = vec![0; self.length as usize + 1];
                if file.read_at(&mut bytes, 0).is_ok_and(|read| read as u64 == self.length) {
                    bytes.truncate(self.length as usize);
                    bytes.shrink_to_fit();
                    self.content = Content::Memory(bytes);
                }
            }
        }
        self
    }

    fn in_memory(&self) -> Option<usize> {
        match &self.content {
            Content::Memory(bytes) => Some(bytes.len()),
            Content::File(_) => None,
        }
    }
}

/// The files of one thread, by what was asked for.
#[derive(Default)]
pub(super) struct OpenFiles {
    files: RefCell<HashMap<String, Rc<Opened>>>,
    /// How often this server had changed files when these were found.
    changes: Cell<usize>,
    uses: Cell<u64>,
}

impl OpenFiles {
    /// The file, if it was looked at within a second. `changes`: how often this server changed files until now.
    pub fn get(&self, path: &str, changes: usize, now: Instant) -> Option<Rc<Opened>> {
        if self.changes.replace(changes) != changes {
            self.files.borrow_mut().clear();
        }
        let files = self.files.borrow();
        let found = files.get(path).filter(|found| now.saturating_duration_since(found.seen.get()) < FRESH)?;
        self.touch(found);
        Some(found.clone())
    }

    /// The file whose metadata were just looked at, if it is the same as before.
    pub fn same(&self, path: &str, metadata: &Metadata, now: Instant) -> Option<Rc<Opened>> {
        let files = self.files.borrow();
        let found = files.get(path).filter(|found| found.stamp == Stamp::of(metadata))?;
        found.seen.set(now);
        self.touch(found);
        Some(found.clone())
    }

    /// Keeps what was found, if that can be. `changes` is from before the file was opened.
    pub fn keep(&self, path: &str, found: Opened, changes: usize) -> Rc<Opened> {
        if self.changes.get() != changes || !found.stamp.is_settled() {
            self.files.borrow_mut().remove(path);
            return Rc::new(found);
        }
        let found = Rc::new(found.into_memory());
        self.touch(&found);
        let mut files = self.files.borrow_mut();
        files.insert(path.to_owned(), found.clone());
        while !is_bounded(&files) {
            let Some(oldest) = files.iter().min_by_key(|(_, file)| file.used.get()).map(|(path, _)| path.clone())
            else {
                break;
            };
            files.remove(&oldest);
        }
        found
    }

    fn touch(&self, file: &Opened) {
        self.uses.set(self.uses.get() + 1);
        file.used.set(self.uses.get());
    }
}

fn is_bounded(files: &HashMap<String, Rc<Opened>>) -> bool {
    let sizes = files.values().filter_map(|file| file.in_memory());
    let (count, bytes) = sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
    files.len() <= MAX_FILES && files.len() - count <= MAX_OPEN && bytes <= MAX_TOTAL
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn opened(size: u64) -> Opened {
        let path = std::env::temp_dir().join(format!("ioto-open-{}-{:x}", std::process::id(), fastrand::u64(..)));
        fs::write(&path, vec![b'x'; size as usize]).unwrap();
        let file = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let metadata = file.metadata().unwrap();
        Opened::new("x".to_owned(), file, &metadata, "\"tag\"".to_owned(), Instant::now()).unwrap()
    }

    /// As one that did not change for a while.
    fn settled(size: u64) -> Opened {
        let mut file = opened(size);
        file.stamp.changed.0 -= 10;
        file
    }

    #[test]
    fn a_file_is_taken_as_it_was_for_a_second_and_then_looked_at() {
        let files = OpenFiles::default();
        let now = Instant::now();
        files.keep("a", settled(10), 0);
        assert!(files.get("a", 0, now).is_some());
        assert!(files.get("b", 0, now).is_none());
        assert!(files.get("a", 0, now + FRESH + Duration::from_millis(1)).is_none());
    }

    #[test]
    fn a_change_by_this_server_forgets_all() {
        let files = OpenFiles::default();
        files.keep("a", settled(10), 0);
        assert!(files.get("a", 1, Instant::now()).is_none());
        // This was opened before the change.
        files.keep("a", settled(10), 0);
        assert!(files.get("a", 1, Instant::now()).is_none());
        files.keep("a", settled(10), 1);
        assert!(files.get("a", 1, Instant::now()).is_some());
    }

    #[test]
    fn what_changed_just_now_is_not_kept() {
        let files = OpenFiles::default();
        files.keep("a", settled(10), 0);
        files.keep("a", opened(10), 0);
        assert!(files.get("a", 0, Instant::now()).is_none());
    }

    #[test]
    fn memory_and_descriptors_are_bounded_and_the_last_ones_stay() {
        let files = OpenFiles::default();
        for number in 0..100 {
            files.keep(&format!("{number}"), settled(MAX_BYTES), 0);
            assert!(files.get("0", 0, Instant::now()).is_some());
        }
        assert_eq!(files.files.borrow().len(), MAX_TOTAL / MAX_BYTES as usize);
        for number in 0..100 {
            files.keep(&format!("long {number}"), settled(MAX_BYTES + 1), 0);
        }
        let open = files.files.borrow().values().filter(|file| file.in_memory().is_none()).count();
        assert_eq!(open, MAX_OPEN);
        for number in 0..100 {
            files.keep(&format!("small {number}"), settled(1), 0);
        }
        assert_eq!(files.files.borrow().len(), MAX_FILES);
        assert!(files.get("small 99", 0, Instant::now()).is_some());
        assert!(files.get("small 0", 0, Instant::now()).is_none());
    }
}
