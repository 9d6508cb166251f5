//! Time as protocols write it. Everything is UTC in 64 bits, so 32-bit devices live past 2038 too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_MS: i64 = 86_400_000;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Milliseconds since 1970-01-01 UTC, as the device's clock says; negative before.
pub fn utc_ms() -> i64 {
    ms_of(SystemTime::now())
}

/// `2026-11-22T10:11:12.123Z` (RFC 3339) for milliseconds since 1970.
///
/// ```
/// assert_eq!(ioto::net::iso8601(951_782_400_000), "2000-02-29T00:00:00.000Z");
/// ```
pub fn iso8601(ms: i64) -> String {
    let t = Civil::from_ms(ms);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        t.year, t.month, t.day, t.hour, t.minute, t.second, t.millisecond
    )
}

/// Reads an RFC 3339 time, with any fraction of a second, `Z` or an offset; milliseconds since 1970.
pub fn parse_iso8601(text: &str) -> Option<i64> {
    let mut s = Scanner(text.as_bytes());
    let year = s.digits(4)?;
    s.literal(b"-")?;
    let month = s.digits(2)?;
    s.literal(b"-")?;
    let day = s.digits(2)?;
    s.one_of(b"Tt ")?;
    let (hour, minute, second) = s.time_of_day()?;
    let mut millisecond = 0;
    if s.literal(b".").is_some() {
        let mut weight = 100;
        let mut any = false;
        while let Some(digit) = s.digits(1) {
            millisecond += digit * weight;
            weight /= 10;
            any = true;
        }
        any.then_some(())?;
    }
    let offset = match s.one_of(b"Zz+-")? {
        b'Z' | b'z' => 0,
        sign => {
            let hours = s.digits(2)?;
            s.literal(b":")?;
            let minutes = s.digits(2)?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if sign == b'-' { -60_000 } else { 60_000 }
        }
    };
    s.end()?;
    Some(Civil { year, month, day, hour, minute, second, millisecond }.to_ms()? - offset)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`: the date of HTTP header fields (RFC 9110 §5.6.7).
pub fn http_date(time: SystemTime) -> String {
    let ms = ms_of(time);
    let t = Civil::from_ms(ms);
    let weekday = WEEKDAYS[ms.div_euclid(DAY_MS).rem_euclid(7) as usize];
    let month = MONTHS[(t.month - 1) as usize];
    format!("{weekday}, {:02} {month} {:04} {:02}:{:02}:{:02} GMT", t.day, t.year, t.hour, t.minute, t.second)
}

/// Reads a date of an HTTP header field, in any of the three forms that a recipient must accept (RFC 9110 §5.6.7).
pub fn parse_http_date(text: &str) -> Option<SystemTime> {
    let ms = parse_imf_fixdate(text).or_else(|| parse_rfc850(text)).or_else(|| parse_asctime(text))?;
    match u64::try_from(ms) {
        Ok(ms) => UNIX_EPOCH.checked_add(Duration::from_millis(ms)),
        Err(_) => UNIX_EPOCH.checked_sub(Duration::from_millis(ms.unsigned_abs())),
    }
}

/// `20130524T000000Z`: the time of an AWS signature. Its first 8 characters are the date of the credential scope.
pub fn amz_date(ms: i64) -> String {
    let t = Civil::from_ms(ms);
    format!("{:04}{:02}{:02}T{:02}{:02}{:02}Z", t.year, t.month, t.day, t.hour, t.minute, t.second)
}

fn ms_of(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

/// A date and a time of day, in the Gregorian calendar.
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    millisecond: i64,
}

impl Civil {
    /// Days are turned into a date with the method of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms":
    /// years begin in March, so the leap day is the last of its year, in eras of 400 years.
    fn from_ms(ms: i64) -> Self {
        let days = ms.div_euclid(DAY_MS) + 719_468;
        let rest = ms.rem_euclid(DAY_MS);
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            hour: rest / 3_600_000,
            minute: rest / 60_000 % 60,
            second: rest / 1000 % 60,
            millisecond: rest % 1000,
        }
    }

    /// Nothing for a day that is not in the calendar. A leap second (60) counts as the next second.
    fn to_ms(&self) -> Option<i64> {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let last = match self.month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => return None,
        };
        if self.day < 1 || self.day > last || self.hour > 23 || self.minute > 59 || self.second > 60 {
            return None;
        }
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month_from_march = (self.month + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        Some(days * DAY_MS + ((self.hour * 60 + self.minute) * 60 + self.second) * 1000 + self.millisecond)
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn parse_imf_fixdate(text: &str) -> Option<i64> {
    let mut s = Scanner(text.as_bytes());
    s.name(&WEEKDAYS)?;
    s.literal(b", ")?;
    let day = s.digits(2)?;
    s.literal(b" ")?;
    let month = s.name(&MONTHS)? + 1;
    s.literal(b" ")?;
    let year = s.digits(4)?;
    s.literal(b" ")?;
    let (hour, minute, second) = s.time_of_day()?;
    s.literal(b" GMT")?;
    s.end()?;
    Civil { year, month, day, hour, minute, second, millisecond: 0 }.to_ms()
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn parse_rfc850(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once("day, ")?;
    let mut s = Scanner(rest.as_bytes());
    let day = s.digits(2)?;
    s.literal(b"-")?;
    let month = s.name(&MONTHS)? + 1;
    s.literal(b"-")?;
    let short = s.digits(2)?;
    s.literal(b" ")?;
    let (hour, minute, second) = s.time_of_day()?;
    s.literal(b" GMT")?;
    s.end()?;
    // Two digits mean the year that is less than 50 years ahead; no device runs this in the 20th century.
    let now = Civil::from_ms(utc_ms()).year.max(2020);
    let mut year = now - now % 100 + short;
    if year > now + 50 {
        year -= 100;
    }
    Civil { year, month, day, hour, minute, second, millisecond: 0 }.to_ms()
}

/// `Sun Nov  6 08:49:37 1994`
fn parse_asctime(text: &str) -> Option<i64> {
    let mut s = Scanner(text.as_bytes());
    s.name(&WEEKDAYS)?;
    s.literal(b" ")?;
    let month = s.name(&MONTHS)? + 1;
    s.literal(b" ")?;
    let day = if s.literal(b" ").is_some() { s.digits(1)? } else { s.digits(2)? };
    s.literal(b" ")?;
    let (hour, minute, second) = s.time_of_day()?;
    s.literal(b" ")?;
    let year = s.digits(4)?;
    s.end()?;
    Civil { year, month, day, hour, minute, second, millisecond: 0 }.to_ms()
}

/// Reads fields of fixed form from the front of a text.
struct Scanner<'a>(&'a [u8]);

impl Scanner<'_> {
    fn literal(&mut self, wanted: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(wanted)?;
        Some(())
    }

    fn one_of(&mut self, wanted: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        wanted.contains(first).then_some(())?;
        self.0 = rest;
        Some(*first)
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        let field = self.0.get(..count)?;
        let mut value = 0;
        for byte in field {
            byte.is_ascii_digit().then_some(())?;
            value = value * 10 + i64::from(byte - b'0');
        }
        self.0 = &self.0[count..];
        Some(value)
    }

    fn name(&mut self, names: &[&str]) -> Option<i64> {
        let index = names.iter().position(|name| self.0.starts_with(name.as_bytes()))?;
        self.literal(names[index].as_bytes())?;
        Some(index as i64)
    }

    fn time_of_day(&mut self) -> Option<(i64, i64, i64)> {
        let hour = self.digits(2)?;
        self.literal(b":")?;
        let minute = self.digits(2)?;
        self.literal(b":")?;
        Some((hour, minute, self.digits(2)?))
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The example of RFC 9110 §5.6.7.
    const RFC_MS: i64 = 784_111_777_000;

    fn at(ms: i64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(ms as u64)
    }

    #[test]
    fn http_dates_are_written_and_read_in_all_three_forms() {
        assert_eq!(http_date(at(RFC_MS)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(at(RFC_MS)));
        assert_eq!(parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT"), Some(at(RFC_MS)));
        assert_eq!(parse_http_date("Sun Nov  6 08:49:37 1994"), Some(at(RFC_MS)));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "0",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun Nov  6 08:49:37 19940",
            "Fr\u{fc}hlingstag, 06-Nov-94 08:49:37 GM",
        ] {
            assert_eq!(parse_http_date(text), None, "{text}");
        }
    }

    #[test]
    fn iso_times_are_written_and_read() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (2_147_483_648_000, "2038-01-19T03:14:08.000Z"),
        ] {
            assert_eq!(iso8601(ms), text);
            assert_eq!(parse_iso8601(text), Some(ms));
        }
        assert_eq!(parse_iso8601("1994-11-06T08:49:37Z"), Some(RFC_MS));
        assert_eq!(parse_iso8601("1994-11-06T10:19:37.5+01:30"), Some(RFC_MS + 500));
        assert_eq!(parse_iso8601("1994-11-06 03:49:37.123456789-05:00"), Some(RFC_MS + 123));
    }

    #[test]
    fn what_is_no_iso_time_is_refused() {
        for text in [
            "",
            "1994-11-06",
            "1994-11-06T08:49:37",
            "1994-13-06T08:49:37Z",
            "1994-11-31T08:49:37Z",
            "1900-02-29T08:49:37Z",
            "1994-11-06T08:49:37.Z",
            "1994-11-06T08:49:37+25:00",
            "1994-11-06T08:49:37Zulu",
        ] {
            assert_eq!(parse_iso8601(text), None, "{text}");
        }
    }

    #[test]
    fn amz_dates_are_those_of_the_signature_documents() {
        assert_eq!(amz_date(1_369_353_600_000), "20130524T000000Z");
        assert_eq!(amz_date(RFC_MS), "19941106T084937Z");
    }

    #[test]
    fn every_day_of_four_centuries_survives_the_round_trip() {
        for day in -80_000..66_097 {
            let ms = day * DAY_MS + 43_200_000;
            assert_eq!(Civil::from_ms(ms).to_ms(), Some(ms));
        }
        let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(utc_ms() as u64);
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..2000 {
            let ms = random.i64(-60_000_000_000_000..200_000_000_000_000);
            assert_eq!(parse_iso8601(&iso8601(ms)), Some(ms));
            let second = random.i64(0..200_000_000_000) * 1000;
            assert_eq!(parse_http_date(&http_date(at(second))), Some(at(second)), "{second}");
        }
    }

    #[test]
    fn extreme_numbers_are_written_without_a_panic() {
        iso8601(i64::MAX);
        iso8601(i64::MIN);
        amz_date(i64::MAX);
    }

    #[test]
    fn the_clock_is_the_clock_of_the_system() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        assert!((utc_ms() - now).abs() < 60_000);
    }
}
