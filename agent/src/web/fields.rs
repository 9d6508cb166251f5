//! The fields of every response: those of the configuration, and those that tell browsers to be careful.

use super::Error;
use super::head::field;
use crate::config::Web;
use crate::http1::Headers;

/// What browsers are told with `web.protect`. Pages keep their scripts and styles wherever these come from; what they lose is
/// plug-ins, another base address, frames on other sites, and the view of their addresses by other sites.
const CAREFUL: [(&str, &str); 4] = [
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Referrer-Policy", "same-origin"),
    ("Content-Security-Policy", "base-uri 'self'; frame-ancestors 'self'; object-src 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
];
/// Browsers know these over TLS alone, and complain about them otherwise.
const OPENER: (&str, &str) = ("Cross-Origin-Opener-Policy", "same-origin-allow-popups");
/// Half a year. Not for the names below this one: they may be other devices.
const TLS_ALONE: (&str, &str) = ("Strict-Transport-Security", "max-age=15552000");

/// Fields, and how they are sent.
pub(super) struct Fields {
    pub headers: Headers,
    text: Vec<u8>,
}

impl Fields {
    /// The fields of responses over TLS, or over other connections.
    pub fn new(settings: &Web, secure: bool) -> Result<Self, Error> {
        let mut headers = Headers::new();
        let mut set = |name: &str, value: &str| match value {
            "" => {
                headers.remove(name);
                Ok(())
            }
            _ => headers.set(name, value).map_err(|error| Error::Setting(format!("web.headers: '{name}' {error}"))),
        };
        set("X-Content-Type-Options", "nosniff")?;
        if settings.protect {
            CAREFUL.iter().try_for_each(|(name, value)| set(name, value))?;
            if secure {
                set(OPENER.0, OPENER.1)?;
            }
            // Whoever lets pages of other sites read its answers lets them show its pictures.
            if has(settings, "access-control-allow-origin") {
                set("Cross-Origin-Resource-Policy", "")?;
            }
            // Not with a certificate that the device made itself. One that a browser cannot verify either is no danger: it
            // then ignores the field (RFC 6797 §8.1), so the click that lets the certificate pass stays possible.
            if secure && settings.certified {
                set(TLS_ALONE.0, TLS_ALONE.1)?;
            }
        }
        for (name, value) in &settings.headers {
            // Over plain HTTP anybody could have said it (RFC 6797 §7.2).
            if secure || !name.eq_ignore_ascii_case(TLS_ALONE.0) {
                set(name, value)?;
            }
        }
        let mut text = Vec::new();
        headers.iter().for_each(|(name, value)| field(name, value, &mut text));
        Ok(Self { headers, text })
    }

    /// Appends those that `over` does not say.
    pub fn write(&self, over: &Headers, out: &mut Vec<u8>) {
        if over.iter().all(|(name, _)| self.headers.get(name).is_none()) {
            return out.extend_from_slice(&self.text);
        }
        self.headers
            .iter()
            .filter(|(name, _)| over.get(name).is_none())
            .for_each(|(name, value)| field(name, value, out));
    }
}

fn has(settings: &Web, name: &str) -> bool {
    settings.headers.iter().any(|(known, value)| known.eq_ignore_ascii_case(name) && !value.is_empty())
}

/// The methods of `Access-Control-Allow-Methods`; empty: all.
pub(super) fn methods(field: &str) -> Vec<String> {
    let methods: Vec<_> = field.split(',').map(|method| method.trim().to_ascii_uppercase()).collect();
    match methods.iter().any(|method| method == "*") {
        true => Vec::new(),
        false => methods.into_iter().filter(|method| !method.is_empty()).collect(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(settings: &Web, secure: bool) -> Vec<String> {
        Fields::new(settings, secure).unwrap().headers.iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn the_configuration_wins_and_takes_away() {
        let mut settings = Web { protect: false, certified: true, ..Web::default() };
        assert_eq!(names(&settings, true), ["X-Content-Type-Options: nosniff"]);
        settings.protect = true;
        assert_eq!(names(&settings, false).len(), 5);
        assert!(names(&settings, true).iter().any(|field| field == "Strict-Transport-Security: max-age=15552000"));
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        settings.headers = vec![
            set("x-frame-options", "DENY"),
            set("X-Content-Type-Options", ""),
            set("content-security-policy", ""),
            set("strict-transport-security", "max-age=1"),
            set("Access-Control-Allow-Origin", "*"),
        ];
        let plain = names(&settings, false);
        assert_eq!(plain, ["Referrer-Policy: same-origin", "x-frame-options: DENY", "Access-Control-Allow-Origin: *"]);
        assert!(names(&settings, true).contains(&"strict-transport-security: max-age=1".to_owned()));
    }

    #[test]
    fn the_methods_of_the_configuration_are_a_list() {
        assert_eq!(methods("GET, post,,"), ["GET", "POST"]);
        assert!(methods("").is_empty() && methods("GET, *").is_empty());
    }
}
