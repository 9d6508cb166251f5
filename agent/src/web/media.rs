//! Media types and the parameters of header fields (RFC 9110 §5.6.6, §8.3.1).

use std::borrow::Cow;

use crate::http1::is_token;

/// Parameters of one field that are looked at.
const MAX_PARAMETERS: usize = 16;

/// A value with parameters: `text/plain; charset=utf-8`, `form-data; name="a"`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameterized<'a> {
    /// What stands before the first `;`.
    pub value: &'a str,
    parameters: Vec<(&'a str, Cow<'a, str>)>,
}

impl<'a> Parameterized<'a> {
    /// Takes a field's value apart. `None` when it is malformed, or names a parameter twice: two programs could choose
    /// differently.
    pub fn parse(text: &'a str) -> Option<Self> {
        let end = text.find(';').unwrap_or(text.len());
        let (value, mut rest) = text.split_at(end);
        let value = value.trim_matches(BLANK);
        if value.is_empty() || !value.bytes().all(|byte| is_token(byte) || byte == b'/') {
            return None;
        }
        let mut parameters: Vec<(&str, Cow<str>)> = Vec::new();
        while !rest.is_empty() {
            rest = rest.strip_prefix(';')?.trim_start_matches(BLANK);
            // An empty parameter, as some write it at the end.
            if rest.is_empty() || rest.starts_with(';') {
                continue;
            }
            let (name, after) = rest.split_once('=')?;
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => unquote(quoted)?,
                None => {
                    let end = after.find([';', ' ', '\t']).unwrap_or(after.len());
                    let (value, after) = after.split_at(end);
                    (Cow::Borrowed(value), after)
                }
            };
            let is_known = parameters.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
            if name.is_empty() || !name.bytes().all(is_token) || is_known || parameters.len() == MAX_PARAMETERS {
                return None;
            }
            parameters.push((name, value));
            rest = after.trim_start_matches(BLANK);
        }
        Some(Self { value, parameters })
    }

    /// Whether the value is this one, without regard to case.
    pub fn is(&self, value: &str) -> bool {
        self.value.eq_ignore_ascii_case(value)
    }

    /// The parameter of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_ref())
    }

    /// Whether text of this type is UTF-8: it says so, or nothing, or ASCII.
    pub fn is_utf8(&self) -> bool {
        self.get("charset")
            .is_none_or(|charset| ["utf-8", "utf8", "us-ascii"].iter().any(|known| known.eq_ignore_ascii_case(charset)))
    }
}

const BLANK: [char; 2] = [' ', '\t'];

/// A quoted string after its first quote, and what follows the last one. A backslash escapes only a quote or a backslash:
/// some browsers send paths as `C:\dir\file`.
fn unquote(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut value = String::new();
    let mut from = 0;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                let (front, after) = (text.get(from..at)?, text.get(at + 1..)?);
                return Some(match value.is_empty() {
                    true => (Cow::Borrowed(front), after),
                    false => (Cow::Owned(value + front), after),
                });
            }
            b'\\' if matches!(text.as_bytes().get(at + 1), Some(b'"' | b'\\')) => {
                value.push_str(text.get(from..at)?);
                value.push_str(text.get(at + 1..at + 2)?);
                from = at + 2;
                bytes.next();
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_in_any_case_and_any_spacing() {
        for text in ["text/plain; charset=UTF-8", "text/plain;charset=\"utf-8\"", "TEXT/plain ; a=b ;; CHARSET=utf8;"] {
            let media = Parameterized::parse(text).unwrap();
            assert!(media.is("text/plain") && media.is_utf8(), "{text}");
        }
        assert!(!Parameterized::parse("text/plain; charset=latin1").unwrap().is_utf8());
    }

    #[test]
    fn quoted_strings_are_unquoted() {
        for (text, value) in [
            (r#"form-data; name="a b""#, "a b"),
            (r#"form-data; name="a;b=c""#, "a;b=c"),
            (r#"form-data; name="\"a\"\\""#, r#""a"\"#),
            (r#"form-data; name="C:\dir\file.txt""#, r"C:\dir\file.txt"),
            (r#"form-data; name="""#, ""),
            ("form-data; name=\"\u{e4}\u{20ac}\"", "\u{e4}\u{20ac}"),
        ] {
            assert_eq!(Parameterized::parse(text).unwrap().get("NAME"), Some(value), "{text}");
        }
    }

    #[test]
    fn what_two_programs_could_read_differently_is_refused() {
        for text in [
            "",
            ";",
            "a b; c=d",
            "form-data; name",
            "form-data; =x",
            "form-data; name=\"a",
            "form-data; name=\"a\\\"",
            "form-data; name=\"a\"b",
            "form-data; name=a b",
            "form-data; name=a; Name=b",
            "form-data; na me=a",
            "form-data; name = a",
        ] {
            assert_eq!(Parameterized::parse(text), None, "{text}");
        }
    }
}
