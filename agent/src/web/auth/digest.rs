//! Digest authentication (RFC 7616) with `qop=auth`: what a client sends, what it should have sent, what it is asked.

use super::compare::same;
use super::password::{Hash, LONGEST};

/// Bytes of the whole field.
const LONGEST_FIELD: usize = 4096;

/// The fields of a response (RFC 7616 §3.4).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub username: String,
    pub realm: String,
    pub nonce: String,
    pub uri: String,
    /// Hexadecimal digits.
    pub response: String,
    /// MD5 when the client does not say.
    pub algorithm: String,
    pub cnonce: String,
    pub qop: String,
    /// Eight hexadecimal digits.
    pub nc: String,
}

impl Response {
    /// Reads an `Authorization` field; nothing when it is of another scheme, malformed, too long, or says one thing twice.
    pub fn parse(field: &str) -> Option<Self> {
        let (scheme, mut rest) = field.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("digest") || field.len() > LONGEST_FIELD {
            return None;
        }
        let (mut read, mut seen) = (Self::default(), Vec::new());
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                break;
            }
            let (name, value, after) = parameter(rest)?;
            let name = name.to_ascii_lowercase();
            let place = match name.as_str() {
                "username" => Some((&mut read.username, LONGEST)),
                "realm" => Some((&mut read.realm, LONGEST)),
                "nonce" => Some((&mut read.nonce, 256)),
                "uri" => Some((&mut read.uri, 2048)),
                "response" => Some((&mut read.response, 64)),
                "algorithm" => Some((&mut read.algorithm, 16)),
                "cnonce" => Some((&mut read.cnonce, 256)),
                "qop" => Some((&mut read.qop, 16)),
                "nc" => Some((&mut read.nc, 8)),
                _ => None,
            };
            if seen.contains(&name) || place.as_ref().is_some_and(|(_, longest)| value.len() > *longest) {
                return None;
            }
            if let Some((place, _)) = place {
                *place = value;
            }
            seen.push(name);
            rest = after;
        }
        Some(read)
    }

    /// Whether all that does not depend on the password is what this server asked for, for this request.
    pub fn fits(&self, hash: Hash, realm: &str, uri: &str) -> bool {
        let algorithm = if self.algorithm.is_empty() { "MD5" } else { &self.algorithm };
        algorithm.eq_ignore_ascii_case(hash.name())
            && self.realm == realm
            && self.uri == uri
            && self.qop.eq_ignore_ascii_case("auth")
            && !self.cnonce.is_empty()
            && self.count().is_some()
    }

    /// The nonce count; nothing when it is malformed or zero.
    pub fn count(&self) -> Option<u32> {
        let is_hex = self.nc.len() == 8 && self.nc.bytes().all(|byte| byte.is_ascii_hexdigit());
        u32::from_str_radix(&self.nc, 16).ok().filter(|count| is_hex && *count > 0)
    }

    /// Whether the client knew the password behind `ha1` (RFC 7616 §3.4.1).
    pub fn is_right(&self, hash: Hash, ha1: &str, method: &str) -> bool {
        let ha2 = hash.of(&format!("{method}:{}", self.uri));
        let Self { nonce, nc, cnonce, .. } = self;
        let expected = hash.of(&format!("{ha1}:{nonce}:{nc}:{cnonce}:{}:{ha2}", self.qop));
        same(self.response.to_ascii_lowercase().as_bytes(), expected.as_bytes())
    }
}

/// The field `WWW-Authenticate`. `stale`: the password was right, and the nonce is too old or was used before.
pub fn challenge(hash: Hash, realm: &str, nonce: &str, stale: bool) -> String {
    let stale = if stale { ", stale=true" } else { "" };
    let algorithm = hash.name();
    format!("Digest realm=\"{realm}\", qop=\"auth\", algorithm={algorithm}, nonce=\"{nonce}\", charset=UTF-8{stale}")
}

/// One `name=value` or `name="value"`, and what follows it.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    let name = name.trim_matches([' ', '\t']);
    let rest = rest.trim_start_matches([' ', '\t']);
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_*".contains(&byte)) {
        return None;
    }
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => unquote(quoted)?,
        None => {
            let end = rest.find([',', ' ', '\t']).unwrap_or(rest.len());
            let (value, rest) = rest.split_at_checked(end)?;
            let is_token = !value.is_empty() && !value.contains(['"', '=']);
            (is_token.then(|| value.to_owned())?, rest)
        }
    };
    let rest = rest.trim_start_matches([' ', '\t']);
    (rest.is_empty() || rest.starts_with(',')).then_some((name, value, rest))
}

