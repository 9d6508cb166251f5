//! Conditional requests (RFC 9110 §13): whether a request is carried out, given what is there now.

use std::time::SystemTime;

use crate::http1::{Headers, Method};
use crate::net::parse_http_date;

/// What is there now.
#[derive(Clone, Copy)]
pub(super) struct Current<'a> {
    /// The entity tag with its quotes, also a weak one.
    pub tag: &'a str,
    /// When it was changed, in whole seconds.
    pub modified: SystemTime,
}

/// How a request goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As if it had no conditions.
    Go,
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client believes it is.
    Failed,
}

/// Whether the request has a condition, for which [`judge`] must know what is there.
pub(super) fn is_conditional(request: &Headers) -> bool {
    let conditions = ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];
    conditions.iter().any(|name| request.get(name).is_some())
}

/// Judges the conditions in the order of §13.2.2. `None`: nothing is there.
pub(super) fn judge(method: &Method, request: &Headers, current: Option<Current<'_>>) -> Verdict {
    let is_read = matches!(method, Method::Get | Method::Head);
    let has = |name: &str| request.get(name).is_some();
    let is_later_than = |name: &str| {
        let date = request.get(name).and_then(parse_http_date)?;
        Some(current?.modified > date)
    };
    if has("if-match") {
        if !names(request, "if-match", current, strongly) {
            return Verdict::Failed;
        }
    } else if is_later_than("if-unmodified-since") == Some(true) {
        return Verdict::Failed;
    }
    if has("if-none-match") {
        return match (names(request, "if-none-match", current, weakly), is_read) {
            (false, _) => Verdict::Go,
            (true, true) => Verdict::NotModified,
            (true, false) => Verdict::Failed,
        };
    }
    match is_read && is_later_than("if-modified-since") == Some(false) {
        true => Verdict::NotModified,
        false => Verdict::Go,
    }
}

/// Whether the client's part of the file is still one of this file, so that its `Range` counts (§13.1.5): there is no
/// `If-Range`, or it holds the strong tag or the exact date. The date says nothing where there are variants: they may have
/// the same.
pub(super) fn range_counts(request: &Headers, current: Current<'_>, has_variants: bool) -> bool {
    let mut fields = request.get_all("if-range");
    match (fields.next(), fields.next()) {
        (None, _) => true,
        (Some(value), None) if value.starts_with(['"', 'W']) && value.ends_with('"') => strongly(value, current.tag),
        (Some(value), None) => !has_variants && parse_http_date(value) == Some(current.modified),
        (Some(_), Some(_)) => false,
    }
}

/// Whether the list holds the tag of what is there, or `*` and something is there.
fn names(request: &Headers, field: &str, current: Option<Current<'_>>, is_same: fn(&str, &str) -> bool) -> bool {
    let Some(current) = current else { return false };
    // Our tags hold no comma, so the list may be split at each.
    let mut known = request.get_all(field).flat_map(|list| list.split(',')).map(str::trim);
    known.any(|known| known == "*" || is_same(known, current.tag))
}

/// The strong comparison of §8.8.3.2.
fn strongly(one: &str, other: &str) -> bool {
    one == other && one.starts_with('"')
}

