//! `web.redirect`, `web.routes[].redirect` and `web.name`: URLs of which not all need be said.

use std::fmt;

use serde_json::{Value as Json, json};

use super::listen::{is_host, split_port};
use super::node::{Node, Value, quote};
use super::section::{Section, text};
use super::web::Route;
use super::{Scheme, Web};

/// Parts of a URL. What is not said is any where requests are compared with it, and stays as it was where they are sent to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `http` or `https`.
    pub scheme: Option<Scheme>,
    /// As it is written; an IPv6 address in brackets.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The path, from its first slash on.
    pub path: Option<String>,
    /// What follows the `?`.
    pub query: Option<String>,
    /// What follows the `#`: only of a place to go to.
    pub fragment: Option<String>,
}

/// One entry of `web.redirect`. They are looked at before the routes; the first that matches, and leads elsewhere than where
/// the request is already, answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `from`: which requests. Its path is compared as it is decoded, as a whole, or up to a `*` at its end.
    pub from: Place,
    /// `to`: where they are sent. Without a path, path and query stay; with one, the query stays if it has none itself. A `*`
    /// at the end of its path stands for what the one of `from` stood for.
    pub to: Place,
    /// `status`: 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// Routes or redirects that are followed to see whether they come to an end.
const LONGEST_CHAIN: usize = 64;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Some(Scheme::Https) => f.write_str("https://")?,
            Some(_) => f.write_str("http://")?,
            None if self.host.is_some() || self.port.is_some() => f.write_str("//")?,
            None => {}
        }
        f.write_str(self.host.as_deref().unwrap_or_default())?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.path.as_deref().unwrap_or_default())?;
        for (mark, part) in [('?', &self.query), ('#', &self.fragment)] {
            if let Some(part) = part {
                write!(f, "{mark}{part}")?;
            }
        }
        Ok(())
    }
}

impl Place {
    /// Reads `https://`, `https://host:port/path?query`, `//host/path`, `/path?query` and the like.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "{what}, expected a URL or a path as 'https://', 'https://host/path' or '/path', found {}",
                quote(text)
            )
        };
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(Scheme::Http), Some(rest)),
            Some(("https", rest)) => (Some(Scheme::Https), Some(rest)),
            _ => (None, text.strip_prefix("//")),
        };
        let (authority, rest) = match rest {
            Some(rest) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
            None => ("", text),
        };
        let (host, port) = split_port(authority).ok_or_else(|| wrong("has a bad port"))?;
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_good = match address {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.is_empty() || is_host(host),
        };
        if !is_good {
            return Err(wrong("has a bad host"));
        }
        let (rest, fragment) = split(rest, '#');
        let (path, query) = split(rest, '?');
        if !matches!(path.chars().next(), None | Some('/')) || path.starts_with("//") || path.contains('\\') {
            return Err(wrong("has a bad path"));
        }
        if rest.chars().chain(fragment.into_iter().flat_map(str::chars)).any(char::is_control) {
            return Err(wrong("holds a control character"));
        }
        let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Ok(Self {
            scheme,
            host: said(host),
            port,
            path: said(path),
            query: query.map(str::to_owned),
            fragment: fragment.map(str::to_owned),
        })
    }

    /// As [`Place::parse`], for what is sent to clients: percent-encoded, and not nothing.
    fn parse_target(text: &str) -> Result<Self, String> {
        match text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true if text.is_empty() => Err("expected a URL or a path, found nothing".into()),
            true => Self::parse(text),
            false => Err(format!("{} holds a character that must be percent-encoded", quote(text))),
        }
    }

    /// As [`Place::parse`], for what requests are compared with.
    fn parse_source(text: &str) -> Result<Self, String> {
        let place = Self::parse(text)?;
        let holds = |part: &Option<String>, mark| part.as_ref().is_some_and(|part| part.contains(mark));
        match place.fragment.is_some() || holds(&place.path, '%') {
            true => Err(format!("expected a path as it is decoded and without `#`, found {}", quote(text))),
            false => Ok(place),
        }
    }

    /// `web.name`: `host`, `host:port` or these with a scheme.
    fn parse_name(text: &str) -> Result<Self, String> {
        let whole = if text.contains("://") { text.to_owned() } else { format!("//{text}") };
        match Self::parse(&whole) {
            Ok(place) if place.host.is_some() && matches!(place.path.as_deref(), None | Some("/")) => {
                match (place.query, place.fragment) {
                    (None, None) => Ok(Self { path: None, query: None, fragment: None, ..place }),
                    _ => Err(format!("expected a host as 'device.example.com', found {}", quote(text))),
                }
            }
            _ => Err(format!("expected a host as 'device.example.com' or 'device.local:8080', found {}", quote(text))),
        }
    }

    /// `web.routes[].redirect`
    pub(super) fn read_target(s: &Section, key: &str) -> Option<Self> {
        read(s, key, Self::parse_target)
    }

    /// `web.name`
    pub(super) fn read_name(s: &Section) -> Option<Self> {
        read(s, "name", Self::parse_name)
    }

    /// `host` or `host:port`
    pub fn authority(&self) -> String {
        let host = self.host.as_deref().unwrap_or_default();
        self.port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Whether all requests for `place` are meant, as far as it is said.
    fn surely_covers(&self, place: &Place) -> bool {
        fn covers<T: PartialEq>(from: &Option<T>, place: &Option<T>) -> bool {
            from.is_none() || from == place
        }
        let path = match (self.path.as_deref(), place.path.as_deref()) {
            (None, _) => true,
            (Some(from), Some(path)) => match from.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => from == path,
            },
            (Some(_), None) => false,
        };
        path && covers(&self.scheme, &place.scheme)
            && covers(&self.host, &place.host)
            && covers(&self.port, &place.port)
            && covers(&self.query, &place.query)
    }
}

