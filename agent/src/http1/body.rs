//! Takes the payload of a body out of what was received.

use super::method::is_token;
use super::{Error, Framing, Headers};
use crate::net::hex;

/// Digits of a chunk size: more do not fit 64 bits.
const MAX_SIZE_DIGITS: u8 = 16;
/// Bytes of all chunk extensions of one body. Nobody uses them; without a bound they are a way to send for ever.
const MAX_EXTENSIONS: u32 = 4096;
/// Bytes of all trailer fields of one body. They are checked, and dropped unless they are wanted.
const MAX_TRAILERS: u32 = 4096;

/// Finds the payload in the bytes of one body. It keeps no data, only its place, and the trailers if they are wanted.
///
/// ```
/// use ioto::http1::{BodyDecoder, Framing, Step};
///
/// let received = b"5\r\nhello\r\n0\r\n\r\nGET /next";
/// let mut decoder = BodyDecoder::new(Framing::Chunked);
/// assert_eq!(decoder.decode(received), Ok(Step::Payload { start: 3, end: 8 }));
/// assert_eq!(decoder.decode(&received[8..]), Ok(Step::End { used: 7 }));
/// ```
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
    extensions: u32,
    trailers: u32,
    /// Names and values of the trailers as they came.
    kept: Option<Vec<u8>>,
}

/// What [`BodyDecoder::decode`] found at the start of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `input[start..end]` is payload, never empty. The bytes up to `end` are used up.
    Payload {
        /// The first byte of the payload.
        start: usize,
        /// One past its last byte.
        end: usize,
    },
    /// No payload; the first `used` bytes are used up, and more input is needed.
    More {
        /// Bytes to drop from the input: all of it.
        used: usize,
    },
    /// The body is complete. What follows the first `used` bytes belongs to the next message.
    End {
        /// Bytes to drop from the input.
        used: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    Size { digits: u8, size: u64 },
    Extension { size: u64 },
    SizeLf { size: u64 },
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
    Failed(Error),
}

