//! Events out of the bytes of a stream (WHATWG HTML §9.2.6). No I/O.

use std::collections::VecDeque;
use std::time::Duration;

use super::Event;

/// The byte order mark that may stand before a text.
const START: &[u8] = b"\xef\xbb\xbf";

/// Puts lines together to events.
#[derive(Debug)]
pub(super) struct EventParser {
    limit: usize,
    /// The line that is not complete yet.
    line: Vec<u8>,
    /// The last byte was a CR: an LF after it belongs to it.
    cr: bool,
    first_line: bool,
    kind: String,
    data: String,
    has_data: bool,
    id: String,
    retry: Option<Duration>,
    ready: VecDeque<Event>,
}

impl EventParser {
    /// For events of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            cr: false,
            first_line: true,
            kind: String::new(),
            data: String::new(),
            has_data: false,
            id: String::new(),
            retry: None,
            ready: VecDeque::new(),
        }
    }

    /// A new connection: what was not complete comes again, or never.
    pub fn restart(&mut self) {
        let (id, retry) = (std::mem::take(&mut self.id), self.retry);
        *self = Self { id, retry, ..Self::new(self.limit) };
    }

    pub fn set_id(&mut self, id: &str) {
        self.id = id.into();
    }

    pub fn last_id(&self) -> &str {
        &self.id
    }

    /// The wait before a new connection that the server asked for.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    pub fn next(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// Takes input; an error: an event is larger than it may be.
    pub fn put(&mut self, input: &[u8]) -> Result<(), ()> {
        for &byte in input {
            let after_cr = std::mem::replace(&mut self.cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\r' | b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    self.take_line(&line);
                    self.line = line;
                    self.line.clear();
                }
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > self.limit {
                return Err(());
            }
        }
        Ok(())
    }

    fn take_line(&mut self, line: &[u8]) {
        let line = match std::mem::take(&mut self.first_line) {
            true => line.strip_prefix(START).unwrap_or(line),
            false => line,
        };
        let line = String::from_utf8_lossy(line);
        if line.is_empty() {
            return self.dispatch();
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => self.kind = value.into(),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            // It is sent in a header field: what cannot stand there is no id.
            "id" if !value.chars().any(char::is_control) => self.id = value.into(),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry = value.parse().ok().map(Duration::from_millis).or(self.retry);
            }
            // A comment has no name; others are ignored.
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        let kind = std::mem::take(&mut self.kind);
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.has_data) {
            let kind = if kind.is_empty() { "message".into() } else { kind };
            self.ready.push_back(Event { kind, data, id: self.id.clone() });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(pieces: &[&[u8]]) -> (Vec<Event>, EventParser) {
        let mut parser = EventParser::new(1000);
        pieces.iter().for_each(|piece| parser.put(piece).unwrap());
        let events = std::iter::from_fn(|| parser.next()).collect();
        (events, parser)
    }

    fn event(kind: &str, data: &str, id: &str) -> Event {
        Event { kind: kind.into(), data: data.into(), id: id.into() }
    }

    #[test]
    fn events_are_the_same_however_the_bytes_come() {
        let text = b"\xef\xbb\xbf: comment\nevent: add\ndata: 1\ndata:2\ndata\nid: 7\n\ndata:  x\r\n\r\nid\rdata\r\rretry: 10\n\n\
                     event: none\n\nretry: x\ndata: lost";
        let expected = [event("add", "1\n2\n", "7"), event("message", " x", "7"), event("message", "", "")];
        for size in 1..text.len() {
            let pieces: Vec<_> = text.chunks(size).collect();
            let (events, parser) = parse(&pieces);
            assert_eq!(events, expected, "pieces of {size}");
            assert_eq!(parser.retry(), Some(Duration::from_millis(10)));
        }
    }

    #[test]
    fn what_was_not_complete_is_forgotten_and_the_id_is_not() {
        let (_, mut parser) = parse(&[b"id: 3\ndata: a\n\ndata: half"]);
        parser.restart();
        parser.put(b"data: b\n\n").unwrap();
        assert_eq!(parser.next(), Some(event("message", "b", "3")));
    }

    #[test]
    fn endless_lines_and_events_are_refused() {
        assert!(EventParser::new(100).put(&[b'x'; 101]).is_err());
        let mut parser = EventParser::new(100);
        assert!((0..100).any(|_| parser.put(b"data: 0123456789\n").is_err()));
        let mut parser = EventParser::new(100);
        assert!((0..1000).all(|_| parser.put(b": 0123456789\n").is_ok()));
    }
}
