//! Moments of items: ISO 8601 text of years with four digits, and milliseconds of UTC.

use crate::net;

/// 0001-01-01T00:00:00.000Z and 9999-12-31T23:59:59.999Z: the years that four digits can write.
const FIRST: i64 = -62_135_596_800_000;
const LAST: i64 = 253_402_300_799_999;

/// Now, in milliseconds of UTC.
pub(super) fn now() -> i64 {
    net::utc_ms()
}

/// `2026-11-22T16:06:55.000Z`; a moment outside the years 1 to 9999 becomes the nearest one inside.
pub(super) fn format(ms: i64) -> String {
    net::iso8601(ms.clamp(FIRST, LAST))
}

/// Reads milliseconds of UTC that [`format`] can write again.
pub(super) fn from_ms(ms: i64) -> Option<i64> {
    (FIRST..=LAST).contains(&ms).then_some(ms)
}

/// Reads `2026-11-22T16:06:55.123+01:00` (RFC 3339), or a day as `2026-11-22`, which begins at midnight UTC.
pub(super) fn parse(text: &str) -> Option<i64> {
    let ms = match text.len() {
        10 => net::parse_iso8601(&format!("{text}T00:00:00Z")),
        _ => net::parse_iso8601(text),
    };
    from_ms(ms?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_all_years_with_four_digits_are_written_and_read() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (FIRST, "0001-01-01T00:00:00.000Z"),
            (LAST, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format(ms), text);
            assert_eq!(parse(text), Some(ms));
        }
        assert_eq!(format(i64::MAX), "9999-12-31T23:59:59.999Z");
        assert_eq!(parse("1970-01-02"), Some(24 * 60 * 60 * 1000));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "1970",
            "1970-13-01",
            "1970-02-29",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:00",
            "0000-01-01",
            "1970-01-01T00:00:00.Z",
            "٠٠٠٠-0",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