impl BodyDecoder {
    /// A decoder for one body.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { digits: 0, size: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, extensions: 0, trailers: 0, kept: None }
    }

    /// Keeps the fields that follow a body in chunks, for [`BodyDecoder::trailers`].
    pub fn keep_trailers(&mut self) {
        self.kept = Some(Vec::new());
    }

    /// The fields that followed a body in chunks, when it is complete. What is not text in UTF-8 is left out.
    pub fn trailers(&self) -> Headers {
        let mut fields = Headers::new();
        let kept = self.kept.as_deref().filter(|_| self.is_done()).unwrap_or_default();
        for line in kept.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()) {
            if let Some((name, value)) = line.split_once(':') {
                // Name and value were checked when they came.
                let _ = fields.append(name, value.trim_matches([' ', '\t']));
            }
        }
        fields
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The payload bytes that are still to come, if the body has a known length.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// So many bytes that come next are payload for sure: they may be received right where they are wanted, and reported
    /// with [`BodyDecoder::advance`].
    pub fn direct(&self) -> u64 {
        match self.state {
            State::Length(left) | State::Data(left) => left,
            State::UntilClose => u64::MAX,
            _ => 0,
        }
    }

    /// So many payload bytes were received without [`BodyDecoder::decode`], at most [`BodyDecoder::direct`].
    pub fn advance(&mut self, bytes: u64) {
        match &mut self.state {
            State::Length(left) => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    self.state = State::Done;
                }
            }
            State::Data(left) => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    self.state = State::DataCr;
                }
            }
            _ => {}
        }
    }

    /// Looks at what was received and is not used up. Call it until it answers [`Step::More`] or [`Step::End`]; pass what
    /// follows the bytes that are used up.
    ///
    /// # Errors
    /// [`Error::Malformed`] for chunks that are not right in every byte; again at every later call.
    pub fn decode(&mut self, input: &[u8]) -> Result<Step, Error> {
        let used = self.frame(input)?;
        if self.is_done() {
            return Ok(Step::End { used });
        }
        let length = usize::try_from(self.direct()).unwrap_or(usize::MAX).min(input.len() - used);
        if length == 0 {
            return Ok(Step::More { used });
        }
        self.advance(length as u64);
        Ok(Step::Payload { start: used, end: used + length })
    }

    /// Takes what stands before the next payload, and returns how many bytes of the input that is. After it either
    /// [`BodyDecoder::direct`] bytes of payload follow, or the body is complete, or all input was taken and more is needed.
    ///
    /// # Errors
    /// As [`BodyDecoder::decode`].
    pub fn frame(&mut self, input: &[u8]) -> Result<usize, Error> {
        let mut used = 0;
        while self.direct() == 0 && self.state != State::Done {
            if let State::Failed(error) = self.state {
                return Err(error);
            }
            let Some(&byte) = input.get(used) else { break };
            self.state = self.step(byte).inspect_err(|&error| self.state = State::Failed(error))?;
            used += 1;
            self.keep(byte);
        }
        Ok(used)
    }

    /// The peer sends nothing more.
    ///
    /// # Errors
    /// [`Error::Truncated`] unless the body is complete or ends with the connection.
    pub fn end_of_input(&mut self) -> Result<(), Error> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Failed(error) => Err(error),
            _ => {
                self.state = State::Failed(Error::Truncated);
                Err(Error::Truncated)
            }
        }
    }

    /// `step` has counted them.
    fn keep(&mut self, byte: u8) {
        let Some(kept) = &mut self.kept else { return };
        match self.state {
            State::TrailerName | State::TrailerValue => kept.push(byte),
            State::TrailerLf => kept.push(b'\n'),
            _ => {}
        }
    }

    /// One byte between payloads (RFC 9112 §7.1). Stricter than the grammar: no space beside the size.
    fn step(&mut self, byte: u8) -> Result<State, Error> {
        Ok(match (self.state, byte) {
            (State::Size { digits, size }, _) if hex::digit(byte).is_some() => {
                if digits == MAX_SIZE_DIGITS {
                    return Err(Error::Malformed("a chunk size has too many digits"));
                }
                State::Size { digits: digits + 1, size: size << 4 | u64::from(hex::digit(byte).unwrap_or_default()) }
            }
            (State::Size { digits: 1.., size }, b';') => State::Extension { size },
            (State::Size { digits: 1.., size }, b'\r') => State::SizeLf { size },
            (State::Size { .. }, _) => return Err(Error::Malformed("a chunk size is not hexadecimal")),

            (State::Extension { size }, b'\r') => State::SizeLf { size },
            (State::Extension { size }, b' '..=b'~' | b'\t') => {
                count(&mut self.extensions, MAX_EXTENSIONS, "the chunk extensions are too long")?;
                State::Extension { size }
            }
            (State::Extension { .. }, _) => return Err(Error::Malformed("a chunk extension")),

            (State::SizeLf { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeLf { size }, b'\n') => State::Data(size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { digits: 0, size: 0 },
            (State::DataCr | State::DataLf, _) => return Err(Error::Malformed("a chunk is longer than its size")),

            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) => {
                count(&mut self.trailers, MAX_TRAILERS, "the trailers are too long")?;
                State::TrailerName
            }
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, b' '..=b'~' | b'\t' | 0x80..) => {
                count(&mut self.trailers, MAX_TRAILERS, "the trailers are too long")?;
                State::TrailerValue
            }
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _) => {
                return Err(Error::Malformed("a trailer field"));
            }
            (State::EndLf, b'\n') => State::Done,
            _ => return Err(Error::Malformed("CR without LF in a chunked body")),
        })
    }
}

