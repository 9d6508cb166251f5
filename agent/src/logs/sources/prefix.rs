//! What lines of log files begin with: the time, and who wrote them, as syslog daemons write it.

use crate::net;

/// What the front of a line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header<'a> {
    /// Microseconds since 1970.
    pub at: Option<i64>,
    pub severity: Option<u8>,
    pub facility: Option<u8>,
    pub identifier: Option<&'a str>,
    pub pid: Option<u32>,
    /// What it says; the whole line where nobody is named.
    pub text: &'a [u8],
}

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];
const FACILITIES: [&str; 12] =
    ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"];

/// Reads `TIME HOST TAG[PID]: TEXT` of RFC 3164 with its time or RFC 3339's, also with `<PRIORITY>` before it, and with
/// `FACILITY.SEVERITY` behind the host, as BusyBox writes it. `now` is in milliseconds: RFC 3164 has no year.
pub(super) fn header(line: &[u8], now: i64) -> Header<'_> {
    let whole = Header { text: line, ..Header::default() };
    let (priority, rest) = priority(line).unzip();
    let rest = rest.unwrap_or(line);
    let Some((at, rest)) = time(rest, now) else { return whole };
    let mut header = Header { at: Some(at), ..whole };
    if let Some(priority) = priority {
        (header.facility, header.severity) = (Some(priority >> 3), Some(priority & 7));
    }
    // The host need not be there.
    let behind_host = word(rest).map(|(_, rest)| rest);
    let with_level = behind_host.and_then(|rest| {
        let (name, rest) = word(rest)?;
        let (facility, severity) = std::str::from_utf8(name).ok()?.split_once('.')?;
        let severity = SEVERITIES.iter().position(|known| *known == severity)?;
        let facility = FACILITIES.iter().position(|known| *known == facility).unwrap_or(1);
        Some((facility as u8, severity as u8, rest))
    });
    if let Some((facility, severity, _)) = with_level {
        (header.facility, header.severity) = (Some(facility), Some(severity));
    }
    let behind = with_level.map(|(_, _, rest)| rest).or(behind_host);
    if let Some((identifier, pid, text)) = tag(rest).or_else(|| tag(behind?)) {
        (header.identifier, header.pid, header.text) = (Some(identifier), pid, text);
    }
    header
}

/// `TAG[PID]: TEXT` or `TAG: TEXT`.
pub(super) fn tag(bytes: &[u8]) -> Option<(&str, Option<u32>, &[u8])> {
    let end = bytes.iter().take(64).position(|byte| matches!(byte, b':' | b'[' | b' '))?;
    let name = std::str::from_utf8(&bytes[..end]).ok().filter(|name| !name.is_empty())?;
    let mut rest = &bytes[end..];
    let mut pid = None;
    if let Some(inner) = rest.strip_prefix(b"[") {
        let end = inner.iter().take(12).position(|byte| *byte == b']')?;
        pid = Some(std::str::from_utf8(&inner[..end]).ok()?.parse().ok()?);
        rest = &inner[end + 1..];
    }
    let rest = rest.strip_prefix(b":")?;
    // `12:30`, `http://x` and `C:\x` are no tags.
    match rest.first() {
        None => Some((name, pid, rest)),
        Some(b' ') => Some((name, pid, &rest[1..])),
        Some(_) => None,
    }
}

/// Whether a line begins with a date and a time of day, or with RFC 3164's time; also in brackets or behind a priority.
pub(super) fn begins_with_time(line: &[u8]) -> bool {
    let line = priority(line).map_or(line, |(_, rest)| rest);
    let line = line.strip_prefix(b"[").unwrap_or(line);
    is_like(line, b"0000-00-00T00:00:00")
        || is_like(line, b"0000-00-00 00:00:00")
        || is_like(line, b"0000/00/00 00:00:00")
        || {
            let day = line.get(4).is_some_and(|byte| *byte == b' ' || byte.is_ascii_digit());
            month(line).is_some() && day && line.get(5..).is_some_and(|rest| is_like(rest, b"0 00:00:00"))
        }
}

/// Whether the bytes begin as the pattern does, in which `0` is any digit.
fn is_like(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes.len() >= pattern.len()
        && bytes.iter().zip(pattern).all(|(byte, wanted)| match wanted {
            b'0' => byte.is_ascii_digit(),
            wanted => byte == wanted,
        })
}

/// `<34>`
fn priority(line: &[u8]) -> Option<(u8, &[u8])> {
    let rest = line.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|byte| *byte == b'>')?;
    let priority = std::str::from_utf8(&rest[..end]).ok()?.parse().ok().filter(|priority| *priority < 192)?;
    Some((priority, &rest[end + 1..]))
}

