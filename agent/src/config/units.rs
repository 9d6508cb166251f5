//! Values with units: `'10 mins'`, `'20MB'`, `'never'`, `'unlimited'`. Units are known in any case.

use std::time::Duration;

/// What `never` and `forever` mean: fifty years, which every clock and timer can still add, also a 32-bit one.
pub const FOREVER: Duration = Duration::from_secs(50 * 365 * DAY);

/// What `unlimited` and `infinite` mean for a number, where its limits allow it.
pub const UNLIMITED: u64 = u32::MAX as u64;

const DAY: u64 = 24 * 60 * 60;

/// Seconds in a unit, its names after it. A bare number is seconds.
const TIMES: [(f64, &[&str]); 9] = [
    (1.0, &["", "sec", "secs", "second", "seconds"]),
    (0.001, &["ms", "msec", "msecs"]),
    (60.0, &["min", "mins", "minute", "minutes"]),
    (3600.0, &["hr", "hrs", "hour", "hours"]),
    (DAY as f64, &["day", "days"]),
    (7.0 * DAY as f64, &["week", "weeks"]),
    (30.0 * DAY as f64, &["month", "months"]),
    (365.0 * DAY as f64, &["year", "years"]),
    (f64::INFINITY, &["never", "forever", "unlimited", "infinite"]),
];

/// Bytes in a unit, its names after it. Units are powers of 1024.
const SIZES: [(u64, &[&str]); 4] =
    [(1, &["", "byte", "bytes"]), (1 << 10, &["k", "kb"]), (1 << 20, &["m", "mb"]), (1 << 30, &["g", "gb"])];

/// Reads a duration; nothing when it is none.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text);
    let (seconds, _) = TIMES.iter().find(|(_, names)| names.contains(&unit.as_str()))?;
    match (seconds.is_infinite(), number.is_empty()) {
        (true, true) => Some(FOREVER),
        (false, false) => seconds_of(number.parse::<f64>().ok()? * seconds),
        _ => None,
    }
}

/// A number of seconds as a duration, [`FOREVER`] at most; nothing below zero or without meaning.
pub(super) fn seconds_of(seconds: f64) -> Option<Duration> {
    match seconds >= FOREVER.as_secs_f64() {
        true => Some(FOREVER),
        // Whole microseconds, so that 0.1 secs is 100 ms and not a hair more.
        false => {
            Duration::try_from_secs_f64(seconds).ok().map(|_| Duration::from_micros((seconds * 1e6).round() as u64))
        }
    }
}

/// Reads a number of bytes, or of other things with `k`, `m`, `g`; nothing when it is none or not whole.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text);
    if number.is_empty() {
        return matches!(unit.as_str(), "unlimited" | "infinite").then_some(UNLIMITED);
    }
    let (factor, _) = SIZES.iter().find(|(_, names)| names.contains(&unit.as_str()))?;
    whole(number.parse::<f64>().ok()? * *factor as f64)
}

/// A number as a whole one, when it is.
pub(super) fn whole(number: f64) -> Option<u64> {
    (number >= 0.0 && number.fract() == 0.0 && number <= 9e15).then_some(number as u64)
}

/// Shows a duration as [`duration`] reads it.
pub(super) fn show_duration(duration: Duration) -> String {
    if duration >= FOREVER {
        return "never".into();
    }
    if duration.subsec_nanos() != 0 {
        return format!("{} ms", duration.as_secs_f64() * 1000.0);
    }
    let seconds = duration.as_secs();
    let units = [(DAY, "day"), (3600, "hour"), (60, "min"), (1, "sec")];
    let (length, name) =
        units.into_iter().find(|(length, _)| seconds >= *length && seconds % length == 0).unwrap_or((1, "sec"));
    let count = seconds / length;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// Shows a number of bytes as [`size`] reads it.
pub(crate) fn show_size(bytes: u64) -> String {
    let units = [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")];
    match units.into_iter().find(|(factor, _)| bytes >= *factor && bytes % factor == 0) {
        Some((factor, name)) => format!("{}{name}", bytes / factor),
        None if bytes == UNLIMITED => "unlimited".into(),
        None => bytes.to_string(),
    }
}

/// The number at the front of a text and the unit behind it, in lower case.
fn split(text: &str) -> (&str, String) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_all_units_in_any_case() {
        let rows = [
            ("10", 10_000),
            ("0", 0),
            ("1.5", 1500),
            ("5 ms", 5),
            ("0.1sec", 100),
            ("1sec", 1_000),
            ("15secs", 15_000),
            ("10 mins", 600_000),
            ("1 MIN", 60_000),
            ("2hr", 7_200_000),
            ("2 Hrs", 7_200_000),
            ("1hour", 3_600_000),
            ("1 day", 86_400_000),
            ("2 weeks", 1_209_600_000),
            ("1 month", 2_592_000_000),
            ("1year", 31_536_000_000),
            (" 4 hours ", 14_400_000),
        ];
        for (text, milliseconds) in rows {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["never", "Forever", "unlimited", "infinite", "70 years", "99999999999999999999999 years"] {
            assert_eq!(duration(text), Some(FOREVER), "{text}");
        }
        for text in ["", "mins", "10 m", "10 apples", "-1 sec", "1 2 secs", "1.2.3 secs", ".", "5 never", "0x10", "1e3"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        let rows = [
            ("0", 0),
            ("100", 100),
            ("20k", 20 << 10),
            ("1KB", 1 << 10),
            ("20MB", 20 << 20),
            ("0.5 mb", 1 << 19),
            ("2g", 2 << 30),
            ("3 Gb", 3 << 30),
            ("7 bytes", 7),
            ("unlimited", UNLIMITED),
            ("Infinite", UNLIMITED),
        ];
        for (text, bytes) in rows {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "k", "1.5", "0.0001k", "-5", "10 tb", "never", "5 unlimited", "10 secs", "9999999999g"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_the_same() {
        let millis = [0, 2, 100, 1000, 1500, 60_000, 90_000, 7_200_000, 86_400_000, 604_800_000];
        for duration_ in millis.map(Duration::from_millis).into_iter().chain([FOREVER]) {
            assert_eq!(duration(&show_duration(duration_)), Some(duration_));
        }
        for bytes in [0, 1, 1000, 1024, 10 << 10, 129 << 10, 1 << 20, 1 << 30, UNLIMITED] {
            assert_eq!(size(&show_size(bytes)), Some(bytes));
        }
        assert_eq!(show_duration(Duration::from_secs(90)), "90 secs");
        assert_eq!(show_duration(Duration::from_secs(60)), "1 min");
    }
}
