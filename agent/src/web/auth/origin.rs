//! Whether a browser sends a request for a page of this server, or for one of another site.

use crate::http1::Headers;

/// Whether the request may change something with what a browser adds by itself: cookies, and passwords that it keeps.
/// Browsers say where a request comes from (Fetch Metadata, RFC 6454); other clients say nothing and add nothing.
pub fn is_own(headers: &Headers, secure: bool) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    let scheme = if secure { "https" } else { "http" };
    match (headers.get("origin"), headers.get("host")) {
        (None, _) => true,
        (Some(origin), Some(host)) => origin.eq_ignore_ascii_case(&format!("{scheme}://{host}")),
        (Some(_), None) => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_recognised() {
        for (fields, secure, expected) in [
            (&[][..], false, true),
            (&[("Origin", "http://Board")], false, true),
            (&[("Origin", "https://board")], true, true),
            (&[("Origin", "http://board")], true, false),
            (&[("Origin", "http://board:8080")], false, false),
            (&[("Origin", "http://board.evil")], false, false),
            (&[("Origin", "null")], false, false),
            (&[("Sec-Fetch-Site", "same-origin"), ("Origin", "http://behind-a-proxy")], false, true),
            (&[("Sec-Fetch-Site", "none")], false, true),
            (&[("Sec-Fetch-Site", "same-site")], false, false),
            (&[("Sec-Fetch-Site", "cross-site"), ("Origin", "http://board")], false, false),
        ] {
            let mut headers = Headers::new();
            headers.append("Host", "board").unwrap();
            fields.iter().for_each(|(name, value)| headers.append(name, value).unwrap());
            assert_eq!(is_own(&headers, secure), expected, "{fields:?}");
        }
    }
}
