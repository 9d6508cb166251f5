//! What must hold for any text that a client sends: entry points of the fuzz targets in `tests/fuzz`. Ordinary tests run them
//! over the corpus that is kept there.

use super::media::Parameterized;
use super::multipart::{ENOUGH, Malformed, Multipart, Step};
use super::ranges::{Selection, select};

/// Bytes as a multipart body, the first line as its boundary: the parts do not depend on how the bytes arrive.
pub fn multipart(input: &[u8]) {
    let (boundary, body) = input.split_at(input.iter().position(|byte| *byte == b'\n').unwrap_or(0));
    let body = body.get(1..).unwrap_or_default();
    let Ok(boundary) = std::str::from_utf8(boundary) else { return };
    let media = format!("multipart/form-data; boundary={boundary}");
    let Some(media) = Parameterized::parse(&media) else { return };
    let whole = parts(&media, body, body.len().max(1));
    assert_eq!(parts(&media, body, 1), whole, "byte by byte there are other parts");
    assert_eq!(parts(&media, body, 13), whole, "in pieces there are other parts");
}

type Part = (String, Option<String>, Vec<u8>);

/// Names, names of files and payloads, and whether the body is complete.
fn parts(media: &Parameterized<'_>, body: &[u8], piece: usize) -> Result<(Vec<Part>, bool), Malformed> {
    let mut parser = Multipart::new(media)?;
    let (mut input, mut parts): (Vec<u8>, Vec<Part>) = (Vec::new(), Vec::new());
    for bytes in body.chunks(piece) {
        input.extend_from_slice(bytes);
        loop {
            match parser.step(&input)? {
                Step::More { used: 0 } => {
                    assert!(input.len() < ENOUGH, "{} bytes are kept", input.len());
                    break;
                }
                Step::More { used } | Step::PartEnd { used } => drop(input.drain(..used)),
                Step::Part { used, head } => {
                    input.drain(..used);
                    parts.push((head.name, head.file_name, Vec::new()));
                }
                Step::Data { length } => {
                    let data = input.drain(..length);
                    parts.last_mut().expect("payload belongs to a part").2.extend(data);
                }
                Step::End => return Ok((parts, true)),
            }
        }
    }
    Ok((parts, false))
}

/// The first 8 bytes as the length of a file, the rest as a `Range` field: every part lies in the file, none overlaps another,
/// and together they are no more than the file.
pub fn range(input: &[u8]) {
    let Some((length, field)) = input.split_first_chunk::<8>() else { return };
    let length = u64::from_le_bytes(*length);
    let Ok(field) = std::str::from_utf8(field) else { return };
    let Selection::Parts(parts) = select(field, length) else { return };
    assert!((1..=16).contains(&parts.len()));
    let mut sorted = parts;
    sorted.sort_by_key(|part| part.start);
    let mut free = 0;
    for (at, part) in sorted.iter().enumerate() {
        assert!(part.start < part.end && part.end <= length, "{part:?} of {length}");
        assert!(at == 0 || part.start > free, "{part:?} touches the one before it");
        free = part.end;
    }
}

/// Text as a `Cookie` field: a value that is found stands in it.
#[cfg(feature = "users")]
pub fn cookie(input: &[u8]) {
    use super::auth::fuzzing::cookies;
    let Ok(field) = std::str::from_utf8(input) else { return };
    for name in ["-web-session-", "a"] {
        for value in cookies(field, name) {
            assert!(field.contains(&value) && !value.contains(';'), "{value:?}");
        }
    }
}

/// Text as an `Authorization` field of digest authentication: what is read, written again and read, is the same.
#[cfg(feature = "users")]
pub fn digest(input: &[u8]) {
    use super::auth::fuzzing::Response;
    let Ok(field) = std::str::from_utf8(input) else { return };
    let Some(read) = Response::parse(field) else { return };
    assert!(read.count() != Some(0) && read.uri.len() <= 2048 && read.nonce.len() <= 256);
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut written = String::from("Digest ");
    for (name, value) in [
        ("username", &read.username),
        ("realm", &read.realm),
        ("nonce", &read.nonce),
        ("uri", &read.uri),
        ("response", &read.response),
        ("algorithm", &read.algorithm),
        ("cnonce", &read.cnonce),
        ("qop", &read.qop),
        ("nc", &read.nc),
    ] {
        written.push_str(&format!("{name}=\"{}\", ", quoted(value)));
    }
    if written.len() <= 4096 {
        assert_eq!(Response::parse(&written), Some(read));
    }
}

#[cfg(test)]
mod tests {
    use crate::corpus::replay;

    #[test]
    fn no_multipart_body_of_the_corpus_breaks_a_promise() {
        replay("multipart", super::multipart);
    }

    #[test]
    fn no_range_of_the_corpus_breaks_a_promise() {
        replay("range", super::range);
    }

    #[cfg(feature = "users")]
    #[test]
    fn no_cookie_of_the_corpus_breaks_a_promise() {
        replay("cookie", super::cookie);
    }

    #[cfg(feature = "users")]
    #[test]
    fn no_digest_of_the_corpus_breaks_a_promise() {
        replay("digest", super::digest);
    }
}
