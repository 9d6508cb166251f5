//! Undoes gzip while a body is read (RFC 1952). What comes out is bounded by who reads it, piece by piece: a bomb fills no
//! memory.

use std::task::{Context, Poll, ready};

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

use super::Error;
use super::payload::Payload;
use crate::http1::Headers;

/// Bytes that are received at once.
const BUFFER: usize = 16 * 1024;

/// Bytes of the head of a member, with the name of its file: more is no honest head.
const MAX_HEAD: usize = 4096;

/// Whether the body is compressed with gzip, and nothing else.
pub(super) fn is_gzip(headers: &Headers) -> bool {
    let mut codings = headers.get_all("content-encoding");
    let first = codings.next().map(str::trim);
    let known = first.is_some_and(|c| c.eq_ignore_ascii_case("gzip") || c.eq_ignore_ascii_case("x-gzip"));
    known && codings.next().is_none()
}

/// A place in a gzip file, which may have several members.
pub(super) struct Gunzip {
    input: Vec<u8>,
    used: usize,
    end: usize,
    /// The source gives nothing more.
    dry: bool,
    state: State,
    inflate: Box<InflateState>,
    crc: u32,
    length: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Before a member; nothing need come but before the first.
    Head {
        first: bool,
    },
    Data,
    Tail,
    Done,
}

impl Default for Gunzip {
    fn default() -> Self {
        Self {
            input: vec![0; BUFFER],
            used: 0,
            end: 0,
            dry: false,
            state: State::Head { first: true },
            inflate: InflateState::new_boxed(DataFormat::Raw),
            crc: 0,
            length: 0,
        }
    }
}

impl Gunzip {
    /// Decompressed bytes into `buf`; 0 at the end.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        payload: &mut Payload,
    ) -> Poll<Result<usize, Error>> {
        loop {
            match self.step(buf) {
                Ok(Some(got)) => return Poll::Ready(Ok(got)),
                Ok(None) if self.dry => {
                    let reason = "its gzip breaks off";
                    return Poll::Ready(Err(Error::Encoding { host: payload.host().into(), reason }));
                }
                Ok(None) => ready!(self.poll_fill(cx, payload))?,
                Err(reason) => return Poll::Ready(Err(Error::Encoding { host: payload.host().into(), reason })),
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, payload: &mut Payload) -> Poll<Result<(), Error>> {
        self.input.copy_within(self.used..self.end, 0);
        self.end -= self.used;
        self.used = 0;
        let room = self.input.get_mut(self.end..).unwrap_or_default();
        let got = ready!(payload.poll_read(cx, room))?;
        self.dry = got == 0;
        self.end += got;
        Poll::Ready(Ok(()))
    }

    /// Bytes that came out; `None`: more must come in.
    fn step(&mut self, buf: &mut [u8]) -> Result<Option<usize>, &'static str> {
        if buf.is_empty() {
            return Ok(Some(0));
        }
        loop {
            let input = self.input.get(self.used..self.end).unwrap_or_default();
            match self.state {
                State::Done => return Ok(Some(0)),
                State::Head { first: false } if input.is_empty() && self.dry => self.state = State::Done,
                State::Head { .. } => match head_length(input)? {
                    None if input.len() >= MAX_HEAD => return Err("the head of its gzip is too long"),
                    None => return Ok(None),
                    Some(length) => {
                        self.used += length;
                        self.inflate.reset(DataFormat::Raw);
                        (self.crc, self.length, self.state) = (!0, 0, State::Data);
                    }
                },
                State::Data => {
                    let result = inflate(&mut self.inflate, input, buf, MZFlush::None);
                    self.used += result.bytes_consumed;
                    let got = buf.get(..result.bytes_written).unwrap_or_default();
                    self.crc = crc(self.crc, got);
                    self.length = self.length.wrapping_add(got.len() as u32);
                    match result.status {
                        Ok(MZStatus::StreamEnd) => self.state = State::Tail,
                        Ok(_) | Err(MZError::Buf) => {}
                        Err(_) => return Err("its gzip is damaged"),
                    }
                    if !got.is_empty() {
                        return Ok(Some(got.len()));
                    }
                    if self.state == State::Data && self.used == self.end {
                        return Ok(None);
                    }
                }
                State::Tail => {
                    let Some((tail, _)) = input.split_first_chunk::<8>() else { return Ok(None) };
                    let [a, b, c, d, e, f, g, h] = *tail;
                    if u32::from_le_bytes([a, b, c, d]) != !self.crc || u32::from_le_bytes([e, f, g, h]) != self.length
                    {
                        return Err("the checksum of its gzip is wrong");
                    }
                    self.used += tail.len();
                    self.state = State::Head { first: false };
                }
            }
        }
    }
}

/// The length of a member's head, when it is complete.
fn head_length(input: &[u8]) -> Result<Option<usize>, &'static str> {
    const CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    if !input.iter().zip([0x1f, 0x8b, 8]).all(|(got, expected)| *got == expected) {
        return Err("it says that it is gzip, and is not");
    }
    let Some(flags) = input.get(3).copied().filter(|_| input.len() >= 10) else { return Ok(None) };
    if flags & 0xe0 != 0 {
        return Err("its gzip has a head of a kind that is not known");
    }
    let mut at = 10;
    if flags & EXTRA != 0 {
        let Some([low, high]) = input.get(at..at + 2) else { return Ok(None) };
        at += 2 + usize::from(u16::from_le_bytes([*low, *high]));
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let Some(end) = input.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0)) else {
                return Ok(None);
            };
            at += end + 1;
        }
    }
    if flags & CRC != 0 {
        at += 2;
    }
    Ok(Some(at).filter(|at| *at <= input.len()))
}

/// The CRC-32 of more bytes (RFC 1952 §8), without the inversions at start and end.
fn crc(crc: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    bytes.iter().fold(crc, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let (mut value, mut bit) = (index as u32, 0);
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(!crc(!0, b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn heads_with_all_fields_are_passed() {
        let plain = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        let mut full = plain.to_vec();
        full[3] = 2 | 4 | 8 | 16;
        full.extend_from_slice(&[2, 0, 7, 7]);
        full.extend_from_slice(b"name\0comment\0");
        full.extend_from_slice(&[1, 2]);
        for head in [&plain[..], &full] {
            let longer = [head, b"data"].concat();
            assert_eq!(head_length(&longer), Ok(Some(head.len())));
            for end in 0..head.len() {
                assert_eq!(head_length(&head[..end]), Ok(None), "{end}");
            }
        }
        assert!(head_length(b"PK").is_err() && head_length(&[0x1f, 0x8b, 8, 0x80, 0, 0, 0, 0, 0, 3]).is_err());
    }
}