impl Redirect {
    /// `web.redirect`
    pub(super) fn read_all(s: &Section) -> Vec<Self> {
        let show = |one: &Self| json!({"from": one.from.to_string(), "to": one.to.to_string(), "status": one.status});
        let all = s.list("redirect", Vec::new(), show, |node, item| match node.value {
            Value::Object(_) => Ok(Self::read(&item)),
            _ => Err(format!("expected an object as {{from: 'http://', to: 'https://'}}, found {}", node.describe())),
        });
        for (number, one) in all.iter().enumerate() {
            if one.is_endless(&all) {
                s.problem(
                    "redirect",
                    format!("the entry {number} sends requests in a circle, to {}", quote(&one.to.to_string())),
                );
            }
        }
        all
    }

    fn read(s: &Section) -> Self {
        if !s.has("to") {
            s.problem("to", "needs to say where requests are sent, as 'https://' or '/path'");
        }
        Self {
            from: read(s, "from", Place::parse_source).unwrap_or_default(),
            to: read(s, "to", Place::parse_target).unwrap_or_default(),
            status: s.value("status", 301, |status| Json::from(*status), status),
        }
    }

    /// Where a request is after this, as far as it is said.
    fn after(&self, before: &Place) -> Place {
        let (to, stays) = (self.to.clone(), self.to.path.is_none());
        Place {
            scheme: to.scheme.or(before.scheme),
            port: to.port.or(if to.host.is_none() && to.scheme.is_none() { before.port } else { None }),
            host: to.host.or(before.host.clone()),
            path: if stays { before.path.clone() } else { self.path_after(before) },
            query: to.query.or(before.query.clone()),
            fragment: None,
        }
    }

    fn path_after(&self, before: &Place) -> Option<String> {
        let front =
            |path: &'_ Option<String>| path.as_deref().and_then(|path| path.strip_suffix('*')).map(str::to_owned);
        let rest = before.path.as_deref().zip(front(&self.from.path)).and_then(|(path, from)| path.strip_prefix(&from));
        match front(&self.to.path).zip(rest) {
            Some((to, rest)) => Some(to + rest),
            None => self.to.path.clone(),
        }
    }

    /// Whether requests never come to rest, as far as that can be seen: what `from` leaves open is not known.
    fn is_endless(&self, all: &[Self]) -> bool {
        let mut place = self.after(&self.from);
        for _ in 0..LONGEST_CHAIN {
            let ways = all.iter().filter(|one| one.from.surely_covers(&place)).map(|one| one.after(&place));
            let next = ways.into_iter().find(|next| *next != place);
            match next {
                Some(next) => place = next,
                None => return false,
            }
        }
        true
    }
}

