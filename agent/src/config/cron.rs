//! Times in the manner of cron: minute, hour, day of the month, month, day of the week, in UTC.

use std::fmt;
use std::str::FromStr;

const MINUTE_MS: i64 = 60_000;
const DAY_MINUTES: i64 = 24 * 60;

/// Each field with its lowest and highest value; Sunday is 0 and 7.
const FIELDS: [(&str, u32, u32); 5] =
    [("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("day of the week", 0, 7)];

/// A set of minutes, written as cron does (POSIX crontab): `*`, numbers, lists, ranges and steps.
///
/// As in cron, when both days are limited, either of them is enough. A device may be in any zone, so all is UTC.
#[derive(Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    /// A bit for each value of each field.
    sets: [u64; 5],
    /// Whether a field begins with `*`.
    any: [bool; 5],
}

impl Cron {
    /// Whether the minute at this time, in milliseconds since 1970, belongs to the set.
    pub fn matches(&self, utc_ms: i64) -> bool {
        let minutes = utc_ms.div_euclid(MINUTE_MS);
        let (days, minute) = (minutes.div_euclid(DAY_MINUTES), minutes.rem_euclid(DAY_MINUTES));
        let (month, day) = month_and_day(days);
        // 1 January 1970 was a Thursday.
        let weekday = (days + 4).rem_euclid(7);
        let has = |field: usize, value: i64| self.sets[field] >> value & 1 == 1;
        let by_day = match (self.any[2], self.any[4]) {
            (false, false) => has(2, day) || has(4, weekday),
            _ => has(2, day) && has(4, weekday),
        };
        has(0, minute % 60) && has(1, minute / 60) && has(3, month) && by_day
    }

    /// When the answer of [`matches`](Self::matches) is another one, within the next day or else in a day.
    pub fn changes(&self, utc_ms: i64) -> i64 {
        let now = self.matches(utc_ms);
        let next = (utc_ms.div_euclid(MINUTE_MS) + 1) * MINUTE_MS;
        let mut minutes = (0..DAY_MINUTES).map(|minute| next + minute * MINUTE_MS);
        minutes.find(|time| self.matches(*time) != now).unwrap_or(next + DAY_MINUTES * MINUTE_MS)
    }
}

impl FromStr for Cron {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.len() != FIELDS.len() {
            return Err("expected five fields: minute, hour, day, month and day of the week, as '0-29 2 * * *'".into());
        }
        let (mut sets, mut any) = ([0; 5], [false; 5]);
        for (index, word) in words.iter().enumerate() {
            let (name, low, high) = FIELDS[index];
            sets[index] = set(word, low, high).ok_or_else(|| {
                format!("expected as {name} a number from {low} to {high}, '*', '1-5', '1,3' or '*/15', found '{word}'")
            })?;
            any[index] = word.starts_with('*');
        }
        sets[4] |= sets[4] >> 7 & 1;
        Ok(Self { text: words.join(" "), sets, any })
    }
}

fn set(word: &str, low: u32, high: u32) -> Option<u64> {
    word.split(',').try_fold(0, |set, part| {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, number(step)?),
            None => (part, 1),
        };
        let (from, to) = match (range, range.split_once('-')) {
            ("*", _) => (low, high),
            (_, Some((from, to))) => (number(from)?, number(to)?),
            (single, None) => (number(single)?, number(single)?),
        };
        if from < low || to > high || from > to || step == 0 {
            return None;
        }
        Some((from..=to).step_by(step as usize).fold(set, |set, value| set | 1 << value))
    })
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Month and day of the month of a day since 1970 (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn month_and_day(days: i64) -> (i64, i64) {
    let day_of_era = (days + 719_468).rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    (if shifted < 10 { shifted + 3 } else { shifted - 9 }, day_of_year - (153 * shifted + 2) / 5 + 1)
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({})", self.text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 60 * MINUTE_MS;
    /// Monday, 23 November 2026, 00:00 UTC.
    const MONDAY: i64 = 1_795_392_000_000;

    fn cron(text: &str) -> Cron {
        text.parse().unwrap()
    }

    #[test]
    fn minutes_hours_days_and_months_are_matched() {
        let night = cron("0-29 2 * * *");
        assert!(night.matches(MONDAY + 2 * HOUR_MS) && night.matches(MONDAY + 2 * HOUR_MS + 29 * MINUTE_MS + 59_999));
        assert!(!night.matches(MONDAY + 2 * HOUR_MS + 30 * MINUTE_MS) && !night.matches(MONDAY));
        assert!(cron("* * 23 11 *").matches(MONDAY) && !cron("* * 24 11 *").matches(MONDAY));
        assert!(cron("*/15 * * * 1-5").matches(MONDAY + 45 * MINUTE_MS));
        assert!(!cron("*/15 * * * 0,6").matches(MONDAY));
        // The leap day.
        assert!(cron("* * 29 2 *").matches(1_709_164_800_000));
    }

    #[test]
    fn sunday_has_two_numbers_and_of_two_limited_days_one_is_enough() {
        let sunday = MONDAY - 24 * HOUR_MS;
        assert!(cron("* * * * 7").matches(sunday) && cron("* * * * 0").matches(sunday));
        assert!(cron("* * 1 * 1").matches(MONDAY) && cron("* * 23 * 3").matches(MONDAY));
        assert!(!cron("* * 1 * 3").matches(MONDAY) && !cron("* * */2 * 2").matches(MONDAY));
    }

    #[test]
    fn the_next_change_is_found_within_a_day() {
        let night = cron("0-29 2 * * *");
        assert_eq!(night.changes(MONDAY + 5), MONDAY + 2 * HOUR_MS);
        assert_eq!(night.changes(MONDAY + 2 * HOUR_MS), MONDAY + 2 * HOUR_MS + 30 * MINUTE_MS);
        let never = cron("0 0 31 2 *");
        assert!(!never.matches(MONDAY) && never.changes(MONDAY) > MONDAY + 24 * HOUR_MS);
    }

    #[test]
    fn what_is_no_cron_is_refused_with_the_field() {
        for (text, word) in [
            ("", "five fields"),
            ("* * * *", "five fields"),
            ("60 * * * *", "minute"),
            ("* 5-1 * * *", "hour"),
            ("* * 0 * *", "day"),
            ("* * * jan *", "month"),
            ("* * * * */0", "day of the week"),
            ("+1 * * * *", "minute"),
            ("1,,2 * * * *", "minute"),
        ] {
            assert!(text.parse::<Cron>().unwrap_err().contains(word), "{text}");
        }
    }
}
