//! Digest authentication, our side (RFC 7616): the server's question, and the answer that only who knows the password has.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use md5::{Digest, Md5};

use super::{Scheme, Url};
use crate::http1::Headers;
use crate::net::hex;

/// Questions that are remembered, one a server.
const SERVERS: usize = 8;

/// Bytes of a field that is looked at.
const LONGEST: usize = 8 * 1024;

/// Who we are.
pub(super) struct Credentials<'a> {
    pub name: &'a str,
    pub password: &'a str,
}

/// The server's question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    /// The answer holds a number of ours (`qop=auth`); servers of old do not ask for it.
    counted: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Algorithm {
    sha256: bool,
    session: bool,
    /// It was named, and so it is named in the answer.
    named: bool,
}

impl Algorithm {
    fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let (base, session) = lower.strip_suffix("-sess").map_or((lower.as_str(), false), |base| (base, true));
        let sha256 = match base {
            "sha-256" => true,
            "md5" => false,
            _ => return None,
        };
        Some(Self { sha256, session, named: true })
    }

    fn name(self) -> &'static str {
        match (self.sha256, self.session) {
            (true, false) => "SHA-256",
            (true, true) => "SHA-256-sess",
            (false, false) => "MD5",
            (false, true) => "MD5-sess",
        }
    }

    fn hash(self, text: &str) -> String {
        match self.sha256 {
            true => hex::encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref()),
            false => hex::encode(&Md5::digest(text.as_bytes())),
        }
    }
}

impl Challenge {
    fn answer(&self, credentials: &Credentials<'_>, method: &str, uri: &str, count: u32, own: &str) -> String {
        let Self { realm, nonce, algorithm, .. } = self;
        let mut secret = algorithm.hash(&format!("{}:{realm}:{}", credentials.name, credentials.password));
        if algorithm.session {
            secret = algorithm.hash(&format!("{secret}:{nonce}:{own}"));
        }
        let what = algorithm.hash(&format!("{method}:{uri}"));
        let response = match self.counted {
            true => algorithm.hash(&format!("{secret}:{nonce}:{count:08x}:{own}:auth:{what}")),
            false => algorithm.hash(&format!("{secret}:{nonce}:{what}")),
        };
        let mut field = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", response=\"{response}\"",
            quoted(credentials.name),
            quoted(realm),
            quoted(nonce)
        );
        if algorithm.named {
            field.push_str(&format!(", algorithm={}", algorithm.name()));
        }
        if let Some(opaque) = &self.opaque {
            field.push_str(&format!(", opaque=\"{}\"", quoted(opaque)));
        }
        if self.counted {
            field.push_str(&format!(", qop=auth, nc={count:08x}, cnonce=\"{own}\""));
        } else if algorithm.session {
            field.push_str(&format!(", cnonce=\"{own}\""));
        }
        field
    }
}

/// The best question among those of a response that we can answer.
pub(super) fn best(headers: &Headers) -> Option<Challenge> {
    let mut found: Vec<_> = headers.get_all("www-authenticate").flat_map(parse).collect();
    found.sort_by_key(|challenge| challenge.algorithm.sha256);
    found.pop()
}

/// The digest challenges of one field, in which others may stand too (RFC 9110 §11.6.1).
fn parse(field: &str) -> Vec<Challenge> {
    let (mut found, mut current): (Vec<Vec<(String, String)>>, bool) = (Vec::new(), false);
    for item in items(field.get(..LONGEST.min(field.len())).unwrap_or_default()) {
        let mut item = item.trim();
        let (first, rest) = item.split_once([' ', '\t']).unwrap_or((item, ""));
        // A scheme is a word alone, or one before a parameter.
        if !first.is_empty() && !first.contains(['=', '"']) && !rest.trim_start().starts_with('=') {
            current = first.eq_ignore_ascii_case("digest");
            if current {
                found.push(Vec::new());
            }
            item = rest.trim();
        }
        if let (true, Some(challenge), Some((name, value))) = (current, found.last_mut(), item.split_once('=')) {
            challenge.push((name.trim().to_ascii_lowercase(), unquoted(value.trim())));
        }
    }
    found.iter().filter_map(|parameters| read(parameters)).collect()
}

fn read(parameters: &[(String, String)]) -> Option<Challenge> {
    let get = |wanted: &str| parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let algorithm = match get("algorithm") {
        None => Algorithm::default(),
        Some(text) => Algorithm::parse(text)?,
    };
    let counted = match get("qop") {
        None => false,
        Some(list) if list.split(',').any(|qop| qop.trim().eq_ignore_ascii_case("auth")) => true,
        Some(_) => return None,
    };
    let (realm, nonce) = (get("realm")?.to_owned(), get("nonce")?.to_owned());
    Some(Challenge { realm, nonce, opaque: get("opaque").map(str::to_owned), algorithm, counted })
}

