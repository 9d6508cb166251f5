//! Static files.

use std::fs::{File, Metadata};
use std::rc::Rc;
use std::time::Instant;

use super::cache_control::cache_control;
use super::encodings::{Encoding, accepted};
use super::file_body::{send_parts, send_whole};
use super::mime::content_type;
use super::open_files::Opened;
use super::preconditions::{Current, Verdict, judge, range_counts};
use super::ranges::{Selection, select};
use super::store::{delete, put};
use super::{Error, Exchange, redirect};
use crate::config::{Place, Route};
use crate::http1::Method;

/// Answers with the file of the request's path beneath `web.documents`, or writes or removes it. No listings, no hidden
/// files, no special files.
pub(super) async fn serve(exchange: &mut Exchange, route: Option<&Route>) -> Result<(), Error> {
    let Some(path) = relative(exchange.path()) else { return Err(not_found()) };
    if let Method::Put | Method::Delete = exchange.method() {
        let path = path.to_owned();
        // On the heap: what is rare would make the future of every request large.
        return match exchange.method() {
            Method::Put => Box::pin(put(exchange, &path)).await,
            _ => Box::pin(delete(exchange, &path)).await,
        };
    }
    let Some(found) = find(exchange, path).await? else { return add_slash(exchange).await };
    if let Some(value) = route.and_then(|route| cache_control(route.cache.as_ref()?, &found.path)) {
        exchange.set_header("Cache-Control", &value)?;
    }
    answer(exchange, found, route.is_some_and(|route| route.compressed)).await
}

/// Answers with an open file, or with what of it was asked for. With `has_variants` a precompressed one may lie beside it.
pub(super) async fn answer(exchange: &mut Exchange, found: Rc<Opened>, has_variants: bool) -> Result<(), Error> {
    let shared = exchange.shared.clone();
    let kind = content_type(&found.path, &shared.settings.mime);
    let (file, encoding) = if has_variants { Box::pin(choose(exchange, found)).await? } else { (found, None) };
    let length = file.length;
    let current = Current { tag: &file.tag, modified: file.modified };
    exchange.headers.extend(&file.fields);
    match judge(exchange.method(), exchange.headers(), Some(current)) {
        Verdict::Go => {}
        Verdict::NotModified => {
            exchange.headers.remove("Accept-Ranges");
            exchange.set_status(304);
            return exchange.send("", "").await;
        }
        Verdict::Failed => return Err(Error::status(412, "the file is another one by now")),
    }
    let selection = selection(exchange, current, length, has_variants);
    match encoding {
        Some(encoding) if selection != Selection::Unsatisfiable => {
            exchange.set_header("Content-Encoding", encoding.name())?;
        }
        _ => {}
    }
    match selection {
        Selection::Whole => send_whole(exchange, kind, &file).await,
        Selection::Parts(parts) => Box::pin(send_parts(exchange, kind, &file, &parts)).await,
        Selection::Unsatisfiable => {
            exchange.set_header("Content-Range", &format!("bytes */{length}"))?;
            exchange.set_status(416);
            exchange.send("text/plain; charset=utf-8", "416 Range Not Satisfiable\n").await
        }
    }
}

/// The file of the path, for a directory its index. `None`: a directory whose path lacks the slash at its end.
async fn find(exchange: &Exchange, path: &str) -> Result<Option<Rc<Opened>>, Error> {
    let (changes, now) = (exchange.shared.changes(), exchange.local.reactor.now());
    match exchange.local.files.get(path, changes, now) {
        Some(found) => Ok(Some(found)),
        None => Box::pin(look(exchange, path, changes, now)).await,
    }
}

/// As [`find`], on the disk.
async fn look(exchange: &Exchange, asked: &str, changes: usize, now: Instant) -> Result<Option<Rc<Opened>>, Error> {
    let files = &exchange.local.files;
    let mut path = asked.to_owned();
    let (mut file, mut metadata) = open(exchange, &path)?;
    if metadata.is_dir() {
        if !exchange.path().ends_with('/') {
            return Ok(None);
        }
        path.push_str(&exchange.shared.settings.index);
        (file, metadata) = open(exchange, &path)?;
    }
    if !metadata.is_file() {
        return Err(not_found());
    }
    if let Some(found) = files.same(asked, &metadata, now) {
        return Ok(Some(found));
    }
    let tag = exchange.local.etags.tag(&file, &metadata).await?;
    let found = Opened::new(path, file, &metadata, tag, now)?;
    Ok(Some(files.keep(asked, found, changes)))
}

/// The file, or the precompressed one beside it that the client takes. One that is older than the file is left over from
/// before it changed.
async fn choose(exchange: &mut Exchange, found: Rc<Opened>) -> Result<(Rc<Opened>, Option<Encoding>), Error> {
    let set =
        exchange.shared.fields(exchange.secure).headers.get("vary").map(|set| format!("{set}, ")).unwrap_or_default();
    exchange.set_header("Vary", &format!("{set}Accept-Encoding"))?;
    let wanted: Vec<Encoding> = accepted(exchange.headers()).collect();
    for encoding in wanted {
        let path = format!("{}{}", found.path, encoding.suffix());
        if let Ok(Some(variant)) = find(exchange, &path).await {
            // The index of a directory is none.
            if variant.path == path && variant.modified >= found.modified {
                return Ok((variant, Some(encoding)));
            }
        }
    }
    Ok((found, None))
}

/// The bytes to send. Only GET knows ranges (RFC 9110 §14.2).
fn selection(exchange: &Exchange, current: Current<'_>, length: u64, has_variants: bool) -> Selection {
    let mut fields = exchange.headers().get_all("range");
    let field = match (fields.next(), fields.next()) {
        (Some(field), None) if *exchange.method() == Method::Get => field,
        _ => return Selection::Whole,
    };
    match range_counts(exchange.headers(), current, has_variants) {
        true => select(field, length),
        false => Selection::Whole,
    }
}

/// The path without its first slash, unless it names something that is never served.
fn relative(path: &str) -> Option<&str> {
    let relative = path.strip_prefix('/')?;
    let directory = relative.strip_suffix('/').unwrap_or(relative);
    let is_served = |segment: &str| !segment.is_empty() && !segment.starts_with('.');
    (relative.is_empty() || directory.split('/').all(is_served)).then_some(relative)
}

/// Opens a file or directory beneath the root; what cannot be opened is not there.
pub(super) fn open(exchange: &Exchange, path: &str) -> Result<(File, Metadata), Error> {
    let path = if path.is_empty() { "." } else { path };
    let opened = exchange.local.root.open(&exchange.shared.settings.documents, path);
    let result = opened.and_then(|file| file.metadata().map(|metadata| (file, metadata)));
    result.map_err(|error| match error.raw_os_error() {
        Some(code) if code == nix::libc::EMFILE || code == nix::libc::ENFILE => {
            Error::status(503, "too many files are open, try again")
        }
        _ => {
            log::debug!("file {path:?}: {error}");
            not_found()
        }
    })
}

/// The path as the client knows it, of a directory.
async fn add_slash(exchange: &mut Exchange) -> Result<(), Error> {
    let path = format!("{}/", exchange.head.path());
    redirect::send(exchange, 301, &Place { path: Some(path), ..Place::default() }).await
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
