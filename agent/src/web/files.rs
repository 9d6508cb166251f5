//! Static files.

use std::fs::{File, Metadata};

use super::cache_control::cache_control;
use super::encodings::{Encoding, accepted};
use super::file_body::{send_parts, send_whole};
use super::mime::content_type;
use super::preconditions::{Current, Verdict, judge, range_counts};
use super::ranges::{Selection, select};
use super::store::{delete, put};
use super::validators::modified;
use super::{Error, Exchange, redirect};
use crate::config::{Place, Route};
use crate::http1::Method;
use crate::net::http_date;

/// Answers with the file of the request's path beneath `web.documents`, or writes or removes it. No listings, no hidden
/// files, no special files.
pub(super) async fn serve(exchange: &mut Exchange, route: Option<&Route>) -> Result<(), Error> {
    let Some(path) = relative(exchange.path()).map(str::to_owned) else { return Err(not_found()) };
    match exchange.method() {
        Method::Put => return put(exchange, &path).await,
        Method::Delete => return delete(exchange, &path).await,
        _ => {}
    }
    let Some(found) = find(exchange, path)? else { return add_slash(exchange).await };
    if let Some(value) = route.and_then(|route| cache_control(route.cache.as_ref()?, &found.path)) {
        exchange.set_header("Cache-Control", &value)?;
    }
    answer(exchange, found, route.is_some_and(|route| route.compressed)).await
}

/// Answers with an open file, or with what of it was asked for. With `has_variants` a precompressed one may lie beside it.
pub(super) async fn answer(exchange: &mut Exchange, found: Found, has_variants: bool) -> Result<(), Error> {
    let shared = exchange.shared.clone();
    let kind = content_type(&found.path, &shared.settings.mime);
    let (file, metadata, encoding) = if has_variants { choose(exchange, found)? } else { found.plain() };
    let length = metadata.len();
    let tag = exchange.local.etags.tag(&file, &metadata).await?;
    let current = Current { tag: &tag, modified: modified(&metadata) };
    exchange.set_header("ETag", &tag)?;
    exchange.set_header("Last-Modified", &http_date(current.modified))?;
    match judge(exchange.method(), exchange.headers(), Some(current)) {
        Verdict::Go => {}
        Verdict::NotModified => {
            exchange.set_status(304);
            return exchange.send("", "").await;
        }
        Verdict::Failed => return Err(Error::status(412, "the file is another one by now")),
    }
    exchange.set_header("Accept-Ranges", "bytes")?;
    let selection = selection(exchange, current, length, has_variants);
    match encoding {
        Some(encoding) if selection != Selection::Unsatisfiable => {
            exchange.set_header("Content-Encoding", encoding.name())?;
        }
        _ => {}
    }
    match selection {
        Selection::Whole => send_whole(exchange, kind, file, length).await,
        Selection::Parts(parts) => send_parts(exchange, kind, file, length, &parts).await,
        Selection::Unsatisfiable => {
            exchange.set_header("Content-Range", &format!("bytes */{length}"))?;
            exchange.set_status(416);
            exchange.send("text/plain; charset=utf-8", "416 Range Not Satisfiable\n").await
        }
    }
}

/// A file that is there, before it is chosen in which form it is sent.
pub(super) struct Found {
    pub file: File,
    pub metadata: Metadata,
    /// Beneath the root; it tells the type.
    pub path: String,
}

impl Found {
    fn plain(self) -> (File, Metadata, Option<Encoding>) {
        (self.file, self.metadata, None)
    }
}

/// The file of the path, for a directory its index. `None`: a directory whose path lacks the slash at its end.
fn find(exchange: &Exchange, path: String) -> Result<Option<Found>, Error> {
    let (file, metadata) = open(exchange, &path)?;
    let mut found = Found { file, metadata, path };
    if found.metadata.is_dir() {
        if !exchange.path().ends_with('/') {
            return Ok(None);
        }
        found.path.push_str(&exchange.shared.settings.index);
        (found.file, found.metadata) = open(exchange, &found.path)?;
    }
    if found.metadata.is_file() { Ok(Some(found)) } else { Err(not_found()) }
}

/// The file, or the precompressed one beside it that the client takes. One that is older than the file is left over from
/// before it changed.
fn choose(exchange: &mut Exchange, found: Found) -> Result<(File, Metadata, Option<Encoding>), Error> {
    let set =
        exchange.shared.fields(exchange.secure).headers.get("vary").map(|set| format!("{set}, ")).unwrap_or_default();
    exchange.set_header("Vary", &format!("{set}Accept-Encoding"))?;
    let variant = accepted(exchange.headers()).find_map(|encoding| {
        let (file, metadata) = open(exchange, &format!("{}{}", found.path, encoding.suffix())).ok()?;
        let is_usable = metadata.is_file() && modified(&metadata) >= modified(&found.metadata);
        is_usable.then_some((file, metadata, Some(encoding)))
    });
    Ok(variant.unwrap_or_else(|| found.plain()))
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
