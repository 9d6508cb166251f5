//! Cookies that servers set, given back to them (RFC 6265).

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::{Scheme, Url};
use crate::http1::Headers;
use crate::net::parse_http_date;

/// Cookies in all, and of one host; the oldest make room.
const MOST: usize = 200;
const MOST_OF_HOST: usize = 50;

/// Bytes of name and value together (RFC 6265 §6.1).
const LONGEST: usize = 4096;

/// A jar for cookies, in memory. Clones are the same jar.
///
/// A cookie goes to the host that set it, and with `Domain` to the hosts below that one: only a domain with a dot in it that
/// the setting host belongs to is taken. There is no list of public suffixes in here: a server of `a.co.uk` could set a cookie
/// for all of `co.uk`, so give one jar to servers that trust each other.
///
/// ```
/// use ioto::fetch::{Client, CookieJar, Options};
///
/// let jar = CookieJar::new();
/// let client = Client::new(Options { cookies: Some(jar.clone()), ..Options::default() });
/// assert_eq!(jar.len(), 0);
/// # drop(client);
/// ```
#[derive(Clone, Default)]
pub struct CookieJar(Arc<Mutex<Vec<Cookie>>>);

struct Cookie {
    name: String,
    value: String,
    host: String,
    /// It goes to hosts below too.
    below: bool,
    path: String,
    secure: bool,
    /// Never: as long as the jar is there.
    expires: Option<SystemTime>,
}

impl CookieJar {
    /// An empty jar.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cookies in it.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes out all.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// The field `Cookie` of a request for this URL.
    pub fn field(&self, url: &Url) -> Option<String> {
        let now = SystemTime::now();
        let mut jar = self.lock();
        jar.retain(|cookie| cookie.expires.is_none_or(|expires| expires > now));
        let mut fitting: Vec<_> = jar.iter().filter(|cookie| cookie.is_for(url)).collect();
        // The longer path first, then the older one (§5.4).
        fitting.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let text: Vec<_> = fitting.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        (!text.is_empty()).then(|| text.join("; "))
    }

    /// Takes what a server has set in its response for this URL.
    pub fn store(&self, url: &Url, headers: &Headers) {
        let now = SystemTime::now();
        for field in headers.get_all("set-cookie") {
            let Some(mut cookie) = parse(field, url, now) else { continue };
            let mut jar = self.lock();
            let same =
                |other: &Cookie| (&other.name, &other.host, &other.path) == (&cookie.name, &cookie.host, &cookie.path);
            let place = jar.iter().position(same);
            if cookie.expires.is_some_and(|expires| expires <= now) {
                if let Some(place) = place {
                    jar.remove(place);
                }
                continue;
            }
            if let Some(place) = place.and_then(|place| jar.get_mut(place)) {
                std::mem::swap(place, &mut cookie);
                continue;
            }
            let of_host = jar.iter().filter(|other| other.host == cookie.host).count();
            if of_host >= MOST_OF_HOST {
                let oldest = jar.iter().position(|other| other.host == cookie.host);
                oldest.map(|oldest| jar.remove(oldest));
            } else if jar.len() >= MOST {
                jar.remove(0);
            }
            jar.push(cookie);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Cookie>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl std::fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CookieJar({})", self.len())
    }
}

impl Cookie {
    fn is_for(&self, url: &Url) -> bool {
        let host = url.host() == self.host || self.below && is_below(url.host(), &self.host);
        let path = path_of(url);
        let rest = path.strip_prefix(self.path.as_str());
        let path = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/'));
        host && path && (!self.secure || url.scheme() == Scheme::Https)
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    !is_address && host.strip_suffix(domain).is_some_and(|before| before.ends_with('.'))
}

fn path_of(url: &Url) -> &str {
    url.target().split('?').next().unwrap_or("/")
}

/// The directory of the URL, for a cookie without `Path` (§5.1.4).
fn default_path(url: &Url) -> String {
    let path = path_of(url);
    match path.rfind('/') {
        None | Some(0) => "/".into(),
        Some(slash) => path[..slash].into(),
    }
}

fn parse(field: &str, url: &Url, now: SystemTime) -> Option<Cookie> {
    let mut parts = field.split(';');
    let (name, value) = parts.next()?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let clean = |text: &str| !text.chars().any(char::is_control);
    if name.is_empty() || name.len() + value.len() > LONGEST || !clean(name) || !clean(value) {
        return None;
    }
    let mut cookie = Cookie {
        name: name.into(),
        value: value.into(),
        host: url.host().into(),
        below: false,
        path: default_path(url),
        secure: false,
        expires: None,
    };
    let mut age = None;
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "domain" if !value.is_empty() => {
                let domain = value.trim_start_matches('.').to_ascii_lowercase();
                let own = domain == url.host();
                let above = domain.contains('.') && is_below(url.host(), &domain);
                if !own && !above {
                    return None;
                }
                cookie.below = url.host().parse::<std::net::IpAddr>().is_err();
                cookie.host = domain;
            }
            "path" if value.starts_with('/') => cookie.path = value.into(),
            "secure" => cookie.secure = true,
            "max-age" => age = value.parse::<i64>().ok().or(age),
            // A date that we cannot read: as long as the jar is there, as browsers do.
            "expires" => cookie.expires = parse_date(value).or(cookie.expires),
            _ => {}
        }
    }
    if let Some(age) = age {
        let age = Duration::from_secs(u64::try_from(age).unwrap_or(0));
        cookie.expires = now.checked_add(age);
    }
    // Only over TLS can a cookie be made that goes over TLS alone.
    (!cookie.secure || url.scheme() == Scheme::Https).then_some(cookie)
}

