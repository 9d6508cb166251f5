//! The bytes of a line. Whatever a client sent, it is one line, and each field ends where it should.

use std::io::Write;
use std::time::Duration;

use super::mask::mask;
use crate::config::AccessFormat;
use crate::net::{http_date, iso8601};

/// Bytes of one field, at most: a line is as long as its longest fields, not as a client likes it.
const LONGEST: usize = 2048;

/// What a line tells.
pub(super) struct Record<'a> {
    /// Milliseconds since 1970.
    pub at: i64,
    /// The client's address; of a Unix socket none.
    pub address: Option<std::net::IpAddr>,
    pub user: Option<&'a str>,
    /// Method, target and protocol; of a request that was not understood nothing.
    pub request: Option<(&'a str, &'a str, &'a str)>,
    pub status: u16,
    /// Bytes of the body that were sent.
    pub bytes: u64,
    pub duration: Duration,
    pub secure: bool,
    pub referer: Option<&'a str>,
    pub agent: Option<&'a str>,
    pub host: Option<&'a str>,
}

impl Record<'_> {
    /// Appends the line, with its LF.
    pub fn write(&self, format: AccessFormat, with_query: bool, out: &mut Vec<u8>) {
        match format {
            AccessFormat::Json => self.json(with_query, out),
            AccessFormat::Common => self.common(with_query, out),
            AccessFormat::Combined => {
                self.common(with_query, out);
                for field in [self.referer.map(|referer| mask(referer, with_query)), self.agent.map(Into::into)] {
                    out.extend_from_slice(b" \"");
                    escape(field.as_deref().unwrap_or("-"), out);
                    out.push(b'"');
                }
            }
        }
        out.push(b'\n');
    }

    /// Writing to a Vec cannot fail.
    fn common(&self, with_query: bool, out: &mut Vec<u8>) {
        match self.address {
            Some(address) => drop(write!(out, "{address}")),
            None => out.push(b'-'),
        }
        out.extend_from_slice(b" - ");
        match self.user {
            Some(user) => escape_word(user, out),
            None => out.push(b'-'),
        }
        out.extend_from_slice(b" [");
        common_date(self.at, out);
        out.extend_from_slice(b"] \"");
        match self.request {
            Some((method, target, protocol)) => {
                escape(method, out);
                out.push(b' ');
                escape_word(&mask(target, with_query), out);
                out.push(b' ');
                out.extend_from_slice(protocol.as_bytes());
            }
            None => out.push(b'-'),
        }
        let _ = match self.bytes {
            0 => write!(out, "\" {} -", self.status),
            bytes => write!(out, "\" {} {bytes}", self.status),
        };
    }

    fn json(&self, with_query: bool, out: &mut Vec<u8>) {
        let _ = write!(out, "{{\"time\":\"{}\"", iso8601(self.at));
        if let Some(address) = self.address {
            let _ = write!(out, ",\"address\":\"{address}\"");
        }
        let (method, target, protocol) = self.request.unwrap_or(("-", "-", "-"));
        let target = mask(target, with_query);
        for (name, value) in
            [("user", self.user), ("method", Some(method)), ("target", Some(&target)), ("protocol", Some(protocol))]
        {
            text(name, value, out);
        }
        let (status, bytes, us, tls) = (self.status, self.bytes, self.duration.as_micros(), self.secure);
        let _ = write!(out, ",\"status\":{status},\"bytes\":{bytes},\"duration\":{us},\"tls\":{tls}");
        let referer = self.referer.map(|referer| mask(referer, with_query));
        for (name, value) in [("referer", referer.as_deref()), ("userAgent", self.agent), ("host", self.host)] {
            text(name, value, out);
        }
        out.push(b'}');
    }
}

fn text(name: &str, value: Option<&str>, out: &mut Vec<u8>) {
    let Some(value) = value else { return };
    let _ = write!(out, ",\"{name}\":\"");
    for c in cut(value).chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            // Also what some programs take for the end of a line.
            _ if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => drop(write!(out, "\\u{:04x}", c as u32)),
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// The text as printable ASCII without quotes.
fn escape(text: &str, out: &mut Vec<u8>) {
    for byte in cut(text).bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => out.push(byte),
            _ => drop(write!(out, "\\x{byte:02x}")),
        }
    }
}

