//! Static files.

use std::fs::{File, Metadata};
use std::io::{self, Read};

use super::exchange::Sender;
use super::mime::content_type;
use super::transfer::{Body, Stage};
use super::validators::{is_current, modified};
use super::{Error, Exchange};
use crate::net::http_date;

/// Bytes read and sent at a time. A file up to this size goes out in one write with its head.
const BLOCK: u64 = 64 * 1024;

/// Answers with the file of the request's path beneath `web.documents`. No listings, no hidden files, no special files.
pub(super) async fn serve(exchange: &mut Exchange) -> Result<(), Error> {
    let Some(relative) = relative(exchange.path()) else { return Err(not_found()) };
    let (file, metadata, path) = match open(exchange, relative)? {
        (_, metadata) if metadata.is_dir() && !exchange.path().ends_with('/') => return redirect(exchange).await,
        (_, metadata) if metadata.is_dir() => {
            let index = format!("{relative}{}", exchange.shared.settings.index);
            let (file, metadata) = open(exchange, &index)?;
            (file, metadata, index)
        }
        (file, metadata) => (file, metadata, relative.to_owned()),
    };
    if !metadata.is_file() {
        return Err(not_found());
    }
    let tag = exchange.local.etags.tag(&file, &metadata).await?;
    let changed = modified(&metadata);
    exchange.set_header("ETag", &tag)?;
    exchange.set_header("Last-Modified", &http_date(changed))?;
    if is_current(exchange.headers(), &tag, changed) {
        exchange.set_status(304);
        return exchange.send("", "").await;
    }
    let shared = exchange.shared.clone();
    send(exchange, file, metadata.len(), content_type(&path, &shared.settings.mime)).await
}

/// The path without its first slash, unless it names something that is never served.
fn relative(path: &str) -> Option<&str> {
    let relative = path.strip_prefix('/')?;
    let directory = relative.strip_suffix('/').unwrap_or(relative);
    let is_served = |segment: &str| !segment.is_empty() && !segment.starts_with('.');
    (relative.is_empty() || directory.split('/').all(is_served)).then_some(relative)
}

fn open(exchange: &Exchange, path: &str) -> Result<(File, Metadata), Error> {
    let path = if path.is_empty() { "." } else { path };
    let opened = exchange.local.root.open(&exchange.shared.settings.documents, path);
    let result = opened.and_then(|file| file.metadata().map(|metadata| (file, metadata)));
    result.map_err(|error| match error.raw_os_error() {
        Some(code) if code == nix::libc::EMFILE || code == nix::libc::ENFILE => {
            Error::status(503, "too many files are open, try again")
        }
        _ => {
            log::debug!("web: file {path:?}: {error}");
            not_found()
        }
    })
}

async fn redirect(exchange: &mut Exchange) -> Result<(), Error> {
    let query = exchange.head.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("{}/{query}", exchange.head.path());
    exchange.set_header("Location", &location)?;
    exchange.set_status(301);
    exchange.send("text/plain; charset=utf-8", "301 Moved Permanently\n").await
}

async fn send(exchange: &Exchange, mut file: File, length: u64, kind: &str) -> Result<(), Error> {
    if *exchange.method() == crate::http1::Method::Head {
        return exchange.stream_length(kind, length)?.finish().await;
    }
    exchange.begin(kind, Some(length), Stage::Streaming(Body::Length(length)))?;
    let mut left = length;
    while left > 0 {
        let piece = left.min(BLOCK);
        let read = (&mut file).take(piece).read_to_end(&mut exchange.transfer.borrow_mut().link.output)?;
        if read as u64 != piece {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter").into());
        }
        left -= piece;
        Sender(&exchange.transfer).flush().await?;
    }
    exchange.transfer.borrow_mut().begin(Stage::Complete);
    Sender(&exchange.transfer).flush().await
}

fn not_found() -> Error {
    Error::status(404, "there is nothing here")
}

#[cfg(test)]
mod tests {
    use super::relative;

    #[test]
    fn hidden_files_and_empty_segments_are_not_served() {
        assert_eq!(relative("/"), Some(""));
        assert_eq!(relative("/a/b.txt"), Some("a/b.txt"));
        assert_eq!(relative("/a/"), Some("a/"));
        for bad in ["//", "/a//b", "//a", "/.git/x", "/a/.b", "/.", "*"] {
            assert_eq!(relative(bad), None, "{bad}");
        }
    }
}
