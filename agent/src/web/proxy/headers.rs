//! Which header fields pass, which are ours, and what is told about the client.

use std::borrow::Cow;
use std::fmt::Write;

use super::Way;
use super::fault::Failure;
use crate::http1::{Framing, Headers, Method, RequestHead, ResponseHead, Version, percent_decode};
use crate::web::router::{clean_path, find_route, without_empty};
use crate::web::{Error, Exchange, Peer};

/// Fields of one connection, not of what goes over it (RFC 9110 §7.6.1), and those that frame a message.
const HOP: [&str; 12] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "http2-settings",
];
/// Fields of a request that the server answers for, and those that some programs take for their target or their settings,
/// behind the back of the routes.
const REQUEST: [&str; 8] =
    ["host", "expect", "forwarded", "x-real-ip", "via", "proxy", "x-original-url", "x-rewrite-url"];
/// Fields that name another method than the request has.
const METHOD: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
/// Fields of a response that the server says itself, or that are none of a stranger's business.
const RESPONSE: [&str; 3] = ["date", "server", "content-type"];

/// The head of the request to the program, put together anew: only what was understood goes on. `valid` is the body that goes
/// in place of the client's, after a signature was held against it.
///
/// # Errors
/// The request cannot be passed on.
pub(super) fn request(
    exchange: &Exchange,
    way: &Way<'_>,
    upgrade: bool,
    valid: Option<&[u8]>,
) -> Result<RequestHead, Failure> {
    let client = &exchange.head;
    let raw = without_empty(client.path());
    let (front, path) = split_path(&raw, &exchange.path);
    let mut target = format!("{}{path}", way.base);
    let valid_query = exchange.validation.as_ref().and_then(|validation| validation.query());
    if let Some(query) = valid_query.as_deref().or(client.query()).filter(|query| !query.is_empty()) {
        target.push('?');
        target.push_str(query);
    }
    let mut head = RequestHead::new(client.method.clone(), target);
    let host = match client.authority() {
        Some(host) => host.to_owned(),
        None => "localhost".to_owned(),
    };
    head.headers.append("Host", &host)?;
    let auth = &exchange.shared.settings.auth;
    let has_sessions = !auth.login.is_empty();
    for (name, value) in client.headers.iter() {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        // Programs that take fields from variables cannot tell `X_Forwarded_User` or `X.Forwarded.User` from
        // `X-Forwarded-User`.
        let is_odd = !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let is_ours = REQUEST.iter().any(|known| is(known)) || starts_with(name, "x-forwarded-");
        if is_odd || is_ours || is_hop(&client.headers, name) || valid.is_some() && is("content-type") {
            continue;
        }
        // The route allows the method that the request has, and not the one that a program may find here.
        if METHOD.iter().any(|known| is(known)) && lists_methods(exchange) {
            continue;
        }
        // What proved to the gate who asks is none of the program's business, which could use it to be that user. Where the gate
        // asked for nothing, the field is for the program.
        if is("authorization") && exchange.user.is_some() || has_sessions && is("x-xsrf-token") {
            continue;
        }
        if is("cookie") && has_sessions {
            let rest = without_cookie(value, &auth.sessions.cookie);
            if !rest.is_empty() {
                head.headers.append(name, &rest)?;
            }
            continue;
        }
        head.headers.append(name, value)?;
    }
    if let Some(validation) = exchange.validation.as_ref().filter(|_| valid.is_some()) {
        head.headers.append("Content-Type", validation.content_type(exchange))?;
    }
    let framing = match valid {
        Some(body) => Framing::Length(body.len() as u64),
        None => client.framing()?,
    };
    match framing {
        Framing::Length(length) => head.headers.append("Content-Length", &length.to_string())?,
        Framing::Chunked => head.headers.append("Transfer-Encoding", "chunked")?,
        // Some programs wait for a body where none is announced.
        _ if matches!(client.method, Method::Post | Method::Put | Method::Patch) => {
            head.headers.append("Content-Length", "0")?;
        }
        _ => {}
    }
    if upgrade {
        head.headers.append("Connection", "Upgrade")?;
        head.headers.append("Upgrade", "websocket")?;
    }
    about_client(exchange, &host, way, &mut head.headers)?;
    if !front.is_empty() {
        head.headers.append("X-Forwarded-Prefix", front)?;
    }
    Ok(head)
}

