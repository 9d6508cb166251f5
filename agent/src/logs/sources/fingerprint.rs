//! By which a file is known again, whatever its name and its inode are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes at the front of a file that are compared.
pub(super) const HEAD: usize = 256;
/// Bytes of a line that are compared.
pub(super) const LINE: usize = 64;

/// A stretch of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Print {
    pub at: u64,
    pub length: usize,
    pub hash: u64,
}

impl Print {
    /// The print of `bytes`, which are there.
    pub fn new(at: u64, bytes: &[u8]) -> Self {
        Self { at, length: bytes.len(), hash: hash(bytes) }
    }

    /// Whether the file has it.
    pub fn is_of(&self, file: &File) -> bool {
        if self.length == 0 {
            return true;
        }
        let mut buffer = [0; HEAD];
        let Some(buffer) = buffer.get_mut(..self.length) else { return false };
        file.read_exact_at(buffer, self.at).is_ok() && hash(buffer) == self.hash
    }
}

/// The front of a file, as far as `until` and [`HEAD`].
pub(super) fn head(file: &File, until: u64) -> io::Result<Vec<u8>> {
    let mut head = vec![0; usize::try_from(until).map_or(HEAD, |until| until.min(HEAD))];
    file.read_exact_at(&mut head, 0)?;
    Ok(head)
}

/// FNV-1a, which need not withstand anyone: who can write the file can write what he likes.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