/// Notes routes whose redirects lead back to them, as far as that can be seen.
pub(super) fn refuse_circles(s: &Section, web: &Web) {
    let is_here = |to: &Place| match (&to.host, &web.name) {
        (None, _) => to.port.is_none(),
        (Some(host), Some(name)) => name.host.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(host)),
        (Some(_), None) => false,
    };
    let next = |route: &Route| {
        let to = route.redirect.as_ref().filter(|to| is_here(to))?;
        let path = to.path.as_deref().unwrap_or("/");
        web.routes.iter().position(|route| route.covers(path))
    };
    for (number, route) in web.routes.iter().enumerate() {
        let mut at = next(route);
        for _ in 0..LONGEST_CHAIN {
            match at {
                Some(found) if found == number => {
                    s.problem("routes", format!("the redirect of the route {number} leads back to the same route"));
                    break;
                }
                Some(found) => at = web.routes.get(found).and_then(next),
                None => break,
            }
        }
    }
}

fn read(s: &Section, key: &str, parse: fn(&str) -> Result<Place, String>) -> Option<Place> {
    // A host alone is shown as it is written.
    let shown = |place: &Place| match place {
        Place { scheme: None, path: None, query: None, fragment: None, .. } => place.authority(),
        place => place.to_string(),
    };
    let show = |place: &Option<Place>| Json::from(place.as_ref().map(shown).unwrap_or_default());
    s.value(key, None, show, |node| match text(node)? {
        text if text.is_empty() => Ok(None),
        text => parse(&text).map(Some),
    })
}

fn status(node: &Node) -> Result<u16, String> {
    let known = [301, 302, 303, 307, 308];
    let said = match node.value {
        Value::Number(number) => known.into_iter().find(|known| f64::from(*known) == number),
        _ => None,
    };
    said.ok_or_else(|| format!("expected 301, 302, 303, 307 or 308, found {}", node.describe()))
}

fn split(text: &str, mark: char) -> (&str, Option<&str>) {
    match text.split_once(mark) {
        Some((front, back)) => (front, Some(back)),
        None => (text, None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn places_read_and_show_themselves() {
        for text in [
            "https://",
            "http://:8080",
            "https://device.example.com:8443/a/b?c=d#e",
            "//host/x",
            "//:81/x",
            "http://[::1]:80/",
            "/login",
            "/x?",
            "/#/login",
        ] {
            assert_eq!(Place::parse(text).unwrap().to_string(), text);
        }
        for bad in
            ["x", "ftp://h", "http://h:99999/", "http://a b/", "http://u@h/", "https:///\\x", "/a\nb", "http://h//x"]
        {
            Place::parse(bad).unwrap_err();
        }
        for bad in ["", "/ä", "/a b"] {
            Place::parse_target(bad).unwrap_err();
        }
        for (name, port) in [("device.local", None), ("https://h:8443/", Some(8443)), ("h:1", Some(1))] {
            assert_eq!(Place::parse_name(name).unwrap().port, port);
        }
        for bad in ["", "http://", "h/x", "h?x", "a b"] {
            Place::parse_name(bad).unwrap_err();
        }
    }

    #[test]
    fn circles_are_seen_and_ways_that_end_are_not_refused() {
        let endless = |pairs: &[(&str, &str)]| {
            let one = |(from, to): &(&str, &str)| Redirect {
                from: Place::parse_source(from).unwrap(),
                to: Place::parse_target(to).unwrap(),
                status: 301,
            };
            let all: Vec<_> = pairs.iter().map(one).collect();
            all.iter().any(|one| one.is_endless(&all))
        };
        assert!(endless(&[("/a", "/b"), ("/b", "/a")]));
        assert!(endless(&[("/a/*", "/a/b/*")]));
        assert!(endless(&[("http://", "https://"), ("https://", "http://")]));
        assert!(!endless(&[("http://", "https://")]));
        // They lead where the request is then, and end there.
        assert!(!endless(&[("", "/x"), ("/a", "/a?x"), ("/s", "https://"), ("http://", "http://:80")]));
        assert!(!endless(&[("/a", "/b"), ("http://", "https://"), ("/b", "/c")]));
        assert!(!endless(&[("//old/", "//new/"), ("http://", "https://")]));
        assert!(!endless(&[("/a?x=1", "/a?x=2")]));
    }
}
