//! The JSON5 reader (<https://spec.json5.org>): complete, and it remembers the place of every key and value.
//!
//! Limits: [`MAX_BYTES`] of text and [`MAX_DEPTH`] of nesting. A key said twice in an object is an error. In unquoted keys
//! letters and digits are what [`char::is_alphanumeric`] calls so.

use std::collections::HashMap;
use std::fmt;

use super::node::{Member, Node, Value};
use super::origin::{Origin, Source};

/// The longest text that is read.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Lists and objects inside each other, at most.
pub const MAX_DEPTH: usize = 32;

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The place.
    pub origin: Origin,
    /// What was expected and what was found.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)
    }
}

impl std::error::Error for Error {}

type Result<T> = std::result::Result<T, Error>;

/// Reads one JSON5 value, which must be all of `text`. `source` is what origins and errors name.
pub fn parse(text: &str, source: &Source) -> Result<Node> {
    let mut reader = Reader { rest: text, source, line: 1, column: 1, depth: 0 };
    if text.len() > MAX_BYTES {
        return Err(reader.error(format!("is longer than {MAX_BYTES} bytes")));
    }
    let node = reader.value()?;
    reader.space()?;
    match reader.peek() {
        None => Ok(node),
        Some(_) => Err(reader.expected("the end of the text")),
    }
}

