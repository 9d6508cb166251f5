//! Sends files, or parts of them.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::exchange::Sender;
use super::open_files::{Content, Opened};
use super::transfer::{Body, Stage};
use super::{Error, Exchange};
use crate::http1::Method;

/// Bytes read and sent at a time. A part up to this size goes out in one write with what is before it.
const BLOCK: u64 = 32 * 1024;
/// Answers with all of a file.
pub(super) async fn send_whole(exchange: &Exchange, kind: &str, file: &Opened) -> Result<(), Error> {
    match &file.content {
        Content::Memory(bytes) => exchange.send(kind, bytes).await,
        Content::File(_) => Box::pin(send_long(exchange, kind, file)).await,
    }
}

async fn send_long(exchange: &Exchange, kind: &str, file: &Opened) -> Result<(), Error> {
    if begin(exchange, kind, file.length).await? {
        send_part(exchange, file, &(0..file.length)).await?;
        end(exchange).await?;
    }
    Ok(())
}

/// Answers with parts of a file: one as it is, several as `multipart/byteranges` (RFC 9110 §14.6).
pub(super) async fn send_parts(
    exchange: &mut Exchange,
    kind: &str,
    file: &Opened,
    parts: &[Range<u64>],
) -> Result<(), Error> {
    let length = file.length;
    exchange.set_status(206);
    if let [part] = parts {
        exchange.set_header("Content-Range", &content_range(part, length))?;
        if begin(exchange, kind, part.end - part.start).await? {
            send_part(exchange, file, part).await?;
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
            send_part(exchange, file, part).await?;
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

/// Sends a part of the file after what is in the output: by the kernel alone where that goes, else block by block.
async fn send_part(exchange: &Exchange, file: &Opened, part: &Range<u64>) -> Result<(), Error> {
    let file = match &file.content {
        Content::File(file) => file,
        Content::Memory(bytes) => {
            let (start, end) = (usize::try_from(part.start), usize::try_from(part.end));
            let found = start.ok().zip(end.ok()).and_then(|(start, end)| bytes.get(start..end));
            exchange.transfer.borrow_mut().link.output.extend_from_slice(found.ok_or_else(became_shorter)?);
            return Sender(&exchange.transfer).flush().await;
        }
    };
    let (mut at, length) = (part.start, part.end - part.start);
    let by_kernel = length > BLOCK && exchange.transfer.borrow().link.sends_files();
    if by_kernel {
        // What follows goes into the same packets.
        Sender(&exchange.transfer).flush_more().await?;
    }
    while by_kernel && at < part.end {
        let wanted = usize::try_from(part.end - at).unwrap_or(usize::MAX);
        match poll_fn(|cx| exchange.transfer.borrow_mut().link.poll_send_file(cx, file, at, wanted)).await {
            Ok(0) => return Err(became_shorter()),
            Ok(sent) => at += sent as u64,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => break,
            Err(error) => return Err(error.into()),
        }
    }
    while at < part.end {
        let piece = (part.end - at).min(BLOCK);
        send_block(exchange, file, at, piece).await?;
        at += piece;
    }
    Ok(())
}

async fn send_block(exchange: &Exchange, file: &File, at: u64, length: u64) -> Result<(), Error> {
    {
        let output = &mut exchange.transfer.borrow_mut().link.output;
        let start = output.len();
        output.resize(start + length as usize, 0);
        file.read_exact_at(output.get_mut(start..).unwrap_or_default(), at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => became_shorter(),
            _ => error.into(),
        })?;
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
