//! Content types by file extension.

/// Extensions in lower case, and their types. Text is UTF-8.
const TYPES: &[(&str, &str)] = &[
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("md", "text/markdown; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xml", "application/xml"),
    ("zip", "application/zip"),
];

const UNKNOWN: &str = "application/octet-stream";

/// The type of a file, from the settings (`web.mime`) or the table; bytes of unknown meaning otherwise.
pub(super) fn content_type<'a>(path: &str, settings: &'a [(String, String)]) -> &'a str {
    let dot = path.bytes().rposition(|byte| matches!(byte, b'.' | b'/'));
    let Some(extension) = dot.and_then(|at| path.get(at..)?.strip_prefix('.')) else { return UNKNOWN };
    let set = settings.iter().find(|(known, _)| known.trim_start_matches('.').eq_ignore_ascii_case(extension));
    if let Some((_, kind)) = set {
        return kind;
    }
    let found = TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension));
    found.map_or(UNKNOWN, |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_win_over_the_table() {
        let settings = [(".HTML".to_owned(), "text/x-mine".to_owned())];
        assert_eq!(content_type("/a/b.Html", &settings), "text/x-mine");
        assert_eq!(content_type("/a/b.Html", &[]), "text/html; charset=utf-8");
        assert_eq!(content_type("/a.html/b", &[]), "application/octet-stream");
        assert_eq!(content_type("/a/b.unknown", &[]), "application/octet-stream");
    }
}
