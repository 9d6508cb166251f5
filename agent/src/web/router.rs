//! Which handler a request goes to.

use std::borrow::Cow;

use super::Action;
use super::shared::Shared;
use crate::config::Route;
use crate::http1::{Method, RequestHead, percent_decode};

/// What to do with a request.
pub(super) enum Routed<'a> {
    /// Run this action; the length of its prefix.
    Action(&'a dyn Action, usize),
    /// Serve a file, as this route says.
    File(Option<&'a Route>),
    /// Pass it on to the program behind this route.
    Proxy(&'a Route),
    /// TRACE: tell the request.
    Trace,
    /// OPTIONS: tell the methods.
    Options(String),
    /// The method is not allowed here; these are.
    NotAllowed(String),
    /// Nothing is here.
    NotFound,
}

const FILE_METHODS: &str = "GET, HEAD, OPTIONS";
pub(super) const ACTION_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The path of a request, percent-decoded once, or `None` when it is one that nobody asks for in good faith: control
/// characters, a backslash, an encoded slash, or a segment `..`; clients resolve those before they ask. Segments that are
/// empty or `.` come from texts put together carelessly, and are left out before anything is decided about the path.
pub(super) fn clean_path(head: &RequestHead) -> Option<String> {
    let raw = &*without_empty(head.path());
    if raw.as_bytes().windows(3).any(|code| matches!(code, [b'%', b'2', b'f' | b'F'])) {
        return None;
    }
    let path = percent_decode(raw)?;
    // Most paths are plain, and that is seen faster in bytes than in characters.
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let is_strange = !is_plain && path.chars().any(|c| c.is_control() || c == '\\');
    let has_dots = path.as_bytes().split(|&byte| byte == b'/').any(|segment| {
        let bare = segment.split(|&byte| byte == b';').next();
        matches!(bare, Some(b"." | b".."))
    });
    (!is_strange && !has_dots).then(|| path.into_owned())
}

pub(super) fn without_empty(raw: &str) -> Cow<'_, str> {
    if !raw.starts_with('/') || !raw.as_bytes().windows(2).any(|pair| matches!(pair, b"//" | b"/.")) {
        return raw.into();
    }
    let mut path = String::with_capacity(raw.len());
    let mut segments = raw.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "" | "." if segments.peek().is_some() => {}
            "." => path.push('/'),
            segment => path.extend(["/", segment]),
        }
    }
    path.into()
}

/// A segment without parameters.
fn bare(segment: &str) -> &str {
    segment.split(';').next().unwrap_or_default()
}

/// Whether the same route decides about the clean path for those who see it as it is, and for those who leave out parameters
/// (`/a;x=y/b`). Else the role of a route would be no obstacle: the handler behind another
/// one could take the path for one of the first.
pub(super) fn is_plain(shared: &Shared, path: &str) -> bool {
    if !path.as_bytes().contains(&b';') {
        return true;
    }
    let mut other = String::with_capacity(path.len());
    for segment in path.split('/').map(bare).filter(|segment| !segment.is_empty()) {
        other.push('/');
        other.push_str(segment);
    }
    if other.is_empty() || path.ends_with('/') {
        other.push('/');
    }
    let index = |path: &str| shared.settings.routes.iter().position(|route| route.covers(path));
    index(path) == index(&other)
}

/// Finds the handler. The first route that matches decides; without routes, actions are tried before files.
pub(super) fn route<'a>(shared: &'a Shared, method: &Method, path: &str) -> Routed<'a> {
    if path == "*" {
        return Routed::Options(ACTION_METHODS.to_owned());
    }
    let routes = &shared.settings.routes;
    let route = find_route(shared, path);
    let trimmed = route.and_then(|route| trim(&route.trim, path));
    let path = trimmed.as_deref().unwrap_or(path);
    let action = shared.actions.iter().find(|(prefix, _)| is_under(prefix, path));
    let is_file = match route {
        Some(route) => !matches!(route.handler.as_str(), "action" | "proxy"),
        None if routes.is_empty() => action.is_none(),
        None => return Routed::NotFound,
    };
    let methods = match route.map_or(&[][..], |route| &route.methods) {
        // Files are written and removed only where a route lists it.
        [] if !is_file && route.is_none_or(|route| route.handler == "action") => &shared.methods,
        listed => listed,
    };
    let proxy = route.filter(|route| route.handler == "proxy");
    if let (Some(route), Method::Options, true) = (proxy, method, methods.is_empty()) {
        // The program knows better what it can do, and for whom.
        return Routed::Proxy(route);
    }
    if !is_allowed(method, methods, is_file) {
        let allowed = allowed(methods, is_file);
        return if *method == Method::Options { Routed::Options(allowed) } else { Routed::NotAllowed(allowed) };
    }
    match action {
        _ if *method == Method::Trace => Routed::Trace,
        _ if is_file => Routed::File(route),
        _ if proxy.is_some() => proxy.map_or(Routed::NotFound, Routed::Proxy),
        Some((prefix, action)) => Routed::Action(action.as_ref(), prefix.len()),
        None => Routed::NotFound,
    }
}