/// Whether the route of the request says which methods may come.
fn lists_methods(exchange: &Exchange) -> bool {
    // What the route takes off the path is gone by now.
    let path = clean_path(&exchange.head);
    path.and_then(|path| find_route(&exchange.shared, &path)).is_some_and(|route| !route.methods.is_empty())
}

/// Who asks, and how.
fn about_client(exchange: &Exchange, host: &str, way: &Way<'_>, headers: &mut Headers) -> Result<(), Failure> {
    if let Peer::Tcp(address) = exchange.peer {
        headers.append("X-Forwarded-For", &address.ip().to_canonical().to_string())?;
    }
    headers.append("X-Forwarded-Proto", if exchange.secure { "https" } else { "http" })?;
    headers.append("X-Forwarded-Host", host)?;
    if let Some(user) = &exchange.user {
        headers.append("X-Forwarded-User", user.name())?;
        headers.append("X-Forwarded-Role", user.role())?;
    }
    let version = if exchange.head.version == Version::Http10 { "1.0" } else { "1.1" };
    let mut via = String::new();
    for known in exchange.head.headers.get_all("via") {
        // A route that leads to itself would go round until nothing is left.
        if known.split([',', ' ']).any(|part| part == way.name) {
            return Err(Error::status(508, "this route leads to itself").into());
        }
        via.push_str(known);
        via.push_str(", ");
    }
    let _ = write!(via, "{version} {}", way.name);
    headers.append("Via", &via)?;
    Ok(())
}

/// The path as the client encoded it, in two: the front that the route took off, and the rest, which `path` is when it is
/// decoded.
fn split_path<'a>(raw: &'a str, path: &str) -> (&'a str, Cow<'a, str>) {
    let whole = percent_decode(raw).unwrap_or_default();
    let rest = if whole.ends_with(path) { path } else { path.trim_start_matches('/') };
    let mut front = whole.len().saturating_sub(rest.len());
    let mut at = 0;
    while front > 0 {
        at += if raw.as_bytes().get(at) == Some(&b'%') { 3 } else { 1 };
        front -= 1;
    }
    let (front, rest) = raw.split_at_checked(at).unwrap_or(("", raw));
    match rest.starts_with('/') {
        true => (front, rest.into()),
        false => (front, format!("/{rest}").into()),
    }
}

/// Takes over the fields of the program's response; its content type.
///
/// # Errors
/// A field cannot be sent.
pub(super) fn response(exchange: &mut Exchange, head: &ResponseHead) -> Result<String, Error> {
    exchange.set_status(head.status);
    let mut fields = Headers::new();
    let auth = &exchange.shared.settings.auth;
    let session = (!auth.login.is_empty()).then_some(auth.sessions.cookie.as_str());
    let gate = exchange.headers.get("cache-control").is_some();
    for (name, value) in head.headers.iter() {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let is_our_cookie = is("set-cookie") && session.is_some_and(|session| cookie_name(value) == session);
        // The token of a session is told by the gate.
        let is_our_token = is("x-xsrf-token") && exchange.headers.get(name).is_some();
        if RESPONSE.iter().any(|known| is(known)) || is_our_cookie || is_our_token || is_hop(&head.headers, name) {
            continue;
        }
        // Over plain HTTP anybody could have said it (RFC 6797 §7.2).
        let is_of_tls = is("strict-transport-security") && !exchange.secure;
        if is("cache-control") && gate || is_of_tls {
            continue;
        }
        fields.append(name, value)?;
    }
    for (name, value) in exchange.headers.iter() {
        match name.eq_ignore_ascii_case("cache-control") {
            true => fields.append(name, &private(&head.headers))?,
            false => fields.append(name, value)?,
        }
    }
    exchange.headers = fields;
    // A tab is allowed between the parameters.
    Ok(head.headers.get("content-type").unwrap_or_default().replace('\t', " "))
}

