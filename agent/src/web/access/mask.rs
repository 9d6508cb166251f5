//! Takes secrets out of request targets and referrers.

use std::borrow::Cow;

use crate::http1::percent_decode;

/// A query variable is secret when its name, in lower case, has one of these in it …
const PARTS: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "token",
    "secret",
    "key",
    "signature",
    "credential",
    "auth",
    "session",
    "cookie",
];
/// … is one of these …
const NAMES: [&str; 9] = ["pass", "pw", "sig", "sid", "pin", "otp", "code", "jwt", "hmac"];
/// … or begins like this: signed URLs.
const PREFIXES: [&str; 2] = ["x-amz-", "x-goog-"];

const HIDDEN: &str = "***";

/// A target or a URL without passwords, and without the values of secret query variables; or without any query.
pub(super) fn mask(target: &str, with_query: bool) -> Cow<'_, str> {
    // What follows a `#` may be a token, and is none of a server's business.
    let target = match without_user(target) {
        Cow::Borrowed(target) => Cow::Borrowed(target.split('#').next().unwrap_or_default()),
        Cow::Owned(target) => Cow::Owned(target.split('#').next().unwrap_or_default().to_owned()),
    };
    let Some((path, query)) = target.split_once('?') else { return target };
    if !with_query {
        return Cow::Owned(path.to_owned());
    }
    // Some read `;` as `&`.
    let is_harmless = |pair: &str| pair.split_once('=').is_none_or(|(name, _)| !is_secret(name));
    if query.split(['&', ';']).all(is_harmless) {
        return target;
    }
    let mut masked = String::with_capacity(target.len());
    masked.push_str(path);
    masked.push('?');
    for piece in query.split_inclusive(['&', ';']) {
        let pair = piece.trim_end_matches(['&', ';']);
        match pair.split_once('=') {
            Some((name, _)) if !is_harmless(pair) => {
                masked.push_str(name);
                masked.push('=');
                masked.push_str(HIDDEN);
            }
            _ => masked.push_str(pair),
        }
        masked.push_str(piece.get(pair.len()..).unwrap_or_default());
    }
    Cow::Owned(masked)
}

/// `http://user:password@host/` without what stands before the `@`.
fn without_user(target: &str) -> Cow<'_, str> {
    let hidden = || {
        let (scheme, rest) = target.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '?']))?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (_, host) = authority.rsplit_once('@')?;
        Some(format!("{scheme}://{HIDDEN}@{host}{path}"))
    };
    hidden().map_or(Cow::Borrowed(target), Cow::Owned)
}

/// Whether the value of a query variable of this name is nobody's business.
fn is_secret(name: &str) -> bool {
    // What cannot be decoded hides something, perhaps from us.
    let Some(name) = percent_decode(name) else { return true };
    let name = name.replace('+', " ").to_ascii_lowercase();
    let name = name.trim();
    PARTS.iter().any(|part| name.contains(part))
        || NAMES.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secrets_are_masked_however_their_names_are_written() {
        for (target, masked) in [
            ("/a", "/a"),
            ("/a?b=c&d", "/a?b=c&d"),
            ("/a?token=x", "/a?token=***"),
            ("/a?b=1&access_token=x=y&c=2", "/a?b=1&access_token=***&c=2"),
            ("/a?PassWord=x;sid=7&", "/a?PassWord=***;sid=***&"),
            ("/a?p%61ssword=x", "/a?p%61ssword=***"),
            ("/a?%zz=x", "/a?%zz=***"),
            ("/a?apiKey=x&X-Amz-Signature=f&X-Amz-Date=d", "/a?apiKey=***&X-Amz-Signature=***&X-Amz-Date=***"),
            ("/a?user[secret]=x", "/a?user[secret]=***"),
            ("/a?+code=x&codec=y", "/a?+code=***&codec=y"),
            ("/a?token", "/a?token"),
            ("/a?token=", "/a?token=***"),
            ("/a??token=x", "/a??token=***"),
            ("http://jo:pw@h/a?b=c#access_token=x", "http://***@h/a?b=c"),
            ("https://h/a#token=x", "https://h/a"),
            ("https://h/a#token=x?b=c", "https://h/a"),
            ("http://a@b@h", "http://***@h"),
            ("/to?u=http://jo:pw@h", "/to?u=http://jo:pw@h"),
        ] {
            assert_eq!(mask(target, true), masked, "{target}");
        }
        assert_eq!(mask("/a?b=c", false), "/a");
        assert_eq!(mask("http://u@h/a?b=c", false), "http://***@h/a");
    }

    #[test]
    fn what_holds_no_secret_is_not_copied() {
        assert!(matches!(mask("/a?b=c&d=e", true), Cow::Borrowed(_)));
    }
}
