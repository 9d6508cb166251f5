//! Moments as ISO 8601 text and as milliseconds of UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: i64 = 24 * 60 * 60 * 1000;
/// 0001-01-01T00:00:00.000Z and 9999-12-31T23:59:59.999Z: the years that four digits can write.
const FIRST: i64 = -62_135_596_800_000;
const LAST: i64 = 253_402_300_799_999;

/// Now, in milliseconds of UTC.
pub(super) fn now() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(LAST),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(-FIRST),
    }
}

/// `2026-11-22T16:06:55.000Z`; a moment outside the years 1 to 9999 becomes the nearest one inside.
pub(super) fn format(ms: i64) -> String {
    let ms = ms.clamp(FIRST, LAST);
    let (year, month, day) = civil(ms.div_euclid(DAY));
    let rest = ms.rem_euclid(DAY);
    let (hour, minute, second, milli) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60, rest % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Reads milliseconds of UTC that [`format`] can write again.
pub(super) fn from_ms(ms: i64) -> Option<i64> {
    (FIRST..=LAST).contains(&ms).then_some(ms)
}

/// Reads `2026-11-22`, `2026-11-22T16:06Z`, `2026-11-22T16:06:55.123+01:00`: a time of day needs its zone.
pub(super) fn parse(text: &str) -> Option<i64> {
    let mut reader = Reader(text.as_bytes());
    let year = reader.digits(4)?;
    reader.expect(b'-')?;
    let month = reader.digits(2)?;
    reader.expect(b'-')?;
    let day = reader.digits(2)?;
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > days_of(year, month) {
        return None;
    }
    let mut ms = days(year, month, day) * DAY;
    if !reader.0.is_empty() {
        ms += reader.time()?;
        ms -= reader.zone()?;
    }
    if reader.0.is_empty() { from_ms(ms) } else { None }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
    }

    fn take(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.take(byte).then_some(())
    }

    /// `T16:06`, `T16:06:55`, `T16:06:55.123456`, in milliseconds; digits beyond them are cut off.
    fn time(&mut self) -> Option<i64> {
        if !self.take(b'T') && !self.take(b't') {
            self.expect(b' ')?;
        }
        let hour = self.digits(2)?;
        self.expect(b':')?;
        let minute = self.digits(2)?;
        let second = if self.take(b':') { self.digits(2)? } else { 0 };
        let mut milli = 0;
        if self.take(b'.') {
            let count = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if count == 0 || count > 9 {
                return None;
            }
            let value = self.digits(count)?;
            milli = if count > 3 { value / 10_i64.pow(count as u32 - 3) } else { value * 10_i64.pow(3 - count as u32) };
        }
        (hour < 24 && minute < 60 && second < 60).then_some(((hour * 60 + minute) * 60 + second) * 1000 + milli)
    }

    fn zone(&mut self) -> Option<i64> {
        if self.take(b'Z') || self.take(b'z') {
            return Some(0);
        }
        let sign = if self.take(b'-') { -1 } else { self.expect(b'+').map(|()| 1)? };
        let hour = self.digits(2)?;
        self.take(b':');
        let minute = self.digits(2)?;
        (hour < 24 && minute < 60).then_some(sign * (hour * 60 + minute) * 60_000)
    }
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01. Years begin in March here, so that the leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let century = year.div_euclid(100);
    365 * year + year.div_euclid(4) - century + century.div_euclid(4) + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// The inverse of [`days`]: 400 years are 146,097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, rest) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (rest - rest / 1460 + rest / 36_524 - rest / 146_096) / 365;
    let rest = rest - (365 * year + year / 4 - year / 100);
    let month = (5 * rest + 2) / 153;
    let day = rest - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_written_and_read() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_763_827_615_042, "2025-11-22T16:06:55.042Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (FIRST, "0001-01-01T00:00:00.000Z"),
            (LAST, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format(ms), text);
            assert_eq!(parse(text), Some(ms));
        }
    }

    #[test]
    fn every_day_of_ten_thousand_years_survives_the_round_trip() {
        for day in FIRST / DAY..=LAST / DAY {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
            assert!(date <= days_of(year, month));
        }
    }

    #[test]
    fn zones_fractions_and_short_forms_are_understood() {
        assert_eq!(parse("1970-01-02"), Some(DAY));
        assert_eq!(parse("1970-01-01T01:00+01:00"), Some(0));
        assert_eq!(parse("1970-01-01T01:00:01.5-0100"), Some(2 * 3_600_000 + 1500));
        assert_eq!(parse("1970-01-01T00:00:00.123456789Z"), Some(123));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "1970",
            "1970-13-01",
            "1970-02-29",
            "2023-04-31",
            "1970-01-01T24:00Z",
            "1970-01-01T00:00",
            "0000-01-01",
            "1970-01-01T00:00:00.Z",
            "1970-01-01Tx",
            "1970-01-01T00:00Zx",
            "٠٠٠٠-01-01",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
