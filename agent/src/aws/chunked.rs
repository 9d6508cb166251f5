//! Bodies of S3 in chunks, each with a signature of its own: nobody need know the hash of the body before it is sent.
//!
//! Source: Amazon S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in Multiple
//! Chunks" and "Signature calculations for trailing headers".

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ring::{digest, hmac};
use smol::io::AsyncRead;

use super::Credentials;
use super::crc32::continue_crc32;
use super::sigv4::{Options, Payload, Request, Scope, scope_text, sign_with, signing_key};
use crate::net::{self, base64, hex};

/// Bytes of a chunk. S3 takes 8 KiB and more and advises this; only the last may be shorter.
pub const CHUNK: usize = 64 * 1024;

/// The checksum that follows the last chunk, if one does.
const CHECKSUM: &str = "x-amz-checksum-crc32";

/// Signs a request whose body of `length` bytes is sent as [`SignedChunks`]; its payload is of no account. Returns the
/// fields to add to it, `Content-Encoding` among them, and what signs the chunks.
///
/// With `trailer`, a CRC-32 of the body follows it, which S3 checks and keeps with the object.
pub fn sign_chunked(
    request: &Request,
    credentials: &Credentials,
    scope: &Scope,
    now: i64,
    length: u64,
    trailer: bool,
) -> (Vec<(&'static str, String)>, ChunkSigner) {
    let mut added =
        vec![("Content-Encoding", "aws-chunked".to_owned()), ("X-Amz-Decoded-Content-Length", length.to_string())];
    if trailer {
        added.push(("X-Amz-Trailer", CHECKSUM.to_owned()));
    }
    let date = net::amz_date(now);
    let request = Request { payload: Payload::Chunked { trailer }, ..*request };
    let (added, seed) = sign_with(&request, credentials, scope, &date, &Options::s3(), added);
    (added, ChunkSigner::new(credentials, scope, date, seed))
}

/// Bytes that go over the wire for a body of `length`: what stands in `Content-Length`.
pub fn encoded_length(length: u64, trailer: bool) -> u64 {
    let frame = |size: u64| format!("{size:x};chunk-signature=\r\n\r\n").len() as u64 + 64;
    let (full, rest) = (length / CHUNK as u64, length % CHUNK as u64);
    let last = if rest == 0 { 0 } else { frame(rest) + rest };
    // The checksum is the base64 of four bytes.
    let end = if trailer { CHECKSUM.len() as u64 + 11 + "x-amz-trailer-signature:\r\n".len() as u64 + 64 } else { 0 };
    full * (frame(CHUNK as u64) + CHUNK as u64) + last + frame(0) + end
}

/// Signs one chunk after the other: each signature covers the one before, so that none can be left out or moved.
pub struct ChunkSigner {
    key: hmac::Key,
    date: String,
    scope: String,
    previous: String,
}

impl ChunkSigner {
    fn new(credentials: &Credentials, scope: &Scope, date: String, seed: String) -> Self {
        let (key, scope) = (signing_key(credentials, scope, &date), scope_text(scope, &date));
        Self { key, date, scope, previous: seed }
    }

    /// The line before a chunk; the chunk and `\r\n` follow. The last chunk is empty.
    pub fn chunk(&mut self, data: &[u8]) -> String {
        let empty = sha256(b"");
        let signature = self.sign("AWS4-HMAC-SHA256-PAYLOAD", &format!("{empty}\n{}", sha256(data)));
        format!("{:x};chunk-signature={signature}\r\n", data.len())
    }

    /// The lines after the line of the last chunk, in place of its `\r\n`.
    pub fn trailer(&mut self, name: &str, value: &str) -> String {
        let signature = self.sign("AWS4-HMAC-SHA256-TRAILER", &sha256(format!("{name}:{value}\n").as_bytes()));
        format!("{name}:{value}\r\nx-amz-trailer-signature:{signature}\r\n\r\n")
    }

    fn sign(&mut self, algorithm: &str, hashes: &str) -> String {
        let Self { key, date, scope, previous } = self;
        let text = format!("{algorithm}\n{date}\n{scope}\n{previous}\n{hashes}");
        self.previous = hex::encode(hmac::sign(key, text.as_bytes()).as_ref());
        self.previous.clone()
    }
}

impl std::fmt::Debug for ChunkSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkSigner").field("scope", &self.scope).finish_non_exhaustive()
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// A body in signed chunks. It takes one chunk of memory.
#[derive(Debug)]
pub struct SignedChunks<R> {
    reader: R,
    signer: ChunkSigner,
    /// Bytes of the body that are to come from the reader.
    left: u64,
    /// The CRC-32 so far, if it is to follow the body.
    checksum: Option<u32>,
    /// The chunk that is collected.
    chunk: Vec<u8>,
    /// What goes over the wire: `wire[sent..]` is to come.
    wire: Vec<u8>,
    sent: usize,
    done: bool,
}

impl<R: AsyncRead + Unpin> SignedChunks<R> {
    /// Of a reader that has exactly `length` bytes, with what [`sign_chunked`] returned for them.
    pub fn new(reader: R, length: u64, signer: ChunkSigner, trailer: bool) -> Self {
        let checksum = trailer.then_some(0);
        Self { reader, signer, left: length, checksum, chunk: Vec::new(), wire: Vec::new(), sent: 0, done: false }
    }

    /// Collects a chunk, and signs it when it is complete.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let want = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        let mut got = self.chunk.len();
        self.chunk.resize(want, 0);
        while got < want {
            match Pin::new(&mut self.reader).poll_read(cx, &mut self.chunk[got..]) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the body is shorter than it was said to be",
                    )));
                }
                Poll::Ready(Ok(more)) => got += more,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.chunk.truncate(got);
                    return Poll::Pending;
                }
            }
        }
        self.left -= want as u64;
        self.checksum = self.checksum.map(|crc| continue_crc32(crc, &self.chunk));
        self.wire.clear();
        self.sent = 0;
        self.wire.extend_from_slice(self.signer.chunk(&self.chunk).as_bytes());
        self.wire.extend_from_slice(&self.chunk);
        match self.checksum.filter(|_| want == 0) {
            Some(crc) => {
                let trailer = self.signer.trailer(CHECKSUM, &base64::encode(&crc.to_be_bytes()));
                self.wire.extend_from_slice(trailer.as_bytes());
            }
            None => self.wire.extend_from_slice(b"\r\n"),
        }
        self.chunk.clear();
        self.done = want == 0;
        Poll::Ready(Ok(()))
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for SignedChunks<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.sent == self.wire.len() {
            if self.done {
                return Poll::Ready(Ok(0));
            }
            ready!(self.poll_chunk(cx))?;
        }
        let piece = buffer.len().min(self.wire.len() - self.sent);
        buffer[..piece].copy_from_slice(&self.wire[self.sent..self.sent + piece]);
        self.sent += piece;
        Poll::Ready(Ok(piece))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use smol::io::AsyncReadExt;

    use super::*;

    const NOW: i64 = 1_369_353_600_000;
    const SCOPE: Scope = Scope { region: "us-east-1", service: "s3" };
    static BODY: [u8; 66_560] = [b'a'; 66_560];

    fn credentials() -> Credentials {
        Credentials::new("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    }

    fn request<'a>(headers: &'a [(&'a str, &'a str)]) -> Request<'a> {
        Request { method: "PUT", target: "/examplebucket/chunkObject.txt", headers, payload: Payload::Unsigned }
    }

    fn read(chunks: SignedChunks<&[u8]>) -> String {
        let mut wire = String::new();
        let mut chunks = chunks;
        smol::block_on(chunks.read_to_string(&mut wire)).unwrap();
        wire
    }

    /// The lines of signatures, without the data.
    fn lines(wire: &str) -> Vec<&str> {
        wire.split("\r\n").filter(|line| line.contains(':') || line.contains(';')).collect()
    }

    #[test]
    fn chunks_have_the_signatures_of_the_documents() {
        let headers = [
            ("Host", "s3.amazonaws.com"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            // The program that sends it has it from `encoded_length`.
            ("Content-Length", "66824"),
        ];
        let (added, signer) = sign_chunked(&request(&headers), &credentials(), &SCOPE, NOW, BODY.len() as u64, false);
        let (_, authorization) = added.last().unwrap();
        assert!(
            authorization.ends_with("4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"),
            "{added:?}"
        );
        assert!(added.contains(&("X-Amz-Decoded-Content-Length", "66560".into())), "{added:?}");
        let wire = read(SignedChunks::new(&BODY, BODY.len() as u64, signer, false));
        assert_eq!(
            lines(&wire),
            [
                "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
                "400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
                "0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
            ]
        );
        assert!(wire.ends_with("449df9\r\n\r\n") && wire.len() == 66_824);
        assert_eq!(encoded_length(BODY.len() as u64, false), 66_824);
    }

    /// The checksum of the example is a CRC-32C, ours is a CRC-32: so the seed is taken from there.
    #[test]
    fn trailers_have_the_signature_of_the_documents() {
        let seed = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";
        let mut signer = ChunkSigner::new(&credentials(), &SCOPE, net::amz_date(NOW), seed.into());
        let mut wire: String = [&BODY[..CHUNK], &BODY[CHUNK..], b""].iter().map(|data| signer.chunk(data)).collect();
        wire.push_str(&signer.trailer("x-amz-checksum-crc32c", "sOO8/Q=="));
        assert_eq!(
            lines(&wire),
            [
                "10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
                "400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
                "0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
                "x-amz-checksum-crc32c:sOO8/Q==",
                "x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435",
            ]
        );
    }

    #[test]
    fn the_length_on_the_wire_is_known_before() {
        let body = vec![b'.'; 3 * CHUNK + 1];
        for length in [0, 1, 9, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 1] {
            for trailer in [false, true] {
                let (_, signer) =
                    sign_chunked(&request(&[("Host", "h")]), &credentials(), &SCOPE, NOW, length as u64, trailer);
                // What a reader has beyond the length stays there.
                let wire = read(SignedChunks::new(&body[..], length as u64, signer, trailer));
                assert_eq!(wire.len() as u64, encoded_length(length as u64, trailer), "{length} {trailer}");
                assert_eq!(wire.matches('.').count(), length, "{trailer}");
            }
        }
    }

    #[test]
    fn a_body_that_is_too_short_is_an_error() {
        let (_, signer) = sign_chunked(&request(&[("Host", "h")]), &credentials(), &SCOPE, NOW, 10, false);
        let mut chunks = SignedChunks::new(&b"short"[..], 10, signer, false);
        let error = smol::block_on(chunks.read_to_end(&mut Vec::new())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
