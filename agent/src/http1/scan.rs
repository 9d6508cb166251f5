//! Finds the end of a head, and refuses bytes that must not stand in one.
//!
//! Every verdict depends only on the bytes up to the one that causes it. So it does not matter in which pieces a head
//! arrives, and a head that will never be right is refused at once instead of when its timer ends.

use super::{Error, Limits};

/// Bytes that a request line has beside its target: the longest method, two spaces, the version, CR and LF.
const LINE_EXTRA: usize = 24 + 2 + 8 + 2;

/// The length of the head including its empty line, or `None` when its end has not arrived.
///
/// # Errors
/// CR without LF, LF without CR and control characters are malformed; a first line or head over its limit is too long.
pub(super) fn scan(input: &[u8], limits: &Limits, first_line: usize) -> Result<Option<usize>, Error> {
    let mut line_start = 0;
    let mut previous = 0;
    let mut limit = first_line.min(limits.head);
    for (at, &byte) in input.iter().enumerate() {
        if at >= limit {
            return Err(if at >= limits.head { Error::HeadTooLarge } else { Error::TargetTooLong });
        }
        // Nearly all bytes are of this kind.
        if byte >= b' ' && byte != 0x7f && previous != b'\r' {
            previous = byte;
            continue;
        }
        if previous == b'\r' && byte != b'\n' {
            return Err(Error::Malformed("CR without LF"));
        }
        if byte == b'\n' {
            if previous != b'\r' {
                return Err(Error::Malformed("LF without CR"));
            }
            if at == line_start + 1 {
                return Ok(Some(at + 1));
            }
            line_start = at + 1;
            limit = limits.head;
        } else if (byte < b' ' && byte != b'\t' && byte != b'\r') || byte == 0x7f {
            return Err(Error::Malformed("a control character in the head"));
        }
        previous = byte;
    }
    Ok(None)
}

/// The longest request line whose target is within its limit.
pub(super) fn longest_request_line(limits: &Limits) -> usize {
    limits.target.saturating_add(LINE_EXTRA)
}
