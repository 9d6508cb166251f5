//! Which bytes of a file a client asked for (RFC 9110 §14).

use std::ops::Range;

/// Ranges that one request may ask for. A client that resumes or seeks asks for one; hundreds are an attack.
const MAX_RANGES: usize = 16;

/// What to send of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of it: the field is not understood or asks for too much.
    Whole,
    /// These parts, at least one; none is empty, none overlaps or touches another. They stand in the order in which they
    /// were asked for.
    Parts(Vec<Range<u64>>),
    /// Nothing that was asked for is there.
    Unsatisfiable,
}

/// Reads the value of a `Range` field for a file of `length` bytes.
///
/// The whole file is the answer to an unknown unit, to anything malformed, and to more than 16 ranges. Ranges that are not
/// there are left out; those that overlap or touch are merged, so that no byte is sent twice.
pub(super) fn select(field: &str, length: u64) -> Selection {
    let Some((unit, set)) = field.split_once('=') else { return Selection::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Selection::Whole;
    }
    let mut parts: Vec<Range<u64>> = Vec::new();
    let mut asked = 0;
    for text in set.split(',').map(|text| text.trim_matches([' ', '\t'])).filter(|text| !text.is_empty()) {
        asked += 1;
        let Some(wanted) = Wanted::parse(text) else { return Selection::Whole };
        match wanted.within(length) {
            _ if asked > MAX_RANGES => return Selection::Whole,
            // The last bytes of an empty file: they are there, and there are none (§14.1.2).
            Some(part) if part.is_empty() => return Selection::Whole,
            Some(part) => merge(&mut parts, part),
            None => {}
        }
    }
    match (asked, parts.is_empty()) {
        (0, _) => Selection::Whole,
        (_, true) => Selection::Unsatisfiable,
        _ => Selection::Parts(parts),
    }
}

/// One range as it is asked for.
enum Wanted {
    /// From a byte to another, both included.
    From(u64, u64),
    /// So many bytes at the end.
    Last(u64),
}

impl Wanted {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        if first.is_empty() {
            return Some(Wanted::Last(number(last)?));
        }
        let first = number(first)?;
        let last = if last.is_empty() { u64::MAX } else { number(last)? };
        (first <= last).then_some(Wanted::From(first, last))
    }

    /// The bytes of a file of that length, if it has them.
    fn within(self, length: u64) -> Option<Range<u64>> {
        match self {
            Wanted::From(first, _) if first >= length => None,
            Wanted::From(first, last) => Some(first..last.saturating_add(1).min(length)),
            Wanted::Last(0) => None,
            Wanted::Last(count) => Some(length.saturating_sub(count)..length),
        }
    }
}

