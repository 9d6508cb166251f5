//! Basic authentication (RFC 7617).

use super::password::LONGEST;
use crate::net::base64;

/// The base64 of the longest name, the colon and the longest password.
const LONGEST_TOKEN: usize = (2 * LONGEST + 1).div_ceil(3) * 4;

/// User and password of an `Authorization` field; nothing when it is of another scheme, malformed or too long.
pub fn credentials(field: &str) -> Option<(String, String)> {
    let (scheme, token) = field.split_once(' ')?;
    let token = token.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("basic") || token.len() > LONGEST_TOKEN {
        return None;
    }
    let text = String::from_utf8(base64::decode(token)?).ok()?;
    let (user, password) = text.split_once(':')?;
    let is_good = user.len() <= LONGEST && password.len() <= LONGEST && !text.chars().any(char::is_control);
    is_good.then(|| (user.to_owned(), password.to_owned()))
}

/// The field `WWW-Authenticate` that asks for it.
pub fn challenge(realm: &str) -> String {
    format!("Basic realm=\"{realm}\", charset=\"UTF-8\"")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let read = |field: &str| credentials(field).unwrap();
        assert_eq!(read("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), ("Aladdin".into(), "open sesame".into()));
        assert_eq!(read("basic  dGVzdDoxMjPCow=="), ("test".into(), "123\u{a3}".into()));
        assert_eq!(read("Basic YTpiOmM="), ("a".into(), "b:c".into()));
    }

    #[test]
    fn what_is_malformed_is_no_credential() {
        let long = |user: usize, password: usize| {
            format!("Basic {}", base64::encode(format!("{}:{}", "u".repeat(user), "p".repeat(password)).as_bytes()))
        };
        assert!(credentials(&long(256, 256)).is_some());
        for field in [
            "",
            "Basic",
            "Basic ",
            "Basic !",
            "Basic YWJj",
            "Digest QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "BasicQWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ== x",
            "Basic /zph",
            "Basic YQA6Yg==",
            &long(257, 1),
            &long(1, 257),
            &long(5000, 1),
        ] {
            assert_eq!(credentials(field), None, "{field}");
        }
    }

    #[test]
    fn no_change_of_a_field_is_the_same_credential() {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let signs: Vec<char> = "=+/ :aZ\u{e9}\0".chars().collect();
        let (mut read, good) = (0, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        for _ in 0..10_000 {
            let mut text: Vec<char> = good.chars().collect();
            let at = random.usize(6..text.len());
            match random.u8(..3) {
                0 => drop(text.remove(at)),
                1 => text.insert(at, signs[random.usize(..signs.len())]),
                _ => text[at] = signs[random.usize(..signs.len())],
            }
            let text: String = text.into_iter().collect();
            if let Some(found) = credentials(&text) {
                read += 1;
                let is_same = text.replace(' ', "") == good.replace(' ', "");
                assert_eq!(found == ("Aladdin".into(), "open sesame".into()), is_same, "{text}");
            }
        }
        assert!(read > 100, "{read} of 10000 could be read: that proves little");
    }
}