/// As in HTTP, or with hyphens as Netscape wrote it: `Wdy, DD-Mon-YYYY HH:MM:SS GMT`.
fn parse_date(text: &str) -> Option<SystemTime> {
    parse_http_date(text).or_else(|| parse_http_date(&text.replace('-', " ")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn jar(from: &str, fields: &[&str]) -> CookieJar {
        let jar = CookieJar::new();
        set(&jar, from, fields);
        jar
    }

    fn set(jar: &CookieJar, from: &str, fields: &[&str]) {
        let mut headers = Headers::new();
        fields.iter().for_each(|field| headers.append("Set-Cookie", field).unwrap());
        jar.store(&url(from), &headers);
    }

    fn field(jar: &CookieJar, to: &str) -> String {
        jar.field(&url(to)).unwrap_or_default()
    }

    #[test]
    fn a_cookie_goes_where_it_belongs() {
        let jar = jar(
            "https://a.example.com/dir/page?x=/y",
            &["host=1", "all=2; Domain=.example.com; Path=/", "safe=3; Secure; Path=/", "deep=4; Path=/dir/deep"],
        );
        assert_eq!(field(&jar, "https://a.example.com/dir/other"), "host=1; all=2; safe=3");
        assert_eq!(field(&jar, "https://a.example.com/dir/deep/x"), "deep=4; host=1; all=2; safe=3");
        assert_eq!(field(&jar, "https://a.example.com/direct"), "all=2; safe=3");
        assert_eq!(field(&jar, "http://b.example.com/"), "all=2");
        assert_eq!(field(&jar, "https://badexample.com/"), "");
    }

    #[test]
    fn cookies_for_others_are_not_taken() {
        for (from, bad) in [
            ("http://a.com/", "x=1; Domain=b.com"),
            ("http://a.com/", "x=1; Domain=com"),
            ("http://a.com/", "x=1; Domain=b.a.com"),
            ("http://a.com/", "x=1; Secure"),
            ("http://a.com/", "novalue"),
            ("http://a.com/", "=x"),
            ("http://10.0.0.1/", "x=1; Domain=0.0.1"),
        ] {
            assert!(jar(from, &[bad]).is_empty(), "{bad}");
        }
        assert!(jar("http://a.com/", &[&format!("x={}", "y".repeat(LONGEST))]).is_empty());
    }

    #[test]
    fn cookies_are_replaced_and_end() {
        let jar = jar("http://a.com/", &["x=1", "y=2; Max-Age=100", "z=3; Expires=Fri, 01-Jan-2100 00:00:00 GMT"]);
        set(&jar, "http://a.com/", &["x=4", "y=; Max-Age=0"]);
        assert_eq!(field(&jar, "http://a.com/"), "x=4; z=3");
        set(&jar, "http://a.com/", &["z=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"]);
        assert_eq!(field(&jar, "http://a.com/"), "x=4");
    }

    #[test]
    fn the_jar_is_bounded() {
        let jar = CookieJar::new();
        for host in 0..10 {
            let fields: Vec<_> = (0..60).map(|n| format!("c{n}=1")).collect();
            let fields: Vec<_> = fields.iter().map(String::as_str).collect();
            set(&jar, &format!("http://h{host}.com/"), &fields);
        }
        assert_eq!(jar.len(), MOST);
    }
}
