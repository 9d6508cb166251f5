//! The cookie of a session (RFC 6265).

use crate::config::Sessions;
use crate::http1::Headers;
use crate::web::cookies::cookies;

/// A page of a neighbour may have set more of the same name: so many are tried.
const MOST: usize = 4;

/// The values of the cookies of that name.
pub fn values<'a>(headers: &'a Headers, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
    cookies(headers).filter_map(move |(found, value)| (found == name).then_some(value)).take(MOST)
}

/// The field `Set-Cookie` that gives a session to the client.
pub fn set(settings: &Sessions, id: &str, secure: bool) -> String {
    let mut field = format!("{}={id}; Path=/; SameSite={}", settings.cookie, settings.same_site);
    if settings.http_only {
        field.push_str("; HttpOnly");
    }
    if secure {
        field.push_str("; Secure");
    }
    field
}

/// The field `Set-Cookie` that takes it away.
pub fn clear(settings: &Sessions, secure: bool) -> String {
    format!("{}; Max-Age=0", set(settings, "", secure))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(fields: &[&str], name: &str) -> Vec<String> {
        let mut headers = Headers::new();
        fields.iter().for_each(|field| headers.append("Cookie", field).unwrap());
        values(&headers, name).map(str::to_owned).collect()
    }

    #[test]
    fn cookies_are_found_by_their_name() {
        assert_eq!(read(&["a=1; -web-session-=x=y;b", "-web-session-=z"], "-web-session-"), ["x=y", "z"]);
        assert_eq!(read(&["xa=1;a =2; a=; ;=;a"], "a"), [""]);
        assert_eq!(read(&[&"a=1;".repeat(3000)], "a").len(), 0);
        assert_eq!(read(&[&"a=1;".repeat(100)], "a").len(), MOST);
    }

    #[test]
    fn the_cookie_is_kept_from_scripts_and_other_sites() {
        let settings = Sessions::default();
        assert_eq!(set(&settings, "id", true), "-web-session-=id; Path=/; SameSite=Lax; HttpOnly; Secure");
        assert_eq!(clear(&settings, false), "-web-session-=; Path=/; SameSite=Lax; HttpOnly; Max-Age=0");
    }
}
