//! Texts of records: bounded, and fit to be passed on.

use super::super::Record;

/// What a text that was cut ends with.
fn mark(more: u64) -> String {
    format!("… [{more} bytes more]")
}

/// A text of `bytes`, of which `more` followed that were not kept, with `most` bytes at most before the mark.
///
/// What is no UTF-8 becomes the replacement character, and so do NULs; line ends at the end are taken off.
pub(super) fn text(mut bytes: &[u8], most: usize, mut more: u64) -> String {
    if bytes.len() > most {
        // Not in the middle of a character.
        let cut = (most.saturating_sub(3)..=most).rev().find(|at| is_boundary(bytes, *at)).unwrap_or(most);
        more += (bytes.len() - cut) as u64;
        bytes = bytes.get(..cut).unwrap_or_default();
    }
    let mut text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    };
    if text.contains('\0') {
        text = text.replace('\0', "\u{fffd}");
    }
    match more {
        0 => text.truncate(text.trim_end_matches(['\r', '\n']).len()),
        more => text.push_str(&mark(more)),
    }
    text
}

fn is_boundary(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_none_or(|byte| byte & 0xc0 != 0x80)
}

/// A record in which the agent itself says something about a source, where the records stand that it is about. It goes past
/// the filters.
pub(super) fn said(text: impl Into<String>) -> Record {
    let text = text.into();
    log::warn!("{text}");
    Record {
        at: crate::net::utc_ms().saturating_mul(1000),
        severity: 4,
        facility: 3,
        identifier: super::OWN.to_owned(),
        pid: Some(std::process::id()),
        text,
        ..Record::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters_and_say_how_much_is_missing() {
        assert_eq!(text(b"abc\r\n", 10, 0), "abc");
        assert_eq!(text("aä".as_bytes(), 2, 0), "a… [2 bytes more]");
        assert_eq!(text(b"abc", 2, 5), "ab… [6 bytes more]");
        assert_eq!(text(b"a\0b\xff", 10, 0), "a\u{fffd}b\u{fffd}");
        assert_eq!(text(&[0x80; 10], 4, 0), format!("{}… [6 bytes more]", "\u{fffd}".repeat(4)));
    }
}