/// What caches may do with an answer that is for one user: as the program says, but for none that others use.
fn private(headers: &Headers) -> String {
    let is_public = headers.has_token("cache-control", "public")
        || headers.get_all("cache-control").any(|value| value.to_ascii_lowercase().contains("s-maxage"));
    let said: Vec<&str> = headers.get_all("cache-control").collect();
    let is_private = ["private", "no-store"].iter().any(|word| headers.has_token("cache-control", word));
    match (is_public, is_private) {
        _ if said.is_empty() => "private, no-cache".to_owned(),
        (true, _) => "private".to_owned(),
        (false, true) => said.join(", "),
        (false, false) => format!("private, {}", said.join(", ")),
    }
}

/// The fields of the answer that ends HTTP on this connection.
pub(super) fn switched(exchange: &Exchange, head: &ResponseHead) -> Headers {
    let mut fields = Headers::new();
    for (name, value) in head.headers.iter() {
        let is_ours = RESPONSE.iter().any(|known| name.eq_ignore_ascii_case(known));
        if !is_ours && !is_hop(&head.headers, name) && exchange.headers.get(name).is_none() {
            // It was checked when it was received.
            let _ = fields.append(name, value);
        }
    }
    for (name, value) in exchange.headers.iter() {
        let _ = fields.append(name, value);
    }
    fields
}

/// Whether a field is for this connection only.
fn is_hop(headers: &Headers, name: &str) -> bool {
    HOP.iter().any(|known| known.eq_ignore_ascii_case(name)) || headers.has_token("connection", name)
}

fn starts_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// A Cookie field without the cookie of that name.
fn without_cookie(field: &str, name: &str) -> String {
    let others = field.split(';').map(|pair| pair.trim_matches([' ', '\t']));
    let others = others.filter(|pair| !pair.is_empty() && cookie_name(pair) != name);
    others.collect::<Vec<_>>().join("; ")
}

fn cookie_name(pair: &str) -> &str {
    pair.split(['=', ';']).next().unwrap_or_default().trim_matches([' ', '\t'])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_of_the_gate_is_taken_out_and_no_other() {
        for (field, rest) in [
            ("a=1; s=2; b=3", "a=1; b=3"),
            ("s=2", ""),
            ("s=1;s=2 ; a=", "a="),
            ("ss=2; S=1; as=s=2", "ss=2; S=1; as=s=2"),
            ("s ; a", "a"),
            ("", ""),
        ] {
            assert_eq!(without_cookie(field, "s"), rest, "{field}");
        }
    }

    #[test]
    fn what_a_route_takes_off_the_path_is_taken_off_as_it_was_encoded() {
        for (raw, path, front, rest) in [
            ("/a%20b/c", "/a b/c", "", "/a%20b/c"),
            ("/app/a%20b", "/a b", "/app", "/a%20b"),
            ("/%61pp/%78", "/x", "/%61pp", "/%78"),
            ("/app", "/", "/app", "/"),
            ("/app/", "/", "/app", "/"),
            ("/", "/", "", "/"),
            ("/gr%c3%bcn/x", "/x", "/gr%c3%bcn", "/x"),
        ] {
            assert_eq!(split_path(raw, path), (front, rest.into()), "{raw} {path}");
        }
    }

    #[test]
    fn an_answer_for_one_user_is_never_for_all() {
        for (said, result) in [
            ("", "private, no-cache"),
            ("public, max-age=60", "private"),
            ("max-age=60", "private, max-age=60"),
            ("no-store", "no-store"),
            ("private, max-age=5", "private, max-age=5"),
            ("S-MaxAge=9, private", "private"),
        ] {
            let mut headers = Headers::new();
            if !said.is_empty() {
                headers.append("Cache-Control", said).unwrap();
            }
            assert_eq!(private(&headers), result, "{said}");
        }
    }
}
