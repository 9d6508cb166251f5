//! The body of a request as a form.

use super::exchange::form_decode;
use super::media::Parameterized;
use super::{Error, Exchange};

/// Fields of one form.
pub(super) const MAX_FIELDS: usize = 1000;

/// The fields of a form in their order; a name may stand there more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    fields: Vec<(String, String)>,
}

impl Form {
    /// The value of the first field of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The values of all fields of that name.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.iter().filter(move |(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + '_ {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(super) fn push(&mut self, name: String, value: String) -> Result<(), Error> {
        if self.fields.len() == MAX_FIELDS {
            return Err(Error::status(413, "the form has too many fields"));
        }
        self.fields.push((name, value));
        Ok(())
    }

    /// Decodes `application/x-www-form-urlencoded` (WHATWG URL §5.1, but what is broken is refused).
    pub(super) fn decode(text: &[u8]) -> Result<Self, Error> {
        let broken = || Error::status(400, "the form is not encoded as it says");
        let text = std::str::from_utf8(text).map_err(|_| broken())?;
        let mut form = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            form.push(form_decode(name).ok_or_else(broken)?, form_decode(value).ok_or_else(broken)?)?;
        }
        Ok(form)
    }
}

impl Exchange {
    /// The whole body as a form, `application/x-www-form-urlencoded` in UTF-8, with or without parameters. Forms with files
    /// are [`Exchange::uploads`].
    ///
    /// # Errors
    /// 415 when it is something else, 400 when it is broken, 413 for more than 1000 fields; and those of [`Exchange::bytes`].
    pub async fn form(&self) -> Result<Form, Error> {
        let media = self.media_type()?;
        if !media.is("application/x-www-form-urlencoded") || !media.is_utf8() {
            return Err(Error::status(415, "expected application/x-www-form-urlencoded in UTF-8"));
        }
        Form::decode(&self.bytes().await?)
    }

    /// The type of the request's body.
    pub(super) fn media_type(&self) -> Result<Parameterized<'_>, Error> {
        let mut types = self.headers().get_all("content-type");
        match (types.next(), types.next()) {
            (Some(text), None) => {
                Parameterized::parse(text).ok_or_else(|| Error::status(400, "the Content-Type is malformed"))
            }
            (Some(_), Some(_)) => Err(Error::status(400, "there is more than one Content-Type")),
            (None, _) => Err(Error::status(415, "the body has no Content-Type")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded() {
        let form = Form::decode("a=1&b=x+y%2B%26&&%C3%A4=%e2%82%ac&a=2&empty=&alone&c=d=e".as_bytes()).unwrap();
        assert_eq!((form.len(), form.get("b"), form.get("\u{e4}")), (7, Some("x y+&"), Some("\u{20ac}")));
        assert_eq!(form.get_all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((form.get("empty"), form.get("alone"), form.get("none")), (Some(""), Some(""), None));
        assert_eq!(form.get("c"), Some("d=e"));
        assert!(Form::decode(b"").unwrap().is_empty());
    }

    #[test]
    fn broken_forms_are_refused() {
        for bad in [&b"a=%"[..], b"a=%2", b"a=%zz", b"%ff=a", b"a=\xff"] {
            assert!(Form::decode(bad).is_err(), "{bad:?}");
        }
        assert!(Form::decode("a=b&".repeat(1000).as_bytes()).is_ok());
        assert!(Form::decode("a=b&".repeat(1001).as_bytes()).is_err());
    }
}