struct Reader<'a> {
    rest: &'a str,
    source: &'a Source,
    line: u32,
    column: u32,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self) -> Result<Node> {
        self.space()?;
        let origin = self.origin();
        let value = match self.peek() {
            Some('{') => self.nested(Self::object)?,
            Some('[') => self.nested(Self::list)?,
            Some('"' | '\'') => Value::Text(self.text()?),
            Some('+' | '-' | '.' | '0'..='9') => Value::Number(self.number()?),
            Some(c) if is_key_start(c) => self.word()?,
            _ => return Err(self.expected("a value")),
        };
        Ok(Node { value, origin })
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value>) -> Result<Value> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(format!("is nested deeper than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        self.next();
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Result<Value> {
        let mut members = Vec::new();
        let mut lines = HashMap::new();
        loop {
            self.space()?;
            if self.accept('}') {
                return Ok(Value::Object(members));
            }
            let origin = self.origin();
            let key = match self.peek() {
                Some('"' | '\'') => self.text()?,
                Some(c) if is_key_start(c) || c == '\\' => self.key()?,
                _ => return Err(self.expected("a key or `}`")),
            };
            if let Some(first) = lines.insert(key.clone(), origin.line) {
                let key = super::node::quote(&key);
                let message = format!("the key {key} is said twice, on line {first} and on line {}", origin.line);
                return Err(Error { origin, message });
            }
            self.space()?;
            if !self.accept(':') {
                return Err(self.expected("`:` after the key"));
            }
            let node = self.value()?;
            members.push(Member { key, origin, node });
            self.space()?;
            if !self.accept(',') && self.peek() != Some('}') {
                return Err(self.expected("`,` or `}`"));
            }
        }
    }

    fn list(&mut self) -> Result<Value> {
        let mut items = Vec::new();
        loop {
            self.space()?;
            if self.accept(']') {
                return Ok(Value::List(items));
            }
            items.push(self.value()?);
            self.space()?;
            if !self.accept(',') && self.peek() != Some(']') {
                return Err(self.expected("`,` or `]`"));
            }
        }
    }

    /// `null`, `true`, `false`, `Infinity` or `NaN`.
    fn word(&mut self) -> Result<Value> {
        let end = self.rest.find(|c| !is_key_part(c)).unwrap_or(self.rest.len());
        let value = match &self.rest[..end] {
            "null" => Value::Null,
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            "Infinity" => Value::Number(f64::INFINITY),
            "NaN" => Value::Number(f64::NAN),
            // Not quoted in the error, here and below: it may be a password.
            _ => return Err(self.error("expected a value, found a word: a text needs quotes".into())),
        };
        self.skip(end);
        Ok(value)
    }

    fn number(&mut self) -> Result<f64> {
        let end = self.rest.find(|c| !is_key_part(c) && !matches!(c, '+' | '-' | '.')).unwrap_or(self.rest.len());
        let text = &self.rest[..end];
        match number(text) {
            Some(number) => {
                self.skip(end);
                Ok(number)
            }
            None => Err(self.error("expected a number as 10, 1.5 or 0x1F; a text needs quotes".into())),
        }
    }

    /// A key without quotes.
    fn key(&mut self) -> Result<String> {
        let mut key = String::new();
        while let Some(c) = self.peek().filter(|c| is_key_part(*c) || *c == '\\') {
            let mut part = c;
            if c == '\\' {
                let start = self.origin();
                self.next();
                part = match self.accept('u') {
                    true => self.unicode(&start)?,
                    false => return Err(self.bad_escape(start)),
                };
                if !(is_key_start(part) || !key.is_empty() && is_key_part(part)) {
                    return Err(self.bad_escape(start));
                }
            } else {
                self.next();
            }
            key.push(part);
        }
        Ok(key)
    }

    fn text(&mut self) -> Result<String> {
        let start = self.origin();
        let quote = self.next();
        let mut text = String::new();
        loop {
            let here = self.origin();
            match self.next() {
                c if c == quote && c.is_some() => return Ok(text),
                None => return Err(Error { origin: start, message: "this text has no closing quote".into() }),
                Some('\n' | '\r') => {
                    let message = "expected a closing quote, found the end of the line".into();
                    return Err(Error { origin: here, message });
                }
                Some('\\') => text.extend(self.escape(here)?),
                Some(c) => text.push(c),
            }
        }
    }

    /// What follows a backslash in a text; nothing for a line that goes on.
    fn escape(&mut self, start: Origin) -> Result<Option<char>> {
        let c = match self.next() {
            Some('b') => '\u{8}',
            Some('t') => '\t',
            Some('n') => '\n',
            Some('v') => '\u{b}',
            Some('f') => '\u{c}',
            Some('r') => '\r',
            Some('x') => self.hex(2).and_then(char::from_u32).ok_or_else(|| self.bad_escape(start))?,
            Some('u') => self.unicode(&start)?,
            Some('0') if !self.peek().is_some_and(|c| c.is_ascii_digit()) => '\0',
            Some('0'..='9') => return Err(self.bad_escape(start)),
            Some('\r') => {
                self.accept('\n');
                return Ok(None);
            }
            Some('\n' | '\u{2028}' | '\u{2029}') => return Ok(None),
            Some(c) => c,
            None => return Err(self.bad_escape(start)),
        };
        Ok(Some(c))
    }

    /// The digits of `\uXXXX`, and its second half where it is the first half of a surrogate pair.
    fn unicode(&mut self, start: &Origin) -> Result<char> {
        let mut code = self.hex(4);
        if let Some(high @ 0xD800..=0xDBFF) = code {
            let low = if self.accept('\\') && self.accept('u') { self.hex(4) } else { None };
            code = low
                .filter(|low| (0xDC00..=0xDFFF).contains(low))
                .map(|low| 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00));
        }
        code.and_then(char::from_u32).ok_or_else(|| self.bad_escape(start.clone()))
    }

    fn hex(&mut self, digits: usize) -> Option<u32> {
        let text = self.rest.get(..digits).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let code = u32::from_str_radix(text, 16).ok();
        self.skip(digits);
        code
    }

    /// Skips white space and comments.
    fn space(&mut self) -> Result<()> {
        while let Some(c) = self.peek() {
            if self.rest.starts_with("//") {
                let end = self.rest.find(['\n', '\r', '\u{2028}', '\u{2029}']).unwrap_or(self.rest.len());
                self.skip(end);
            } else if self.rest.starts_with("/*") {
                match self.rest.get(2..).and_then(|rest| rest.find("*/")) {
                    Some(end) => self.skip(end + 4),
                    None => return Err(self.error("this comment has no end, expected `*/`".into())),
                }
            } else if is_space(c) {
                self.next();
            } else {
                break;
            }
        }
        Ok(())
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Takes a character. A line ends with LF, CR LF or CR.
    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        if c == '\n' || c == '\r' && self.peek() != Some('\n') {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn accept(&mut self, wanted: char) -> bool {
        self.peek() == Some(wanted) && self.next().is_some()
    }

    fn skip(&mut self, bytes: usize) {
        let end = self.rest.len().saturating_sub(bytes);
        while self.rest.len() > end && self.next().is_some() {}
    }

    fn origin(&self) -> Origin {
        Origin { source: self.source.clone(), line: self.line, column: self.column }
    }

    fn error(&self, message: String) -> Error {
        Error { origin: self.origin(), message }
    }

    fn expected(&self, what: &str) -> Error {
        let found =
            self.peek().map_or("the end of the text".into(), |c| super::node::quote(c.encode_utf8(&mut [0; 4])));
        self.error(format!("expected {what}, found {found}"))
    }

    fn bad_escape(&self, start: Origin) -> Error {
        let message = r"this escape means nothing, expected one as \n, \x41 or \u0041".into();
        Error { origin: start, message }
    }
}

/// A JSON5 number, all of `text`. Rust reads decimals as JSON5 does once their shape is known to be right.
fn number(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let size = match digits {
        "Infinity" => f64::INFINITY,
        "NaN" => f64::NAN,
        _ => match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
            Some(hex) if !hex.is_empty() => {
                hex.chars().try_fold(0.0, |sum, c| Some(sum * 16.0 + f64::from(c.to_digit(16)?)))?
            }
            _ if is_decimal(digits) => digits.parse().ok()?,
            _ => return None,
        },
    };
    Some(sign * size)
}

/// Digits, of which a whole part has no leading zero, with a point anywhere and an exponent.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        None => (text, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    let some = !whole.is_empty() || !fraction.is_empty();
    some && !leading_zero && digits(whole) && digits(fraction) && !exponent.is_empty() && digits(exponent)
}

fn is_space(c: char) -> bool {
    matches!(c, '\u{9}'..='\u{d}' | ' ' | '\u{a0}' | '\u{feff}' | '\u{1680}' | '\u{2000}'..='\u{200a}')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

fn is_key_start(c: char) -> bool {
    c.is_alphabetic() || c == '$' || c == '_'
}

/// Letters, digits, combining marks and joiners.
fn is_key_part(c: char) -> bool {
    is_key_start(c)
        || c.is_numeric()
        || matches!(c, '\u{300}'..='\u{36f}' | '\u{200c}' | '\u{200d}' | '\u{203f}' | '\u{2040}')
}

/// Whether `key` can stand without quotes.
pub(super) fn is_plain_key(key: &str) -> bool {
    key.starts_with(is_key_start) && key.chars().all(is_key_part)
}

#[cfg(test)]
mod tests;