/// The first word, and what is behind it and its space.
fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().take(256).position(|byte| *byte == b' ')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn month(line: &[u8]) -> Option<usize> {
    let name = line.get(..3)?;
    MONTHS.iter().position(|month| *month == name).filter(|_| line.get(3) == Some(&b' '))
}

/// The time, and what is behind it and a space.
fn time(line: &[u8], now: i64) -> Option<(i64, &[u8])> {
    if !begins_with_time(line) {
        return None;
    }
    if month(line).is_some() {
        let (front, rest) = line.split_at_checked(15)?;
        return Some((traditional(front, now)?, rest.strip_prefix(b" ")?));
    }
    let (front, rest) = word(line)?;
    let text = std::str::from_utf8(front).ok()?;
    let at = net::parse_iso8601(text)?.checked_mul(1000)?;
    // What is finer than a millisecond.
    let fraction =
        text.split_once('.').map(|(_, fraction)| fraction.bytes().take_while(u8::is_ascii_digit).skip(3).take(3));
    let mut weight = 100;
    let fine: i64 = fraction
        .into_iter()
        .flatten()
        .map(|digit| {
            let value = i64::from(digit - b'0') * weight;
            weight /= 10;
            value
        })
        .sum();
    Some((at + fine, rest))
}

/// `Nov  2 10:11:12`, in the zone of the device: the year is the one in which that is not ahead.
fn traditional(front: &[u8], now: i64) -> Option<i64> {
    let month = month(front)? + 1;
    let day: u32 = std::str::from_utf8(front.get(4..6)?).ok()?.trim().parse().ok()?;
    let clock = std::str::from_utf8(front.get(7..)?).ok()?;
    let year: i64 = net::iso8601(now).get(..4)?.parse().ok()?;
    let of = |year: i64| {
        let local = net::parse_iso8601(&format!("{year:04}-{month:02}-{day:02}T{clock}Z"))?;
        Some(super::zone::utc(local))
    };
    const DAY: i64 = 86_400_000;
    let at = of(year).filter(|at| *at <= now + DAY).or_else(|| of(year - 1))?;
    at.checked_mul(1000)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        net::parse_iso8601(text).unwrap() * 1000
    }

    #[test]
    fn the_lines_of_syslog_daemons_are_taken_apart() {
        let now = at("2026-11-22T12:00:00Z") / 1000;
        let row = |line: &'static str| {
            let h = header(line.as_bytes(), now);
            (h.at, h.identifier, h.pid, std::str::from_utf8(h.text).unwrap(), h.facility.zip(h.severity))
        };
        let iso = Some(at("2026-11-22T10:11:12.123Z") + 456);
        assert_eq!(
            row("2026-11-22T10:11:12.123456+00:00 host sshd[12]: a: b"),
            (iso, Some("sshd"), Some(12), "a: b", None)
        );
        assert_eq!(row("2026-11-22T11:11:12.123456+01:00 host cron: x"), (iso, Some("cron"), None, "x", None));
        let old = Some(at("2026-11-22T10:11:12Z"));
        if super::super::zone::utc(0) == 0 {
            assert_eq!(
                row("Nov 22 10:11:12 host daemon.warn app[7]: x"),
                (old, Some("app"), Some(7), "x", Some((3, 4)))
            );
            assert_eq!(row("<13>Nov 22 10:11:12 app: x"), (old, Some("app"), None, "x", Some((1, 5))));
            assert_eq!(row("Dec  2 10:11:12 host kernel: x").0, Some(at("2025-12-02T10:11:12Z")));
        }
        // Nobody is named: the line stays whole.
        assert_eq!(
            row("2026-11-22T10:11:12.123456Z just text 12:30"),
            (iso, None, None, "2026-11-22T10:11:12.123456Z just text 12:30", None)
        );
        for whole in [
            "",
            "text",
            "Nov 99 10:11:12 a b: c",
            "Nov 22 25:11:12 a b: c",
            "2026-13-22T10:11:12Z a b: c",
            "<999>x",
            "Nov",
        ] {
            assert_eq!(row(whole), (None, None, None, whole, None), "{whole}");
        }
    }

    #[test]
    fn records_begin_with_a_time() {
        for line in [
            "2026-11-22T10:11:12Z",
            "[2026-11-22 10:11:12,5] x",
            "2026/11/22 10:11:12 x",
            "Nov  2 10:11:12",
            "<3>Nov 22 10:11:12 x",
        ] {
            assert!(begins_with_time(line.as_bytes()), "{line}");
        }
        for line in ["", " 2026-11-22T10:11:12Z", "2026-11-22", "Nov 22", "November 2 10:11:12", "x"] {
            assert!(!begins_with_time(line.as_bytes()), "{line}");
        }
    }
}