/// The same without spaces.
fn escape_word(text: &str, out: &mut Vec<u8>) {
    for (index, word) in cut(text).split(' ').enumerate() {
        if index > 0 {
            out.extend_from_slice(b"\\x20");
        }
        escape(word, out);
    }
}

fn cut(text: &str) -> &str {
    let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// `22/Nov/2026:19:06:55 +0000`
fn common_date(at: i64, out: &mut Vec<u8>) {
    let since = Duration::from_millis(u64::try_from(at).unwrap_or(0));
    // `Sun, 22 Nov 2026 19:06:55 GMT`
    let date = http_date(std::time::UNIX_EPOCH + since);
    let mut words = date.split(' ').skip(1);
    let mut next = || words.next().unwrap_or_default();
    let (day, month, year, time) = (next(), next(), next(), next());
    let _ = write!(out, "{day}/{month}/{year}:{time} +0000");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record() -> Record<'static> {
        Record {
            at: 1_795_374_415_120,
            address: Some([192, 0, 2, 7].into()),
            user: Some("jo"),
            request: Some(("GET", "/a?token=x&b=c", "HTTP/1.1")),
            status: 200,
            bytes: 512,
            duration: Duration::from_micros(1234),
            secure: true,
            referer: Some("https://h/?sid=7"),
            agent: Some("curl/8"),
            host: Some("board.local"),
        }
    }

    fn line(record: &Record, format: AccessFormat) -> String {
        let mut out = Vec::new();
        record.write(format, true, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_tells_who_asked_for_what_and_what_came_of_it() {
        let common = "192.0.2.7 - jo [22/Nov/2026:19:06:55 +0000] \"GET /a?token=***&b=c HTTP/1.1\" 200 512";
        assert_eq!(line(&record(), AccessFormat::Common), format!("{common}\n"));
        assert_eq!(line(&record(), AccessFormat::Combined), format!("{common} \"https://h/?sid=***\" \"curl/8\"\n"));
        assert_eq!(
            line(&record(), AccessFormat::Json),
            "{\"time\":\"2026-11-22T19:06:55.120Z\",\"address\":\"192.0.2.7\",\"user\":\"jo\",\"method\":\"GET\",\
             \"target\":\"/a?token=***&b=c\",\"protocol\":\"HTTP/1.1\",\"status\":200,\"bytes\":512,\"duration\":1234,\
             \"tls\":true,\"referer\":\"https://h/?sid=***\",\"userAgent\":\"curl/8\",\"host\":\"board.local\"}\n"
        );
        let refused =
            Record { user: None, request: None, bytes: 0, address: None, referer: None, agent: None, ..record() };
        assert_eq!(
            line(&refused, AccessFormat::Combined),
            "- - - [22/Nov/2026:19:06:55 +0000] \"-\" 200 - \"-\" \"-\"\n"
        );
    }

    #[test]
    fn no_client_can_forge_a_line_or_a_field() {
        let evil = "a\r\nb\u{1b}[2J\" 200 5\\\u{85}\u{2028}\0\u{e4}\u{7f}";
        let record =
            Record { agent: Some(evil), referer: Some(evil), user: Some("jo 1"), host: Some(evil), ..record() };
        let combined = line(&record, AccessFormat::Combined);
        assert!(combined.trim_end_matches('\n').bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{combined}");
        assert!(
            combined.ends_with("\"a\\x0d\\x0ab\\x1b[2J\\\" 200 5\\\\\\xc2\\x85\\xe2\\x80\\xa8\\x00\\xc3\\xa4\\x7f\"\n"),
            "{combined}"
        );
        assert!(combined.starts_with("192.0.2.7 - jo\\x201 ["), "{combined}");
        let json = line(&record, AccessFormat::Json);
        assert_eq!(json.lines().count(), 1);
        assert!(!json.trim_end_matches('\n').contains(|c: char| c.is_control() || c == '\u{2028}'), "{json}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["userAgent"], evil);
    }

    #[test]
    fn a_line_is_not_as_long_as_a_client_likes_it() {
        let long = "\u{e4}".repeat(10_000);
        for format in [AccessFormat::Combined, AccessFormat::Json] {
            let record = Record { agent: Some(&long), referer: Some(&long), host: Some(&long), ..record() };
            assert!(line(&record, format).len() < 20_000);
        }
    }
}
