//! Records as messages of syslog.

use std::io::Write;

use super::Entry;
use crate::config::Logs;
use crate::net;

/// The longest datagram that RFC 3164 §4.1 allows.
const DATAGRAM: usize = 1024;
/// RFC 5424 §6: lengths of APP-NAME and PROCID.
const APP_NAME: usize = 48;
/// RFC 3164 §4.1.3
const TAG: usize = 32;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// What all messages of this device have in common.
#[derive(Clone, Debug)]
pub struct Style {
    host: String,
    enterprise: u32,
    longest: usize,
}

impl Style {
    /// As configured; `device` is the name where no other was chosen.
    pub fn new(settings: &Logs, device: &str) -> Self {
        let host = printable(settings.host.as_deref().unwrap_or(device), 255);
        Self { host, enterprise: settings.enterprise, longest: settings.message }
    }

    /// Appends a message of RFC 5424.
    ///
    /// The structured data has the id, the source with the record's number in it, and where they are known the boot and the
    /// unit. The text is UTF-8 without a mark. It keeps tabs and line feeds, which the framing of streams allows; other
    /// control characters are escaped (§8.2).
    pub fn rfc5424(&self, entry: &Entry, out: &mut Vec<u8>) {
        let record = &entry.record;
        let (host, app) = (&self.host, printable(&record.identifier, APP_NAME));
        // Writing to a vector does not fail.
        let _ = write!(out, "<{}>1 {} {host} {app} ", priority(entry), time(record.at));
        let _ = match record.pid {
            Some(pid) => write!(out, "{pid} - "),
            None => write!(out, "- - "),
        };
        let _ = write!(out, "[ioto@{} id=\"{}\" source=\"", self.enterprise, entry.id);
        parameter(&entry.source, out);
        let _ = write!(out, "\" seq=\"{}\"", entry.seq);
        for (name, value) in [("boot", &record.boot), ("unit", &record.unit)] {
            if let Some(value) = value {
                let _ = write!(out, " {name}=\"");
                parameter(value, out);
                out.push(b'"');
            }
        }
        out.extend(b"] ");
        text(&record.text, self.longest, &['\t', '\n'], out);
    }

    /// Appends a message of RFC 3164, cut where a datagram ends. Its time is UTC.
    pub fn rfc3164(&self, entry: &Entry, out: &mut Vec<u8>) {
        let (record, from) = (&entry.record, out.len());
        let iso = time(record.at);
        let part = |from, to| iso.get(from..to).unwrap_or_default();
        let month =
            part(5, 7).parse().ok().and_then(|month: usize| MONTHS.get(month.wrapping_sub(1))).unwrap_or(&"Jan");
        let day: u8 = part(8, 10).parse().unwrap_or(1);
        let tag = printable(&record.identifier, TAG).replace([':', '['], "_");
        let _ = write!(out, "<{}>{month} {day:>2} {} {} {tag}", priority(entry), part(11, 19), self.host);
        let _ = match record.pid {
            Some(pid) => write!(out, "[{pid}]: "),
            None => write!(out, ": "),
        };
        let room = DATAGRAM.saturating_sub(out.len() - from);
        let begin = out.len();
        text(&record.text, usize::MAX, &['\t'], out);
        if out.len() - begin > room {
            let end =
                (0..=begin + room).rev().find(|&at| at <= begin || out.get(at).is_none_or(|byte| byte & 0xc0 != 0x80));
            out.truncate(end.unwrap_or(begin));
        }
    }
}

fn priority(entry: &Entry) -> u8 {
    entry.record.facility.min(23) * 8 + entry.record.severity.min(7)
}

/// RFC 3339 with microseconds. What a clock can not have said is the beginning of 1970.
fn time(at: i64) -> String {
    // The last moment of the year 9999: RFC 3339 has four digits for it.
    let at = if (0..=253_402_300_799_999_999).contains(&at) { at } else { 0 };
    let mut text = net::iso8601(at / 1000);
    text.pop();
    text.push_str(&format!("{:03}Z", at % 1000));
    text
}

