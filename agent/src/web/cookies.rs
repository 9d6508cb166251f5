//! Cookies (RFC 6265).

use std::time::Duration;

use super::{Error, Exchange};
use crate::http1::{Headers, is_token};

/// Bytes of one `Cookie` field; a longer one is not read.
pub(super) const LONGEST_FIELD: usize = 8192;
/// Bytes of a name and of a value.
const LONGEST: usize = 4096;

/// Which requests from pages of other sites bring a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// None of them.
    Strict,
    /// Only when the user follows a link.
    #[default]
    Lax,
    /// All. Browsers take it over TLS only.
    None,
}

/// A cookie for a client: of this server, kept from scripts and from other sites, over TLS only where it is set over TLS, until
/// the browser ends.
#[derive(Clone, Debug)]
pub struct Cookie {
    name: String,
    value: String,
    path: String,
    max_age: Option<Duration>,
    http_only: bool,
    same_site: SameSite,
}

impl Cookie {
    /// A cookie for the path `/`.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            path: "/".into(),
            max_age: None,
            http_only: true,
            same_site: SameSite::Lax,
        }
    }

    /// For this path and those below it.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// How long it lives; zero takes it away.
    pub fn max_age(mut self, time: Duration) -> Self {
        self.max_age = Some(time);
        self
    }

    /// Whether it is kept from scripts.
    pub fn http_only(mut self, http_only: bool) -> Self {
        self.http_only = http_only;
        self
    }

    /// Which requests from other sites bring it.
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// The value of the field `Set-Cookie`, if all of it can be sent and understood.
    fn field(&self, secure: bool) -> Result<String, Error> {
        let bad = |what: &str| Err(Error::status(400, format!("the cookie's {what}")));
        if self.name.len() > LONGEST || !is_name(&self.name) {
            return bad("name has other characters than those of RFC 6265, or more than 4096");
        }
        if self.value.len() > LONGEST || !is_value(&self.value) {
            return bad("value has other characters than those of RFC 6265, or more than 4096");
        }
        let is_path = self.path.starts_with('/') && self.path.len() <= LONGEST;
        if !is_path || !self.path.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b';') {
            return bad("path does not begin with a slash, or has characters that cannot be sent");
        }
        let same_site = match self.same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        };
        let mut field = format!("{}={}; Path={}; SameSite={same_site}", self.name, self.value, self.path);
        if let Some(time) = self.max_age {
            field.push_str(&format!("; Max-Age={}", time.as_secs()));
        }
        if self.http_only {
            field.push_str("; HttpOnly");
        }
        if secure {
            field.push_str("; Secure");
        }
        Ok(field)
    }
}

impl Exchange {
    /// The value of the first cookie of that name that the client sent.
    pub fn cookie<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        cookies(self.headers()).find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Sets a cookie.
    ///
    /// # Errors
    /// 400: its name, value or path has characters that it cannot have; the text says which. It often comes from the client.
    pub fn set_cookie(&mut self, cookie: &Cookie) -> Result<(), Error> {
        let field = cookie.field(self.secure())?;
        self.add_header("Set-Cookie", &field)
    }
}

/// All cookies of a request; what is malformed or too long is left out.
pub(super) fn cookies(headers: &Headers) -> impl Iterator<Item = (&str, &str)> {
    let fields = headers.get_all("cookie").filter(|field| field.len() <= LONGEST_FIELD);
    fields.flat_map(|field| field.split(';')).filter_map(|pair| {
        let (name, value) = pair.trim_matches([' ', '\t']).split_once('=')?;
        let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        let is_good = name.len() <= LONGEST && value.len() <= LONGEST && is_name(name) && is_value(inner);
        is_good.then_some((name, inner))
    })
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_token)
}

/// RFC 6265 §4.1.1
fn is_value(value: &str) -> bool {
    value.bytes().all(|byte| matches!(byte, b'!' | b'#'..=b'+' | b'-'..=b':' | b'<'..=b'[' | b']'..=b'~'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_in_a_cookie_is_not_sent() {
        let good = Cookie::new("a", "b=c").path("/x y").max_age(Duration::from_secs(60));
        assert_eq!(good.field(true).unwrap(), "a=b=c; Path=/x y; SameSite=Lax; Max-Age=60; HttpOnly; Secure");
        let open = Cookie::new("a", "").http_only(false).same_site(SameSite::Strict);
        assert_eq!(open.field(false).unwrap(), "a=; Path=/; SameSite=Strict");
        for bad in [
            Cookie::new("", "x"),
            Cookie::new("a b", "x"),
            Cookie::new("a=", "x"),
            Cookie::new("a", "x; Domain=evil"),
            Cookie::new("a", "x\r\ny"),
            Cookie::new("a", "\u{e4}"),
            Cookie::new("a", "x".repeat(4097)),
            Cookie::new("a".repeat(4097), "x"),
            Cookie::new("a", "x").path("x"),
            Cookie::new("a", "x").path(""),
            Cookie::new("a", "x").path("/; Domain=evil"),
            Cookie::new("a", "x").path("/\n"),
        ] {
            bad.field(false).unwrap_err();
        }
    }

    #[test]
    fn malformed_cookies_are_left_out() {
        let mut headers = Headers::new();
        headers.append("Cookie", "a=1; b = 2;c=\"3\";d;=e; f=\u{e4}; g=x\"y; a=2;h=").unwrap();
        headers.append("Cookie", &format!("long={}", "x".repeat(4097))).unwrap();
        headers.append("Cookie", &"z=1;".repeat(3000)).unwrap();
        let found: Vec<_> = cookies(&headers).collect();
        assert_eq!(found, [("a", "1"), ("c", "3"), ("a", "2"), ("h", "")]);
    }
}