/// The route that decides about a path.
pub(super) fn find_route<'a>(shared: &'a Shared, path: &str) -> Option<&'a Route> {
    shared.settings.routes.iter().find(|route| route.covers(path))
}

/// The path without the front that a route takes off; `None` when it takes nothing off.
pub(super) fn trim(front: &str, path: &str) -> Option<String> {
    if front.is_empty() || !is_under(front, path) {
        return None;
    }
    let rest = path.get(front.len()..).unwrap_or_default();
    Some(if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") })
}

/// Whether the path is the prefix, or below it.
fn is_under(prefix: &str, path: &str) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/') || prefix.is_empty(),
        None => false,
    }
}

/// HEAD is allowed wherever GET is. Files are written and removed only where a route lists it.
/// OPTIONS is answered for everyone who does not list it; TRACE only where a route does.
fn is_allowed(method: &Method, methods: &[String], is_file: bool) -> bool {
    let listed = |name: &str| methods.iter().any(|allowed| allowed.eq_ignore_ascii_case(name));
    match method {
        Method::Trace => listed("TRACE"),
        Method::Put | Method::Delete if is_file => listed(method.as_str()),
        _ if is_file && !matches!(method, Method::Get | Method::Head) => false,
        Method::Head if !methods.is_empty() => listed("HEAD") || listed("GET"),
        Method::Options => listed("OPTIONS"),
        _ => methods.is_empty() || listed(method.as_str()),
    }
}

