//! Bearer tokens for programs (RFC 6750): 256 random bits, kept as their SHA-256 (`web.auth.tokens`), revoked by removing
//! that entry.

use super::compare::random;
use crate::net::hex;

/// Bytes of a token at most.
const LONGEST: usize = 512;

/// A new token; nothing when the system has no random bytes.
pub fn make() -> Option<String> {
    random::<32>().map(|bytes| hex::encode(&bytes))
}

/// The token of an `Authorization` field; nothing when it is of another scheme or malformed (RFC 6750 §2.1).
pub(super) fn token(field: &str) -> Option<&str> {
    let (scheme, token) = field.split_once(' ')?;
    let token = token.trim_matches(' ');
    let is_good = !token.is_empty()
        && token.len() <= LONGEST
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
    (scheme.eq_ignore_ascii_case("bearer") && is_good).then_some(token)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_is_a_token() {
        let made = make().unwrap();
        assert!(made.len() == 64 && make().unwrap() != made);
        assert_eq!(token(&format!("bearer  {made} ")), Some(made.as_str()));
        for field in
            ["", "Bearer", "Bearer ", "Basic abc", "Bearer a b", "Bearer a,b", &format!("Bearer {}", "x".repeat(513))]
        {
            assert_eq!(token(field), None, "{field}");
        }
    }
}