fn count(counter: &mut u32, limit: u32, what: &'static str) -> Result<(), Error> {
    *counter += 1;
    if *counter > limit { Err(Error::Malformed(what)) } else { Ok(()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Decodes pieces; payload, rest after the end.
    fn decode(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, Option<Vec<u8>>), Error> {
        let mut decoder = BodyDecoder::new(framing);
        let mut payload = Vec::new();
        let mut input = Vec::new();
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match decoder.decode(&input)? {
                    Step::Payload { start, end } => {
                        payload.extend_from_slice(&input[start..end]);
                        input.drain(..end);
                    }
                    Step::More { used } => {
                        input.drain(..used);
                        break;
                    }
                    Step::End { used } => {
                        input.drain(..used);
                        break;
                    }
                }
            }
        }
        let rest = decoder.is_done().then_some(input);
        Ok((payload, rest))
    }

    fn chunked(text: &str) -> Result<(Vec<u8>, Option<Vec<u8>>), Error> {
        decode(Framing::Chunked, &[text.as_bytes()])
    }

    #[test]
    fn a_length_ends_where_it_says() {
        assert_eq!(decode(Framing::Length(3), &[b"abcd"]), Ok((b"abc".to_vec(), Some(b"d".to_vec()))));
        assert_eq!(decode(Framing::Length(3), &[b"ab"]), Ok((b"ab".to_vec(), None)));
        assert_eq!(decode(Framing::Empty, &[b"x"]), Ok((vec![], Some(b"x".to_vec()))));
        assert_eq!(decode(Framing::UntilClose, &[b"x", b"y"]), Ok((b"xy".to_vec(), None)));
    }

    #[test]
    fn good_chunks_are_decoded() {
        for (text, payload) in [
            ("0\r\n\r\n", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "abc"),
            ("0003\r\nabc\r\n000\r\n\r\n", "abc"),
            ("A;name=\"v w\"\r\n0123456789\r\n1\r\nx\r\n0;e\r\n\r\n", "0123456789x"),
            ("1\r\na\r\n0\r\nTrailer: dropped\r\nOther:\r\n\r\n", "a"),
        ] {
            let next = format!("{text}GET /");
            assert_eq!(chunked(&next), Ok((payload.into(), Some(b"GET /".to_vec()))), "{text:?}");
        }
    }

    #[test]
    fn bad_chunks_are_refused() {
        for text in [
            "+3\r\nabc\r\n",
            "-1\r\n",
            "0x3\r\nabc\r\n",
            "3 \r\nabc\r\n",
            " 3\r\nabc\r\n",
            "\r\n",
            ";x\r\n",
            "g\r\n",
            "3\nabc\n0\n\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\r\nabc0\r\n\r\n",
            "3;a\nb\r\nabc\r\n",
            "3;a\0\r\nabc\r\n",
            "3\rabc\r\n",
            "00000000000000003\r\nabc\r\n",
            "11111111111111111\r\n",
            "0\r\n fold\r\n\r\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\nA : b\r\n\r\n",
            "0\r\n\rx",
        ] {
            assert!(matches!(chunked(text), Err(Error::Malformed(_))), "{text:?} {:?}", chunked(text));
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded_over_the_whole_body() {
        let extensions = format!("1;{}\r\nx\r\n", "e".repeat(100)).repeat(50);
        assert!(chunked(&extensions).is_err());
        let trailers = format!("0\r\n{}", "A: b\r\n".repeat(5000));
        assert!(chunked(&trailers).is_err());
    }

    #[test]
    fn the_largest_size_does_not_overflow() {
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        assert_eq!(decoder.decode(b"ffffffffffffffff\r\n"), Ok(Step::More { used: 18 }));
        assert_eq!(decoder.direct(), u64::MAX);
        assert_eq!(decoder.end_of_input(), Err(Error::Truncated));
    }

    #[test]
    fn a_body_that_breaks_off_is_not_complete() {
        assert_eq!(BodyDecoder::new(Framing::Length(1)).end_of_input(), Err(Error::Truncated));
        assert_eq!(BodyDecoder::new(Framing::UntilClose).end_of_input(), Ok(()));
        assert_eq!(BodyDecoder::new(Framing::Empty).end_of_input(), Ok(()));
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        decoder.decode(b"0\r\n").unwrap();
        assert_eq!(decoder.end_of_input(), Err(Error::Truncated));
    }

    #[test]
    fn any_split_of_a_chunked_body_gives_the_same_payload() {
        let seed = super::super::table::seed();
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..300 {
            let mut body = Vec::new();
            let mut payload = Vec::new();
            for _ in 0..random.usize(0..6) {
                let data: Vec<u8> = (0..random.usize(1..40)).map(|_| random.u8(..)).collect();
                super::super::encode_chunk(&data, &mut body);
                payload.extend_from_slice(&data);
            }
            body.extend_from_slice(b"0;x=y\r\nA: b\r\n\r\nnext");
            let mut pieces: Vec<&[u8]> = Vec::new();
            let mut rest = &body[..];
            while !rest.is_empty() {
                let (piece, left) = rest.split_at(random.usize(1..=rest.len().min(9)));
                pieces.push(piece);
                rest = left;
            }
            assert_eq!(decode(Framing::Chunked, &pieces), Ok((payload, Some(b"next".to_vec()))), "seed {seed}");
        }
    }
}
