//! Sends files, or parts of them.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use super::exchange::Sender;
use super::transfer::{Body, Stage};
use super::{Error, Exchange};
use crate::http1::Method;

/// Bytes read and sent at a time. A file up to this size goes out in one write with its head.
const BLOCK: u64 = 64 * 1024;
/// Bytes of a longer file that go out with its head, so that the head is not a packet of its own.
const FIRST: u64 = 16 * 1024;

/// Answers with all of a file of `length` bytes.
pub(super) async fn send_whole(exchange: &Exchange, kind: &str, file: File, length: u64) -> Result<(), Error> {
    if !begin(exchange, kind, length).await? {
        return Ok(());
    }
    send_bytes(exchange, &file, length).await?;
    end(exchange).await
}

/// Answers with parts of a file of `length` bytes: one as it is, several as `multipart/byteranges` (RFC 9110 §14.6).
pub(super) async fn send_parts(
    exchange: &mut Exchange,
    kind: &str,
    file: File,
    length: u64,
    parts: &[Range<u64>],
) -> Result<(), Error> {
    exchange.set_status(206);
    if let [part] = parts {
        exchange.set_header("Content-Range", &content_range(part, length))?;
        if begin(exchange, kind, part.end - part.start).await? {
            send_part(exchange, &file, part).await?;
            end(exchange).await?;
        }
        return Ok(());
    }
    let boundary = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let heads: Vec<String> = parts
        .iter()
        .map(|part| {
            let range = content_range(part, length);
            format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {range}\r\n\r\n")
        })
        .collect();
    let tail = format!("\r\n--{boundary}--\r\n");
    let bytes = parts.iter().map(|part| part.end - part.start).sum::<u64>();
    let framing = heads.iter().map(String::len).sum::<usize>() + tail.len();
    if begin(exchange, &format!("multipart/byteranges; boundary={boundary}"), bytes + framing as u64).await? {
        for (head, part) in heads.iter().zip(parts) {
            put(exchange, head);
            send_part(exchange, &file, part).await?;
        }
        put(exchange, &tail);
        end(exchange).await?;
    }
    Ok(())
}

fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end.saturating_sub(1))
}

/// Puts the head into the output. `false`: it is sent, and a body is not wanted.
async fn begin(exchange: &Exchange, kind: &str, length: u64) -> Result<bool, Error> {
    if *exchange.method() == Method::Head {
        exchange.stream_length(kind, length)?.finish().await?;
        return Ok(false);
    }
    exchange.begin(kind, Some(length), Stage::Streaming(Body::Length(length)))?;
    Ok(true)
}

fn put(exchange: &Exchange, text: &str) {
    exchange.transfer.borrow_mut().link.output.extend_from_slice(text.as_bytes());
}

async fn send_part(exchange: &Exchange, file: &File, part: &Range<u64>) -> Result<(), Error> {
    let mut reader = file;
    reader.seek(SeekFrom::Start(part.start))?;
    send_bytes(exchange, file, part.end - part.start).await
}

/// Sends so many bytes of the file from where it stands, after what is in the output: by the kernel alone where that goes,
/// else block by block.
async fn send_bytes(exchange: &Exchange, file: &File, length: u64) -> Result<(), Error> {
    let first = if length <= BLOCK { length } else { FIRST };
    send_block(exchange, file, first).await?;
    let mut left = length - first;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX);
        match poll_fn(|cx| exchange.transfer.borrow_mut().link.poll_send_file(cx, file, wanted)).await {
            Ok(0) => return Err(became_shorter()),
            Ok(sent) => left = left.saturating_sub(sent as u64),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => break,
            Err(error) => return Err(error.into()),
        }
    }
    while left > 0 {
        let piece = left.min(BLOCK);
        send_block(exchange, file, piece).await?;
        left -= piece;
    }
    Ok(())
}

async fn send_block(exchange: &Exchange, file: &File, length: u64) -> Result<(), Error> {
    let read = file.take(length).read_to_end(&mut exchange.transfer.borrow_mut().link.output)?;
    if read as u64 != length {
        return Err(became_shorter());
    }
    Sender(&exchange.transfer).flush().await
}

/// The client was told another length; it must see that something is missing.
fn became_shorter() -> Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter").into()
}

async fn end(exchange: &Exchange) -> Result<(), Error> {
    exchange.transfer.borrow_mut().begin(Stage::Complete);
    Sender(&exchange.transfer).flush().await
}