/// The text up to the closing quote, without backslashes, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let (mut value, mut characters) = (String::new(), text.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// RFC 7616 §3.9.1.
    fn example(hash: Hash, response: &str) -> String {
        format!(
            "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", algorithm={}, \
             nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
             cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, response=\"{response}\", \
             opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"",
            hash.name()
        )
    }

    const SHA256: &str = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
    const MD5: &str = "8ca523f5e9506fed4657c9700eebdbec";
    const REALM: &str = "http-auth@example.org";

    #[test]
    fn the_examples_of_the_rfc_are_right() {
        for (hash, response) in [(Hash::Sha256, SHA256), (Hash::Md5, MD5)] {
            let read = Response::parse(&example(hash, response)).unwrap();
            let ha1 = hash.ha1("Mufasa", REALM, "Circle of Life");
            assert!(read.fits(hash, REALM, "/dir/index.html") && read.is_right(hash, &ha1, "GET"));
            assert!(!read.is_right(hash, &ha1, "PUT"));
            assert!(!read.is_right(hash, &hash.ha1("Mufasa", REALM, "circle of life"), "GET"));
            assert!(!read.fits(hash, REALM, "/dir/other.html") && !read.fits(hash, "web", "/dir/index.html"));
        }
        let read = Response::parse(&example(Hash::Md5, MD5)).unwrap();
        assert!(!read.fits(Hash::Sha256, REALM, "/dir/index.html"));
    }

    #[test]
    fn quotes_spaces_and_commas_are_read_as_the_rfc_says() {
        let read =
            Response::parse("digest , username = \"a \\\"b\\\\, c\" ,,nc=0000000A\t,qop=\"auth\",x=\"y\"").unwrap();
        assert_eq!((read.username.as_str(), read.count(), read.qop.as_str()), ("a \"b\\, c", Some(10), "auth"));
    }

    #[test]
    fn what_is_malformed_is_no_response() {
        let long = format!("Digest username=\"{}\"", "x".repeat(257));
        let huge = format!("Digest {}", "x=y,".repeat(2000));
        for field in [
            "Digest",
            "Basic x=y",
            "Digest x",
            "Digest =x",
            "Digest nc=1, NC=2",
            "Digest username=\"open",
            "Digest username=\"open\\",
            "Digest username=\"a\" realm=\"b\"",
            "Digest username=\"a\"b",
            "Digest nc=",
            "Digest n c=1",
            &long,
            &huge,
        ] {
            assert_eq!(Response::parse(field), None, "{field}");
        }
        for nc in ["", "0", "00000000", "+0000001", "0000000g"] {
            assert_eq!(Response { nc: nc.into(), ..Response::default() }.count(), None, "{nc}");
        }
    }

    #[test]
    fn no_change_of_a_response_is_right_and_none_makes_the_reader_panic() {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (good, ha1) = (example(Hash::Sha256, SHA256), Hash::Sha256.ha1("Mufasa", REALM, "Circle of Life"));
        let original = Response::parse(&good).unwrap();
        let signs: Vec<char> = "\"\\,= \t\u{e9}aA0*\0".chars().collect();
        let mut read = 0;
        for _ in 0..20_000 {
            let mut text: Vec<char> = good.chars().collect();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..text.len());
                match random.u8(..3) {
                    0 => drop(text.remove(at)),
                    1 => text.insert(at, signs[random.usize(..signs.len())]),
                    _ => text[at] = signs[random.usize(..signs.len())],
                }
            }
            let text: String = text.into_iter().collect();
            let Some(changed) = Response::parse(&text) else { continue };
            read += 1;
            let is_accepted = changed.fits(Hash::Sha256, REALM, "/dir/index.html")
                && changed.username == "Mufasa"
                && changed.is_right(Hash::Sha256, &ha1, "GET");
            // Letters of the digest and the algorithm may change their case.
            let same =
                changed.nonce == original.nonce && changed.nc == original.nc && changed.cnonce == original.cnonce;
            assert!(!is_accepted || same, "{text}");
        }
        assert!(read > 1000, "{read} of 20000 could be read: that proves little");
    }
}
