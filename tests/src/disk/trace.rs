//! The records that `recorder.c` writes.

/// Something that a program did to the directory, or that a test noted meanwhile. A file is named by its inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A file was made, under this name.
    Made(u64, String),
    /// A directory was made.
    Directory(String),
    /// Bytes were written.
    Written {
        /// The file.
        inode: u64,
        /// Where in it.
        place: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// A file has this length now.
    Truncated(u64, u64),
    /// A file, or a directory, was brought to the disk.
    Synced(u64),
    /// A name was removed.
    Removed(String),
    /// A file has this name now.
    Renamed(u64, String),
    /// A test's note.
    Note(String),
}

/// Bytes in front of a record's own: kind, length, inode, place.
const HEAD: usize = 24;

impl Record {
    /// The head of a record about no file.
    pub(super) fn head(kind: u8, length: usize) -> Vec<u8> {
        let mut head = u32::from(kind).to_ne_bytes().to_vec();
        head.extend_from_slice(&(length as u32).to_ne_bytes());
        head.resize(HEAD, 0);
        head
    }

    fn of(kind: u8, inode: u64, place: u64, bytes: &[u8]) -> Self {
        let name = || String::from_utf8(bytes.to_vec()).expect("names are UTF-8");
        match kind {
            b'M' => Record::Made(inode, name()),
            b'D' => Record::Directory(name()),
            b'W' => Record::Written { inode, place, bytes: bytes.to_vec() },
            b'T' => Record::Truncated(inode, place),
            b'S' => Record::Synced(inode),
            b'U' => Record::Removed(name()),
            b'R' => Record::Renamed(inode, name()),
            b'N' => Record::Note(name()),
            kind => panic!("a record of kind {kind}"),
        }
    }

    /// Whether it changes names or lengths, which file systems keep in one order.
    pub fn is_metadata(&self) -> bool {
        !matches!(self, Record::Written { .. } | Record::Synced(_) | Record::Note(_))
    }
}

/// Reads records. One that is cut short at the end, because its writer was killed, is left out.
pub fn read(mut trace: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while trace.len() >= HEAD {
        let word = |at: usize| u32::from_ne_bytes(trace[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_ne_bytes(trace[at..at + 8].try_into().expect("eight bytes"));
        let (kind, end) = (word(0) as u8, HEAD + word(4) as usize);
        if trace.len() < end {
            break;
        }
        records.push(Record::of(kind, long(8), long(16), &trace[HEAD..end]));
        trace = &trace[end..];
    }
    records
}
