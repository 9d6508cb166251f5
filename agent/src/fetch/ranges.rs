//! Which part of the whole a response is.

use std::str::FromStr;
use std::time::Duration;

use crate::http1::Headers;
use crate::net::parse_http_date;

/// How old the last change has to be.
const SURE: Duration = Duration::from_secs(60);

/// The field `Content-Range` of a part (RFC 9110 §14.4).
///
/// ```
/// use ioto::fetch::ContentRange;
///
/// let range: ContentRange = "bytes 200-999/1000".parse()?;
/// assert_eq!(range, ContentRange { first: 200, last: 999, size: Some(1000) });
/// assert!("bytes 999-200/1000".parse::<ContentRange>().is_err());
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The first byte of the part, counted from 0.
    pub first: u64,
    /// The last byte of the part.
    pub last: u64,
    /// Bytes of the whole, if the server knows.
    pub size: Option<u64>,
}

impl FromStr for ContentRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
            let (first, last) = range.split_once('-')?;
            let size = match size {
                "*" => None,
                size => Some(number(size)?),
            };
            let (first, last) = (number(first)?, number(last)?);
            let good = first <= last && size.is_none_or(|size| last < size);
            good.then_some(Self { first, last, size })
        };
        read().ok_or("it is no range as 'bytes 0-99/100'")
    }
}

/// The size that a server tells with 416: `bytes */1000`.
pub(super) fn size_of_whole(headers: &Headers) -> Option<u64> {
    headers.get("content-range")?.trim().strip_prefix("bytes */").and_then(number)
}

/// What tells whether the whole is still the same: a strong entity tag (RFC 9110 §13.1.5), or the time of the last change if
/// it is at least a minute before the time of the answer, so that no second change can hide in it (§8.8.2.2).
pub(super) fn validator(headers: &Headers) -> Option<String> {
    let tag = headers.get("etag").filter(|tag| tag.starts_with('"') && tag.len() >= 2 && tag.ends_with('"'));
    if let Some(tag) = tag {
        return Some(tag.to_owned());
    }
    let modified = headers.get("last-modified")?;
    let (now, then) = (parse_http_date(headers.get("date")?)?, parse_http_date(modified)?);
    let is_old = now.duration_since(then).is_ok_and(|age| age >= SURE);
    (headers.get("etag").is_none() && is_old).then(|| modified.to_owned())
}

fn number(text: &str) -> Option<u64> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().ok(),
        false => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in ["bytes 0-9", "bytes 5-4/10", "bytes 0-10/10", "bytes +0-1/2", "items 0-1/2", "bytes -1/2", ""] {
            assert!(bad.parse::<ContentRange>().is_err(), "{bad}");
        }
        assert_eq!("bytes 0-0/*".parse(), Ok(ContentRange { first: 0, last: 0, size: None }));
        assert_eq!(size_of_whole(&Headers::of(&[("Content-Range", "bytes */7")])), Some(7));
        assert_eq!(size_of_whole(&Headers::of(&[("Content-Range", "bytes 0-1/7")])), None);
    }

    #[test]
    fn only_what_is_sure_to_change_with_the_content_is_a_validator() {
        let date = ("Date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let old = ("Last-Modified", "Sun, 06 Nov 1994 08:48:37 GMT");
        let fresh = ("Last-Modified", "Sun, 06 Nov 1994 08:49:00 GMT");
        assert_eq!(validator(&Headers::of(&[("ETag", "\"a\""), old, date])).as_deref(), Some("\"a\""));
        assert_eq!(validator(&Headers::of(&[old, date])).as_deref(), Some(old.1));
        for weak in [&[fresh, date][..], &[old], &[("ETag", "W/\"a\""), old, date], &[("ETag", "\""), date], &[]] {
            assert_eq!(validator(&Headers::of(weak)), None, "{weak:?}");
        }
    }
}