/// Digits; a number beyond 64 bits is as good as the largest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Adds a part; what it overlaps or touches becomes one with it, at the place of the first.
fn merge(parts: &mut Vec<Range<u64>>, mut part: Range<u64>) {
    let mut place = parts.len();
    while let Some(found) = parts.iter().position(|known| known.start <= part.end && part.start <= known.end) {
        let known = parts.remove(found);
        part = known.start.min(part.start)..known.end.max(part.end);
        place = place.min(found);
    }
    parts.insert(place.min(parts.len()), part);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard_are_understood() {
        for (field, expected) in [
            ("bytes=0-499", vec![0..500]),
            ("bytes=500-999", vec![500..1000]),
            ("bytes=-500", vec![9500..10_000]),
            ("bytes=9500-", vec![9500..10_000]),
            ("bytes=0-0,-1", vec![0..1, 9999..10_000]),
            ("bytes= 0-0, 4500-5499, -1", vec![0..1, 4500..5500, 9999..10_000]),
            ("bytes=500-600,601-999", vec![500..1000]),
            ("bytes=500-700,601-999", vec![500..1000]),
        ] {
            assert_eq!(select(field, 10_000), Selection::Parts(expected), "{field}");
        }
    }

    #[test]
    fn odd_but_valid_ranges_are_served() {
        for (field, expected) in [
            ("Bytes=5-", vec![5..10]),
            ("bytes=,,3-3 ,\t, 5-5,", vec![3..4, 5..6]),
            ("bytes=-99", vec![0..10]),
            ("bytes=0-99999999999999999999999", vec![0..10]),
            ("bytes=0-18446744073709551615", vec![0..10]),
            ("bytes=8-9,4-5,0-1", vec![8..10, 4..6, 0..2]),
            ("bytes=8-9,0-1,2-7", vec![0..10]),
            ("bytes=4-5,0-1,2-3,9-", vec![0..6, 9..10]),
            ("bytes=99-,2-3", vec![2..4]),
            ("bytes=-0,2-3", vec![2..4]),
        ] {
            assert_eq!(select(field, 10), Selection::Parts(expected), "{field}");
        }
    }

    #[test]
    fn what_is_not_understood_means_the_whole_file() {
        for field in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=a",
            "bytes=5",
            "bytes=-",
            "bytes=--5",
            "bytes=1-2-3",
            "bytes=5-4",
            "bytes=+1-2",
            "bytes=1 -2",
            "bytes=0x1-",
            "bytes=0-1;2-3",
            "bytes=0-1,x",
            "lines=0-1",
            "bytes 0-1",
        ] {
            assert_eq!(select(field, 10), Selection::Whole, "{field}");
        }
    }

    #[test]
    fn only_when_nothing_is_there_it_is_unsatisfiable() {
        for (field, length) in [
            ("bytes=10-", 10),
            ("bytes=10-11,99-", 10),
            ("bytes=-0", 10),
            ("bytes=0-", 0),
            ("bytes=99999999999999999999-", 10),
        ] {
            assert_eq!(select(field, length), Selection::Unsatisfiable, "{field} of {length}");
        }
        assert_eq!(select("bytes=-1", 0), Selection::Whole);
    }

    #[test]
    fn too_many_ranges_mean_the_whole_file() {
        let many = |count: usize| format!("bytes={}", vec!["0-"; count].join(","));
        assert_eq!(select(&many(16), 10), Selection::Parts(vec![0..10]));
        assert_eq!(select(&many(17), 10), Selection::Whole);
        assert_eq!(select(&format!("bytes={}", vec!["99-"; 17].join(",")), 10), Selection::Whole);
    }

    fn seeded() -> fastrand::Rng {
        let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
        println!("SEED={seed}");
        fastrand::Rng::with_seed(seed)
    }

    #[test]
    fn exactly_the_bytes_that_were_asked_for_are_selected() {
        let mut random = seeded();
        for _ in 0..20_000 {
            let length = random.u64(1..24);
            let mut asked = vec![false; length as usize];
            let mut texts = Vec::new();
            for _ in 0..random.usize(1..=16) {
                let (a, b) = (random.u64(0..32), random.u64(0..32));
                let (first, last) = (a.min(b), a.max(b));
                let (text, bytes) = match random.u8(0..3) {
                    0 => (format!("{first}-{last}"), first..last + 1),
                    1 => (format!("{first}-"), first..u64::MAX),
                    _ => (format!("-{last}"), length.saturating_sub(last)..length),
                };
                texts.push(text);
                asked.iter_mut().enumerate().for_each(|(at, asked)| *asked |= bytes.contains(&(at as u64)));
            }
            let field = format!("bytes={}", texts.join(","));
            let mut sent = vec![false; length as usize];
            match select(&field, length) {
                Selection::Whole => panic!("{field} of {length} is understood"),
                Selection::Unsatisfiable => {}
                Selection::Parts(parts) => {
                    for (index, part) in parts.iter().enumerate() {
                        assert!(!part.is_empty() && part.end <= length, "{field} of {length}: {parts:?}");
                        let is_apart = |other: &Range<u64>| other.start > part.end || part.start > other.end;
                        assert!(parts.iter().skip(index + 1).all(is_apart), "{field} of {length}: {parts:?}");
                        part.clone().for_each(|at| sent[at as usize] = true);
                    }
                }
            }
            assert_eq!(sent, asked, "{field} of {length}");
        }
    }

    #[test]
    fn no_text_makes_more_than_the_file() {
        let mut random = seeded();
        let alphabet = b"bytes=0123456789-,, \t9999";
        for _ in 0..50_000 {
            let text: String = (0..random.usize(0..40)).map(|_| *random.choice(alphabet).unwrap() as char).collect();
            let length = random.choice([0, 1, 10, u64::MAX]).unwrap();
            for field in [text.clone(), format!("bytes={text}")] {
                let Selection::Parts(parts) = select(&field, length) else { continue };
                let total = parts.iter().map(|part| u128::from(part.end - part.start)).sum::<u128>();
                assert!(!parts.is_empty() && parts.len() <= MAX_RANGES && total <= u128::from(length), "{field:?}");
            }
        }
    }
}