/// The weak comparison of §8.8.3.2.
fn weakly(one: &str, other: &str) -> bool {
    one.strip_prefix("W/").unwrap_or(one) == other.strip_prefix("W/").unwrap_or(other)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn request(fields: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        fields.iter().for_each(|(name, value)| headers.append(name, value).unwrap());
        headers
    }

    fn current(tag: &str) -> Current<'_> {
        Current { tag, modified: parse_http_date(THEN).unwrap() }
    }

    #[test]
    fn conditions_are_judged_in_the_order_of_the_standard() {
        use Verdict::{Failed, Go, NotModified};
        // Fields, and the verdicts for GET, for PUT, and for PUT of what is not there.
        type Row<'a> = (&'a [(&'a str, &'a str)], Verdict, Verdict, Verdict);
        let table: &[Row<'_>] = &[
            (&[], Go, Go, Go),
            (&[("X", "\"a\"")], Go, Go, Go),
            (&[("If-Match", "\"a\"")], Go, Go, Failed),
            (&[("If-Match", "\"b\" , \"a\"")], Go, Go, Failed),
            (&[("If-Match", "\"b\""), ("If-Match", "\"a\"")], Go, Go, Failed),
            (&[("If-Match", "W/\"a\"")], Failed, Failed, Failed),
            (&[("If-Match", "a")], Failed, Failed, Failed),
            (&[("If-Match", "")], Failed, Failed, Failed),
            (&[("If-Match", "\"b\"")], Failed, Failed, Failed),
            (&[("If-Match", "*")], Go, Go, Failed),
            (&[("If-Unmodified-Since", BEFORE)], Failed, Failed, Go),
            (&[("If-Unmodified-Since", THEN)], Go, Go, Go),
            (&[("If-Unmodified-Since", AFTER)], Go, Go, Go),
            (&[("If-Unmodified-Since", "yesterday")], Go, Go, Go),
            (&[("If-Match", "\"a\""), ("If-Unmodified-Since", BEFORE)], Go, Go, Failed),
            (&[("If-Match", "\"b\""), ("If-Unmodified-Since", AFTER)], Failed, Failed, Failed),
            (&[("If-None-Match", "\"a\"")], NotModified, Failed, Go),
            (&[("If-None-Match", "W/\"a\"")], NotModified, Failed, Go),
            (&[("If-None-Match", "\"b\", \"a\"")], NotModified, Failed, Go),
            (&[("If-None-Match", "*")], NotModified, Failed, Go),
            (&[("If-None-Match", "\"b\"")], Go, Go, Go),
            (&[("If-None-Match", "a")], Go, Go, Go),
            (&[("If-Modified-Since", BEFORE)], Go, Go, Go),
            (&[("If-Modified-Since", THEN)], NotModified, Go, Go),
            (&[("If-Modified-Since", AFTER)], NotModified, Go, Go),
            (&[("If-Modified-Since", "yesterday")], Go, Go, Go),
            (&[("If-None-Match", "\"b\""), ("If-Modified-Since", THEN)], Go, Go, Go),
            (&[("If-None-Match", "\"a\""), ("If-Modified-Since", BEFORE)], NotModified, Failed, Go),
            (&[("If-Match", "\"a\""), ("If-None-Match", "\"a\"")], NotModified, Failed, Failed),
            (&[("If-Match", "\"b\""), ("If-None-Match", "\"a\"")], Failed, Failed, Failed),
            (&[("If-Unmodified-Since", THEN), ("If-Modified-Since", THEN)], NotModified, Go, Go),
            (&[("If-Unmodified-Since", BEFORE), ("If-Modified-Since", THEN)], Failed, Failed, Go),
        ];
        for (fields, get, put, create) in table {
            let request = request(fields);
            assert_eq!(judge(&Method::Get, &request, Some(current("\"a\""))), *get, "GET {fields:?}");
            assert_eq!(judge(&Method::Head, &request, Some(current("\"a\""))), *get, "HEAD {fields:?}");
            assert_eq!(judge(&Method::Put, &request, Some(current("\"a\""))), *put, "PUT {fields:?}");
            assert_eq!(judge(&Method::Delete, &request, Some(current("\"a\""))), *put, "DELETE {fields:?}");
            assert_eq!(judge(&Method::Put, &request, None), *create, "PUT of nothing {fields:?}");
            let has_condition = fields.iter().any(|(name, _)| name.starts_with("If-"));
            assert_eq!(is_conditional(&request), has_condition, "{fields:?}");
        }
    }

    #[test]
    fn a_weak_tag_is_good_enough_not_to_send_and_not_to_change() {
        let known = request(&[("If-None-Match", "\"a\"")]);
        assert_eq!(judge(&Method::Get, &known, Some(current("W/\"a\""))), Verdict::NotModified);
        let believed = request(&[("If-Match", "W/\"a\"")]);
        assert_eq!(judge(&Method::Put, &believed, Some(current("W/\"a\""))), Verdict::Failed);
    }

    #[test]
    fn a_range_counts_only_for_the_same_bytes() {
        for (fields, tag, counts) in [
            (&[][..], "\"a\"", true),
            (&[("If-Range", "\"a\"")], "\"a\"", true),
            (&[("If-Range", "\"b\"")], "\"a\"", false),
            (&[("If-Range", "W/\"a\"")], "\"a\"", false),
            (&[("If-Range", "W/\"a\"")], "W/\"a\"", false),
            (&[("If-Range", THEN)], "\"a\"", true),
            (&[("If-Range", THEN)], "W/\"a\"", true),
            (&[("If-Range", BEFORE)], "\"a\"", false),
            (&[("If-Range", AFTER)], "\"a\"", false),
            (&[("If-Range", "a")], "\"a\"", false),
            (&[("If-Range", "")], "\"a\"", false),
            (&[("If-Range", "\"a\""), ("If-Range", "\"a\"")], "\"a\"", false),
        ] {
            assert_eq!(range_counts(&request(fields), current(tag), false), counts, "{fields:?} {tag}");
            let is_dated = fields == [("If-Range", THEN)];
            assert_eq!(range_counts(&request(fields), current(tag), true), counts && !is_dated, "{fields:?} {tag}");
        }
    }
}
