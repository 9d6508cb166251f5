//! What must hold for any bytes that a peer sends: entry points of the fuzz targets in `tests/fuzz`. Ordinary tests run them
//! over the corpus that is kept there.

use super::{BodyDecoder, Error, Framing, Limits, Step, encode_request, parse_request, parse_response};

/// Bytes as the head of a request, and of a response: the verdict does not depend on how they arrive, and what is accepted
/// means the same when it is written again.
pub fn head(input: &[u8]) {
    let limits = Limits { head: 4096, headers: 32, target: 1024 };
    let whole = parse_request(input, &limits);
    let mut in_pieces = Ok(None);
    for end in 0..=input.len().min(limits.head + 2) {
        in_pieces = parse_request(&input[..end], &limits);
        if !matches!(in_pieces, Ok(None)) {
            break;
        }
    }
    assert_eq!(in_pieces, whole, "the verdict depends on the pieces");
    if let Ok(Some((head, length))) = whole {
        assert!(length <= input.len() && head.target.len() <= limits.target && head.headers.len() <= limits.headers);
        assert!(head.path().starts_with('/') || head.path() == "*");
        let mut written = Vec::new();
        encode_request(&head, &mut written).expect("what was accepted can be sent");
        let again = parse_request(&written, &Limits::default()).expect("what was written is right");
        assert_eq!(again.map(|(again, _)| again), Some(head));
    }
    if let Ok(Some((head, length))) = parse_response(input, &limits) {
        assert!(length <= input.len() && (100..=599).contains(&head.status));
    }
}

/// Bytes as a chunked body: payload and end do not depend on the pieces, and nothing behind the end is touched.
pub fn chunked(input: &[u8]) {
    let whole = decode(input, input.len().max(1));
    assert_eq!(decode(input, 1), whole, "byte by byte it is another body");
    assert_eq!(decode(input, 7), whole, "in pieces it is another body");
    if let Ok((payload, Some(end))) = whole {
        assert!(payload.len() < end && end <= input.len());
        assert!(input[..end].ends_with(b"\r\n\r\n"));
    }
}

/// Payload, and where the body ended.
fn decode(input: &[u8], piece: usize) -> Result<(Vec<u8>, Option<usize>), Error> {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let (mut payload, mut at) = (Vec::new(), 0);
    for bytes in input.chunks(piece) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match decoder.decode(rest)? {
                Step::Payload { start, end } => {
                    payload.extend_from_slice(&rest[start..end]);
                    at += end;
                    rest = &rest[end..];
                }
                Step::More { used } => {
                    assert_eq!(used, rest.len(), "more is wanted and there is more");
                    at += used;
                    rest = &[];
                }
                Step::End { used } => return Ok((payload, Some(at + used))),
            }
        }
        if decoder.is_done() {
            return Ok((payload, Some(at)));
        }
    }
    Ok((payload, None))
}

#[cfg(test)]
mod tests {
    use crate::corpus::replay;

    #[test]
    fn no_head_of_the_corpus_breaks_a_promise() {
        replay("head", super::head);
    }

    #[test]
    fn no_chunked_body_of_the_corpus_breaks_a_promise() {
        replay("chunked", super::chunked);
    }
}