fn allowed(methods: &[String], is_file: bool) -> String {
    if methods.is_empty() {
        return if is_file { FILE_METHODS } else { ACTION_METHODS }.to_owned();
    }
    let mut all: Vec<String> = methods.iter().map(|method| method.to_ascii_uppercase()).collect();
    if is_file {
        all.retain(|method| matches!(method.as_str(), "GET" | "HEAD" | "PUT" | "DELETE" | "TRACE"));
    }
    if all.iter().any(|method| method == "GET") && !all.iter().any(|method| method == "HEAD") {
        all.push("HEAD".to_owned());
    }
    if !all.iter().any(|method| method == "OPTIONS") {
        all.push("OPTIONS".to_owned());
    }
    all.join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Error, Exchange};
    use super::*;
    use crate::config::Web;

    fn shared(routes: &[(&str, &str, &[&str])]) -> Shared {
        async fn nothing(_: &mut Exchange) -> Result<(), Error> {
            Ok(())
        }
        let routes = routes.iter().map(|(matches, handler, methods)| Route {
            matches: (*matches).to_owned(),
            handler: (*handler).to_owned(),
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            ..Route::default()
        });
        let settings = Web { routes: routes.collect(), ..Web::default() };
        let actions: Vec<(String, Box<dyn Action>)> = vec![
            ("/api/db/".to_owned(), Box::new(nothing)),
            ("/api/".to_owned(), Box::new(nothing)),
            ("/lines".to_owned(), Box::new(nothing)),
            ("/api/".to_owned(), Box::new(nothing)),
        ];
        Shared::new(settings, actions, None).unwrap()
    }

    fn outcome(shared: &Shared, method: Method, path: &str) -> String {
        match route(shared, &method, path) {
            Routed::Action(_, length) => format!("action {length}"),
            Routed::File(_) => "file".to_owned(),
            Routed::Proxy(_) => "proxy".to_owned(),
            Routed::Trace => "trace".to_owned(),
            Routed::Options(allow) => format!("options {allow}"),
            Routed::NotAllowed(allow) => format!("405 {allow}"),
            Routed::NotFound => "404".to_owned(),
        }
    }

    #[test]
    fn without_routes_the_longest_prefix_wins_and_files_are_last() {
        let shared = shared(&[]);
        for (path, expected) in [
            ("/api/db/x", "action 8"),
            ("/api/x", "action 5"),
            ("/api", "file"),
            ("/lines", "action 6"),
            ("/lines/7", "action 6"),
            ("/linesx", "file"),
            ("/", "file"),
        ] {
            assert_eq!(outcome(&shared, Method::Get, path), expected, "{path}");
        }
    }

    #[test]
    fn the_first_route_that_matches_decides() {
        let shared = shared(&[
            ("/api/secret/", "file", &[]),
            ("/api/", "action", &["GET", "post"]),
            ("/exact", "file", &[]),
            ("/", "file", &[]),
        ]);
        assert_eq!(outcome(&shared, Method::Get, "/api/secret/x"), "file");
        assert_eq!(outcome(&shared, Method::Post, "/api/x"), "action 5");
        assert_eq!(outcome(&shared, Method::Head, "/api/x"), "action 5");
        assert_eq!(outcome(&shared, Method::Put, "/api/x"), "405 GET, POST, HEAD, OPTIONS");
        assert_eq!(outcome(&shared, Method::Options, "/api/x"), "options GET, POST, HEAD, OPTIONS");
        assert_eq!(outcome(&shared, Method::Get, "/exact"), "file");
        assert_eq!(outcome(&shared, Method::Get, "/exact/x"), "404");
        assert_eq!(outcome(&shared, Method::Get, "/"), "file");
        assert_eq!(outcome(&shared, Method::Get, "/lines"), "404");
    }

    #[test]
    fn a_program_gets_all_methods_that_its_route_does_not_exclude() {
        let shared = shared(&[("/app/get/", "proxy", &["GET"]), ("/app/", "proxy", &[])]);
        for method in [Method::Get, Method::Options, Method::Delete, Method::Other("PROPFIND".into())] {
            assert_eq!(outcome(&shared, method, "/app/x"), "proxy");
        }
        assert_eq!(outcome(&shared, Method::Head, "/app/get/x"), "proxy");
        assert_eq!(outcome(&shared, Method::Post, "/app/get/x"), "405 GET, HEAD, OPTIONS");
        assert_eq!(outcome(&shared, Method::Options, "/app/get/x"), "options GET, HEAD, OPTIONS");
        assert_eq!(outcome(&shared, Method::Trace, "/app/x"), format!("405 {ACTION_METHODS}"));
    }

    #[test]
    fn files_are_only_read_and_requests_are_traced_where_a_route_lists_it() {
        let listed =
            shared(&[("/trace/", "file", &["GET", "TRACE"]), ("/api/", "action", &["trace"]), ("", "file", &[])]);
        assert_eq!(outcome(&listed, Method::Trace, "/trace/x"), "trace");
        assert_eq!(outcome(&listed, Method::Trace, "/api/x"), "trace");
        assert_eq!(outcome(&listed, Method::Trace, "/x"), "405 GET, HEAD, OPTIONS");
        assert_eq!(outcome(&listed, Method::Options, "/trace/x"), "options GET, TRACE, HEAD, OPTIONS");
        let shared = shared(&[]);
        assert_eq!(outcome(&shared, Method::Post, "/x"), "405 GET, HEAD, OPTIONS");
        assert_eq!(outcome(&shared, Method::Put, "/x"), "405 GET, HEAD, OPTIONS");
        assert_eq!(outcome(&shared, Method::Trace, "/lines"), format!("405 {ACTION_METHODS}"));
        assert_eq!(outcome(&shared, Method::Options, "*"), format!("options {ACTION_METHODS}"));
    }

    #[test]
    fn files_are_written_where_a_route_lists_it() {
        let shared = shared(&[("/up/", "file", &["put", "DELETE", "POST"]), ("", "file", &["GET"])]);
        assert_eq!(outcome(&shared, Method::Put, "/up/x"), "file");
        assert_eq!(outcome(&shared, Method::Delete, "/up/x"), "file");
        assert_eq!(outcome(&shared, Method::Get, "/up/x"), "405 PUT, DELETE, OPTIONS");
        assert_eq!(outcome(&shared, Method::Post, "/up/x"), "405 PUT, DELETE, OPTIONS");
        assert_eq!(outcome(&shared, Method::Put, "/x"), "405 GET, HEAD, OPTIONS");
    }

    #[test]
    fn paths_that_could_mean_two_things_are_refused() {
        let clean = |target: &str| clean_path(&RequestHead::new(Method::Get, target));
        assert_eq!(clean("/a%20b/%2e%2ehidden?x=/../y").as_deref(), Some("/a b/..hidden"));
        assert_eq!(clean("/%252e%252e/x").as_deref(), Some("/%2e%2e/x"));
        for (target, expected) in [
            ("//", "/"),
            ("///a//.//b/", "/a/b/"),
            ("/./x", "/x"),
            ("/x/.", "/x/"),
            ("/.", "/"),
            ("/.x/...", "/.x/..."),
            ("*", "*"),
        ] {
            assert_eq!(clean(target).as_deref(), Some(expected), "{target}");
        }
        for bad in [
            "/../x",
            "/a/..",
            "//../x",
            "/./../x",
            "/%2e/x",
            "/%2e%2e/x",
            "/%2E./x",
            "/a%2fb",
            "/a%2Fb",
            "/a\\b",
            "/a%5cb",
            "/a%00",
            "/a%0a",
            "/%",
            "/%zz",
            "/%ff",
            "/%c0%ae%c0%ae/x",
            "/%7f",
            "/a/..;x/b",
            "/.%3b/b",
        ] {
            assert_eq!(clean(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_front_of_a_path_is_taken_off_at_a_slash() {
        for (front, path, expected) in [
            ("/app", "/app/x", Some("/x")),
            ("/app/", "/app/x", Some("/x")),
            ("/app", "/app", Some("/")),
            ("/app", "/apple", None),
            ("", "/x", None),
            ("/other", "/x", None),
        ] {
            assert_eq!(trim(front, path).as_deref(), expected, "{front} {path}");
        }
    }
}