/// What stands between the commas that are not in quotes.
fn items(field: &str) -> Vec<&str> {
    let (mut items, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in field.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                items.push(field.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(field.get(start..).unwrap_or_default());
    items
}

fn unquoted(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return text.to_owned() };
    let (mut value, mut escaped) = (String::new(), false);
    for character in inner.chars() {
        match character {
            '\\' if !escaped => escaped = true,
            _ => {
                value.push(character);
                escaped = false;
            }
        }
    }
    value
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The last question of each server, so that the next request brings its answer along.
#[derive(Default)]
pub(super) struct Challenges(Mutex<VecDeque<Kept>>);

struct Kept {
    scheme: Scheme,
    host: String,
    port: u16,
    challenge: Challenge,
    count: u32,
}

impl Kept {
    fn is_of(&self, url: &Url) -> bool {
        self.scheme == url.scheme() && self.host == url.host() && self.port == url.port()
    }
}

impl Challenges {
    /// A server has asked.
    pub fn learn(&self, url: &Url, challenge: Challenge) {
        let mut kept = self.lock();
        kept.retain(|kept| !kept.is_of(url));
        if kept.len() == SERVERS {
            kept.pop_front();
        }
        let (scheme, host, port) = (url.scheme(), url.host().to_owned(), url.port());
        kept.push_back(Kept { scheme, host, port, challenge, count: 0 });
    }

    /// The answer for a request to a server that has asked before.
    pub fn answer(&self, url: &Url, credentials: &Credentials<'_>, method: &str) -> Option<String> {
        let mut kept = self.lock();
        let kept = kept.iter_mut().find(|kept| kept.is_of(url))?;
        kept.count = kept.count.checked_add(1)?;
        let own = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        Some(kept.challenge.answer(credentials, method, url.target(), kept.count, &own))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn challenges(field: &str) -> Vec<Challenge> {
        parse(field)
    }

    #[test]
    fn the_examples_of_the_rfc_are_answered_right() {
        // RFC 7616 §3.9.1.
        let field = |algorithm: &str| {
            format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            )
        };
        let credentials = Credentials { name: "Mufasa", password: "Circle of Life" };
        let own = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        for (algorithm, response) in [
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ] {
            let found = challenges(&field(algorithm));
            let answer = found[0].answer(&credentials, "GET", "/dir/index.html", 1, own);
            assert!(answer.contains(&format!("response=\"{response}\"")), "{answer}");
            assert!(answer.contains("nc=00000001") && answer.contains("opaque=\"FQhe/"), "{answer}");
        }
        // RFC 2617 §3.5 without qop is RFC 2069; its erratum gives this answer.
        let old = "Digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", opaque=\"5ccc\"";
        let credentials = Credentials { name: "Mufasa", password: "CircleOfLife" };
        let answer = challenges(old)[0].answer(&credentials, "GET", "/dir/index.html", 1, own);
        assert!(answer.contains("response=\"1949323746fe6a43ef61f9606e7febea\""), "{answer}");
        assert!(!answer.contains("qop"), "{answer}");
    }

    #[test]
    fn the_best_of_several_questions_is_answered() {
        let mut headers = Headers::new();
        let many = "Basic realm=\"a, Digest x=1\", Digest realm=\"r \\\"1\\\"\", nonce=\"n\", qop=\"auth\", Negotiate, \
                    DIGEST realm=\"s\",nonce=\"m\",qop=auth,algorithm=SHA-256, Digest realm=x, nonce=y, algorithm=SHA-512";
        headers.append("WWW-Authenticate", many).unwrap();
        let found = challenges(many);
        assert_eq!(found.iter().map(|c| c.realm.as_str()).collect::<Vec<_>>(), ["r \"1\"", "s"]);
        assert_eq!(best(&headers).unwrap().realm, "s");
        for bad in
            ["", "Basic", "Digest", "Digest realm=\"a\"", "Digest realm=a, nonce=b, qop=auth-int", "Digest =,\"\\"]
        {
            assert_eq!(challenges(bad), [], "{bad}");
        }
    }

    #[test]
    fn each_answer_has_its_own_number() {
        let (kept, url) = (Challenges::default(), "http://a/x?y".parse().unwrap());
        let me = Credentials { name: "a\"b", password: "c" };
        assert_eq!(kept.answer(&url, &me, "GET"), None);
        kept.learn(&url, challenges("Digest realm=r, nonce=n, qop=auth").remove(0));
        for count in 1..=3 {
            let answer = kept.answer(&url, &me, "GET").unwrap();
            assert!(answer.contains(&format!("nc={count:08x}")) && answer.contains("username=\"a\\\"b\""), "{answer}");
            assert!(answer.contains("uri=\"/x?y\""), "{answer}");
        }
        for port in 1..20 {
            kept.learn(&format!("http://a:{port}/").parse().unwrap(), Challenge::default());
        }
        assert_eq!(kept.lock().len(), SERVERS);
    }
}
