//! Random numbers, ULIDs and uids.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::error::Error;

/// Crockford's alphabet: no I, L, O and U, sorted as its values are.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const SOURCE: &str = "/dev/urandom";
/// A clock that goes back by less than this is taken for an adjustment, and ULIDs wait for it.
const PATIENCE: u64 = 10_000;

/// Makes what must not be guessed or repeat.
///
/// The bytes come from the kernel, 512 at a time: `/dev/urandom` is there on every device, needs no crate whichever
/// features are built in, and 512 bytes at a time cost one system call for about 20 rows.
pub(super) struct Generator {
    source: File,
    buffer: [u8; 512],
    used: usize,
    last: Option<(u64, u128)>,
}

impl Generator {
    /// Opens the kernel's source.
    pub(super) fn new() -> Result<Self, Error> {
        let source = File::open(SOURCE).map_err(|source| Error::file("open", SOURCE, source))?;
        Ok(Self { source, buffer: [0; 512], used: 512, last: None })
    }

    /// Random bytes, at most 512.
    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        const { assert!(N <= 512) };
        if self.buffer.len() - self.used < N {
            let read = self.source.read_exact(&mut self.buffer);
            read.map_err(|source| Error::file("read", PathBuf::from(SOURCE), source))?;
            self.used = 0;
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.buffer[self.used..self.used + N]);
        self.used += N;
        Ok(bytes)
    }

    /// A ULID: 48 bits of milliseconds, 80 random bits, as 26 characters. Within a millisecond, and while the clock is set
    /// back a little, the random part counts up: ULIDs of one generator sort as they were made.
    pub(super) fn ulid(&mut self, now: i64) -> Result<String, Error> {
        let now = u64::try_from(now).unwrap_or(0) & ((1 << 48) - 1);
        let following = match self.last {
            Some((time, random)) if now <= time && time - now < PATIENCE && random < (1 << 80) - 1 => {
                Some((time, random + 1))
            }
            _ => None,
        };
        let (time, random) = match following {
            Some(following) => following,
            None => {
                let mut wide = [0; 16];
                wide[6..].copy_from_slice(&self.bytes::<10>()?);
                (now, u128::from_be_bytes(wide))
            }
        };
        self.last = Some((time, random));
        let value = u128::from(time) << 80 | random;
        Ok((0..26).map(|place| letter((value >> (125 - 5 * place)) as u8)).collect())
    }

    /// `length` random characters of 5 bits each.
    pub(super) fn uid(&mut self, length: usize) -> Result<String, Error> {
        (0..length).map(|_| self.bytes::<1>().map(|[byte]| letter(byte))).collect()
    }
}

fn letter(bits: u8) -> char {
    char::from(ALPHABET[usize::from(bits & 31)])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ulids_sort_as_they_were_made_even_when_the_clock_is_set_back_a_little() {
        let mut generator = Generator::new().unwrap();
        let times = [1000, 1000, 1000, 1001, 900, 1001, 2000];
        let made: Vec<String> = times.iter().map(|&now| generator.ulid(now).unwrap()).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]), "{made:?}");
        assert!(made.iter().all(|ulid| ulid.len() == 26));
    }

    #[test]
    fn a_ulid_begins_with_its_time() {
        // The example of the ULID specification.
        assert!(Generator::new().unwrap().ulid(1_469_918_176_385).unwrap().starts_with("01ARYZ6S41"));
    }

    #[test]
    fn a_clock_that_was_years_ahead_does_not_hold_ulids_there() {
        let mut generator = Generator::new().unwrap();
        generator.ulid(2_000_000_000_000).unwrap();
        assert!(generator.ulid(1_469_918_176_385).unwrap().starts_with("01ARYZ6S41"));
    }

    #[test]
    fn random_bytes_do_not_repeat_at_the_end_of_a_buffer() {
        let mut generator = Generator::new().unwrap();
        let made: std::collections::HashSet<[u8; 16]> = (0..1000).map(|_| generator.bytes().unwrap()).collect();
        assert_eq!(made.len(), 1000);
    }
}
