//! One line of the log.

use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, Record};

/// A line that was logged, ready to be written by any sink.
#[derive(Clone, Debug)]
pub struct Line {
    /// How important it is.
    pub level: Level,
    /// The room it comes from, as `mqtt`; for foreign crates their name.
    pub room: String,
    /// The text, without control characters: what a peer sent can not forge a second line.
    pub text: String,
    /// Milliseconds since 1970 by the clock of the device.
    pub at: i64,
}

impl Line {
    /// Takes over what was logged.
    pub fn new(record: &Record<'_>) -> Self {
        let mut text = String::new();
        // Writing to a string can only fail in a `Display` of the caller; the line is kept as far as it came.
        let _ = write!(Cleaner(&mut text), "{}", record.args());
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { level: record.level(), room: room(record.target()).into(), text, at: since.as_millis() as i64 }
    }

    /// The line that tells of lines which were dropped.
    pub fn dropped(count: u64, at: i64) -> Self {
        let text = format!("{count} lines were dropped: the log was written faster than it could be read");
        Self { level: Level::Warn, room: "logs".into(), text, at }
    }

    /// The severity of RFC 5424, as systemd wants it in `<N>`.
    pub fn severity(&self) -> u8 {
        match self.level {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.room, self.text)
    }
}

/// The room of a log target: `ioto::mqtt::session` is `mqtt`, `rustls::client` is `rustls`.
pub fn room(target: &str) -> &str {
    let mut parts = target.split("::");
    match (parts.next(), parts.next()) {
        (Some("ioto"), Some(room)) => room,
        (Some("ioto"), None) => "agent",
        (first, _) => first.unwrap_or_default(),
    }
}

/// Escapes control characters on the way.
struct Cleaner<'a>(&'a mut String);

impl Write for Cleaner<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c.is_control() && c != '\t' {
                true => self.0.extend(c.escape_default()),
                false => self.0.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_in_a_message_can_not_forge_a_second_line() {
        let of = |args| Line::new(&Record::builder().args(args).level(Level::Info).target("ioto::web::auth").build());
        let line = of(format_args!("login of {}", "joe\n<3>agent: reboot\x1b[2J"));
        assert_eq!(line.to_string(), r"web: login of joe\n<3>agent: reboot\u{1b}[2J");
    }

    #[test]
    fn the_room_is_the_second_part_of_our_targets_and_the_first_of_others() {
        assert_eq!(room("ioto::mqtt::session"), "mqtt");
        assert_eq!(room("ioto"), "agent");
        assert_eq!(room("rustls::client::hs"), "rustls");
    }
}