/// A name of printable ASCII; `-` when there is none.
fn printable(name: &str, longest: usize) -> String {
    match name {
        "" => "-".into(),
        name => name.chars().take(longest).map(|c| if c.is_ascii_graphic() { c } else { '_' }).collect(),
    }
}

/// The value of a parameter, RFC 5424 §6.3.3.
fn parameter(value: &str, out: &mut Vec<u8>) {
    for c in value.chars() {
        match c {
            '"' | '\\' | ']' => out.extend([b'\\', c as u8]),
            c if c.is_control() => out.push(b'?'),
            c => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
}

fn text(text: &str, longest: usize, kept: &[char], out: &mut Vec<u8>) {
    let end = match text.len() <= longest {
        true => text.len(),
        false => (0..=longest).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0),
    };
    let (shown, cut) = text.split_at(end);
    // 0xc2 begins what may be a control character above ASCII.
    if shown.bytes().all(|byte| byte >= b' ' && byte != 0x7f && byte != 0xc2) {
        out.extend(shown.as_bytes());
    } else {
        for c in shown.chars() {
            match c.is_control() && !kept.contains(&c) {
                true => out.extend(c.escape_default().map(|c| c as u8)),
                false => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
    }
    if !cut.is_empty() {
        let _ = write!(out, "... [{} bytes cut]", cut.len());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::logs::Record;

    fn entry(text: &str) -> Entry {
        let record = Record {
            at: 1_763_850_433_123_456,
            severity: 4,
            facility: 3,
            identifier: "my app".into(),
            unit: Some("a\"b]c\\.service".into()),
            pid: Some(42),
            boot: Some("0123456789abcdef0123456789abcdef".into()),
            text: text.into(),
        };
        Entry { id: "s-1-7-0a0b0c0d".into(), source: "journal".into(), seq: 7, record }
    }

    fn style(message: usize) -> Style {
        Style::new(&Logs { message, ..Logs::default() }, "JT08FFQXWQ")
    }

    fn rfc5424(text: &str, longest: usize) -> String {
        let mut out = Vec::new();
        style(longest).rfc5424(&entry(text), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_message_has_structured_data_and_nothing_in_it_can_forge_more() {
        assert_eq!(
            rfc5424("grüße\n\tzwei\r\x1b[2J", 1000),
            "<28>1 2025-11-22T22:27:13.123456Z JT08FFQXWQ my_app 42 - [ioto@32473 id=\"s-1-7-0a0b0c0d\" source=\"journal\" \
             seq=\"7\" boot=\"0123456789abcdef0123456789abcdef\" unit=\"a\\\"b\\]c\\\\.service\"] \
             grüße\n\tzwei\\r\\u{1b}[2J"
        );
        assert!(rfc5424("0123456789ü", 11).ends_with("] 0123456789... [2 bytes cut]"));
        let mut nothing = Entry { record: Record::default(), ..entry("") };
        let mut out = Vec::new();
        style(1000).rfc5424(&nothing, &mut out);
        assert!(out.starts_with(b"<0>1 1970-01-01T00:00:00.000000Z JT08FFQXWQ - - - [ioto@"));
        nothing.record.at = i64::MIN;
        style(1000).rfc5424(&nothing, &mut out);
    }

    #[test]
    fn a_datagram_is_one_line_and_ends_between_characters() {
        let mut out = Vec::new();
        style(1000).rfc3164(&entry("one\ntwo"), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "<28>Nov 22 22:27:13 JT08FFQXWQ my_app[42]: one\\ntwo");
        for shift in 0..4 {
            let mut out = Vec::new();
            style(1000).rfc3164(&entry(&format!("{}{}", "x".repeat(shift), "€".repeat(1000))), &mut out);
            assert!((1020..=1024).contains(&out.len()));
            String::from_utf8(out).unwrap();
        }
    }
}
