//! A body of bytes and files, one after the other.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use smol::Unblock;
use smol::io::{AsyncRead, AsyncReadExt, Take};

/// Bytes of a file that are read ahead.
const AHEAD: usize = 128 * 1024;

/// A piece of a body.
pub(super) enum Part {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// Reads all parts. The files are open from the start, and exactly as many bytes of each are read as it had then: a length
/// that was stated is kept. One that has become shorter since is an error.
pub(super) struct Parts {
    length: u64,
    rest: VecDeque<Opened>,
}

enum Opened {
    Bytes(Arc<[Part]>, usize, usize),
    File(PathBuf, Take<Unblock<File>>),
}

impl Parts {
    /// Opens the files.
    pub async fn open(parts: Arc<[Part]>) -> io::Result<Self> {
        let (mut length, mut rest) = (0, VecDeque::new());
        for (index, part) in parts.iter().enumerate() {
            match part {
                Part::Bytes(bytes) => {
                    length += bytes.len() as u64;
                    rest.push_back(Opened::Bytes(parts.clone(), index, 0));
                }
                Part::File(path) => {
                    let path = path.clone();
                    let (path, opened) = smol::unblock(move || {
                        let opened = open(&path);
                        (path, opened)
                    })
                    .await;
                    let (file, size) = opened.map_err(|error| named(&path, error))?;
                    length += size;
                    rest.push_back(Opened::File(path, Unblock::with_capacity(AHEAD, file).take(size)));
                }
            }
        }
        Ok(Self { length, rest })
    }

    /// Bytes of all parts together.
    pub fn length(&self) -> u64 {
        self.length
    }
}

fn open(path: &PathBuf) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok((file, metadata.len())),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

fn named(path: &std::path::Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl AsyncRead for Parts {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        while let Some(first) = self.rest.front_mut() {
            match first {
                Opened::Bytes(parts, index, at) => {
                    let Some(Part::Bytes(bytes)) = parts.get(*index) else { return Poll::Ready(Ok(0)) };
                    let left = bytes.get(*at..).unwrap_or_default();
                    let length = left.len().min(buf.len());
                    buf[..length].copy_from_slice(&left[..length]);
                    *at += length;
                    if length > 0 {
                        return Poll::Ready(Ok(length));
                    }
                }
                Opened::File(path, file) => {
                    let read = ready!(Pin::new(&mut *file).poll_read(cx, buf)).map_err(|error| named(path, error))?;
                    if read > 0 {
                        return Poll::Ready(Ok(read));
                    }
                    if file.limit() > 0 {
                        let shorter =
                            io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read");
                        return Poll::Ready(Err(named(path, shorter)));
                    }
                }
            }
            self.rest.pop_front();
        }
        Poll::Ready(Ok(0))
    }
}
