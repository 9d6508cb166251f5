//! Where a redirection leads, and what goes along (RFC 9110 §15.4).

use super::{Error, Scheme, Url};
use crate::http1::{Headers, Method};

/// Fields that another server must not see.
const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Fields that say what the body is; without body they are wrong.
const CONTENT: [&str; 5] =
    ["content-type", "content-encoding", "content-language", "content-location", "content-range"];

/// What to do with a response.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// It is for the caller.
    Done,
    /// Ask there, with the same method and body.
    Same(Url),
    /// Ask there with GET (or HEAD), without body.
    Get(Url),
}

/// Decides on a response of `status` to a request for `url`.
pub(super) fn next(status: u16, location: Option<&str>, method: &Method, url: &Url) -> Result<Next, Error> {
    let keeps_method = match (status, method) {
        (301..=303, Method::Get | Method::Head) => true,
        // Browsers made GET of POST here, and servers count on it; other methods keep their meaning.
        (301 | 302, Method::Post) | (303, _) => false,
        (301 | 302 | 307 | 308, _) => true,
        _ => return Ok(Next::Done),
    };
    let Some(location) = location else { return Ok(Next::Done) };
    let refuse = |reason| Err(Error::Redirect { location: location.into(), reason });
    let Ok(there) = url.join(location) else { return refuse("it is no URL of http or https") };
    if url.scheme() == Scheme::Https && there.scheme() == Scheme::Http {
        return refuse("it leads from https to http, where everybody on the way can read along");
    }
    Ok(if keeps_method { Next::Same(there) } else { Next::Get(there) })
}

/// Takes out of the header what the next server must not get or would misunderstand.
pub(super) fn adapt(headers: &mut Headers, from: &Url, to: &Url, drops_body: bool) {
    if !from.same_origin(to) {
        SECRET.iter().for_each(|name| headers.remove(name));
        headers.remove("host");
    }
    if drops_body {
        CONTENT.iter().for_each(|name| headers.remove(name));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn the_method_follows_the_status() {
        let there = || url("http://a/there");
        for (status, method, expected) in [
            (301, Method::Get, Next::Same(there())),
            (301, Method::Post, Next::Get(there())),
            (302, Method::Post, Next::Get(there())),
            (302, Method::Put, Next::Same(there())),
            (303, Method::Put, Next::Get(there())),
            (303, Method::Head, Next::Same(there())),
            (307, Method::Post, Next::Same(there())),
            (308, Method::Delete, Next::Same(there())),
            (200, Method::Get, Next::Done),
            (300, Method::Get, Next::Done),
            (304, Method::Get, Next::Done),
            (305, Method::Get, Next::Done),
        ] {
            assert_eq!(
                next(status, Some("/there"), &method, &url("http://a/b")).unwrap(),
                expected,
                "{status} {method:?}"
            );
        }
        assert_eq!(next(302, None, &Method::Get, &url("http://a/b")).unwrap(), Next::Done);
    }

    #[test]
    fn nothing_leads_out_of_https_or_http() {
        let from = url("https://a/b");
        for location in ["http://a/b", "ftp://a/b", "javascript:alert(1)", "https://", "/a\r\nb"] {
            let error = next(302, Some(location), &Method::Get, &from).unwrap_err();
            assert!(matches!(error, Error::Redirect { .. }), "{location}");
        }
        assert!(next(302, Some("https://a/b"), &Method::Get, &url("http://a")).is_ok());
    }

    #[test]
    fn secrets_stay_with_their_origin() {
        let headers = || {
            let mut headers = Headers::new();
            for name in ["Authorization", "Cookie", "X-Trace", "Content-Type"] {
                headers.set(name, "x").unwrap();
            }
            headers
        };
        let names = |headers: &Headers| headers.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        let from = url("https://a/b");
        let mut kept = headers();
        adapt(&mut kept, &from, &url("https://a/c"), false);
        assert_eq!(kept, headers());
        for to in ["https://b/", "https://a:444/"] {
            let mut other = headers();
            adapt(&mut other, &from, &url(to), true);
            assert_eq!(names(&other), ["X-Trace"]);
        }
    }
}
