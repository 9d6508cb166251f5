//! Header fields in their order, found by name without regard to case.

use std::fmt;

use super::Error;
use super::method::is_token;

/// Bytes of all names and values together, a bound on what a program may put together; received heads are bounded by
/// [`Limits`](super::Limits) long before.
const MAX_TEXT: usize = 1 << 20;

/// Header fields. Every name is a token and no value holds CR, LF, NUL or another control character except HTAB, so that
/// what is in here can be sent without further checks.
///
/// All text stands in one buffer: a received head costs two allocations, however many fields it has.
#[derive(Clone, Default)]
pub struct Headers {
    text: String,
    fields: Vec<Field>,
}

/// The place of one field in the text: the name, followed by the value.
#[derive(Clone, Copy)]
struct Field {
    start: u32,
    value: u32,
    end: u32,
}

impl Headers {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of a test.
    #[cfg(all(test, feature = "fetch"))]
    pub(crate) fn of(fields: &[(&str, &str)]) -> Self {
        let mut headers = Self::new();
        fields.iter().for_each(|(name, value)| headers.append(name, value).expect("they are good"));
        headers
    }

    /// No fields, with room for `fields` of them and `text` bytes of names and values.
    pub fn with_capacity(fields: usize, text: usize) -> Self {
        Self { text: String::with_capacity(text), fields: Vec::with_capacity(fields) }
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The value of the first field of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.is(name, &self.text)).map(|field| field.value(&self.text))
    }

    /// The values of all fields of that name, in their order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.fields.iter().filter(move |field| field.is(name, &self.text)).map(|field| field.value(&self.text))
    }

    /// Whether a field of that name lists `token` among its comma-separated members, without regard to case
    /// (`Connection`, RFC 9110 §7.6.1).
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.get_all(name).flat_map(|value| value.split(',')).any(|member| member.trim().eq_ignore_ascii_case(token))
    }

    /// Adds a field at the end, also when there is one of that name.
    ///
    /// # Errors
    /// [`Error::Unsendable`] when the name is not a token or the value holds a control character.
    pub fn append(&mut self, name: &str, value: &str) -> Result<(), Error> {
        check_field(name, value)?;
        if self.text.len() + name.len() + value.len() > MAX_TEXT {
            return Err(Error::Unsendable("the header fields are too large"));
        }
        let start = self.text.len() as u32;
        self.text.push_str(name);
        let middle = self.text.len() as u32;
        self.text.push_str(value);
        self.fields.push(Field { start, value: middle, end: self.text.len() as u32 });
        Ok(())
    }

    /// Adds all fields of `others` at the end.
    pub fn extend(&mut self, others: &Headers) {
        self.text.reserve(others.text.len());
        self.fields.reserve(others.fields.len());
        let shift = self.text.len() as u32;
        self.text.push_str(&others.text);
        let moved =
            |field: &Field| Field { start: field.start + shift, value: field.value + shift, end: field.end + shift };
        self.fields.extend(others.fields.iter().map(moved));
    }

    /// Makes this the only field of that name.
    ///
    /// # Errors
    /// As [`Headers::append`]; the fields are unchanged then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        check_field(name, value)?;
        self.remove(name);
        self.append(name, value)
    }

    /// Removes all fields of that name.
    pub fn remove(&mut self, name: &str) {
        let text = &self.text;
        self.fields.retain(|field| !field.is(name, text));
        if self.fields.is_empty() {
            self.text.clear();
        }
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + '_ {
        self.fields.iter().map(|field| (field.name(&self.text), field.value(&self.text)))
    }
}

impl Field {
    /// Most names differ in their length, and that is known without the text.
    fn is(&self, name: &str, text: &str) -> bool {
        (self.value - self.start) as usize == name.len() && self.name(text).eq_ignore_ascii_case(name)
    }

    fn name<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.start as usize..self.value as usize).unwrap_or_default()
    }

    fn value<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.value as usize..self.end as usize).unwrap_or_default()
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl fmt::Debug for Headers {
    /// Credentials are masked: what is printed here may end in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECRET: [&str; 6] =
            ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-amz-security-token", "x-xsrf-token"];
        f.debug_map()
            .entries(self.iter().map(|(name, value)| {
                let secret = SECRET.iter().any(|known| known.eq_ignore_ascii_case(name));
                (name, if secret { "***" } else { value })
            }))
            .finish()
    }
}

/// Refuses what would end a field early, and with it start another one or the body.
pub(super) fn check_field(name: &str, value: &str) -> Result<(), Error> {
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(Error::Unsendable("a header name is not a token"));
    }
    if value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
        return Err(Error::Unsendable("a header value holds a control character"));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sample() -> Headers {
        let mut headers = Headers::new();
        for (name, value) in [("Host", "device"), ("Connection", "Upgrade , close"), ("X-A", "1"), ("x-a", "2")] {
            headers.append(name, value).unwrap();
        }
        headers
    }

    #[test]
    fn names_are_found_without_regard_to_case_and_in_order() {
        let headers = sample();
        assert_eq!(headers.get("HOST"), Some("device"));
        assert_eq!(headers.get_all("x-A").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(headers.get("x"), None);
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn tokens_of_a_list_are_found() {
        let headers = sample();
        assert!(headers.has_token("connection", "close"));
        assert!(headers.has_token("connection", "upgrade"));
        assert!(!headers.has_token("connection", "keep-alive"));
    }

    #[test]
    fn set_replaces_and_remove_removes_all() {
        let mut headers = sample();
        headers.set("X-a", "3").unwrap();
        assert_eq!(headers.get_all("x-a").collect::<Vec<_>>(), ["3"]);
        headers.remove("x-a");
        assert_eq!(headers.get("x-a"), None);
        assert_eq!(headers.get("host"), Some("device"));
    }

    #[test]
    fn what_would_split_a_message_is_refused() {
        let mut headers = sample();
        let before = headers.clone();
        for (name, value) in [
            ("X", "a\r\nB: c"),
            ("X", "a\n"),
            ("X", "a\0"),
            ("X\r\nY", "a"),
            ("X:", "a"),
            ("", "a"),
            ("X ", "a"),
            ("X", "\x7f"),
        ] {
            assert!(headers.append(name, value).is_err(), "{name:?} {value:?}");
            assert!(headers.set(name, value).is_err(), "{name:?} {value:?}");
        }
        assert_eq!(headers, before);
    }

    #[test]
    fn credentials_are_not_printed() {
        let mut headers = sample();
        headers.append("Authorization", "Bearer topsecret").unwrap();
        let printed = format!("{headers:?}");
        assert!(!printed.contains("topsecret") && printed.contains("device"), "{printed}");
    }
}
