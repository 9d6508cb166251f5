//! Requests that are sent elsewhere: `web.redirect`, `web.routes[].redirect`, and directories without their slash.

use super::{Error, Exchange, Peer};
use crate::config::{Place, Redirect, Scheme};
use crate::http1::is_authority;

/// Where `web.redirect` sends this request, and with which status.
pub(super) fn find(exchange: &Exchange, redirects: &[Redirect]) -> Option<(u16, Place)> {
    let meant = redirects.iter().filter(|redirect| covers(&redirect.from, exchange));
    meant.map(|redirect| (redirect.status, target(exchange, redirect))).find(|(_, to)| !is_there(exchange, to))
}

/// The target, with what the `*` at the end of `from` stands for.
fn target(exchange: &Exchange, redirect: &Redirect) -> Place {
    let front = |place: &'_ Place| place.path.as_deref().and_then(|path| path.strip_suffix('*')).map(str::to_owned);
    let mut to = redirect.to.clone();
    if let Some((from, front)) = front(&redirect.from).zip(front(&to)) {
        to.path = exchange.path().strip_prefix(&from).map(|rest| format!("{front}{}", encode(rest)));
    }
    to
}

/// Whether the request is for that place already.
fn is_there(exchange: &Exchange, to: &Place) -> bool {
    let now = scheme(exchange);
    let (host, port) = split(exchange.head.authority().unwrap_or_default());
    let port = port.unwrap_or(default_port(now));
    // A host without a port is meant with the usual one.
    let wanted = to.port.or(to.host.as_ref().map(|_| default_port(to.scheme.unwrap_or(now))));
    to.scheme.is_none_or(|scheme| scheme == now || exchange.peer() == Peer::Unix)
        && to.host.as_deref().is_none_or(|to| to.eq_ignore_ascii_case(host))
        && wanted.is_none_or(|wanted| wanted == port)
        && to.path.as_deref().is_none_or(|path| path == exchange.head.path())
        && (to.query.is_none() || to.query.as_deref() == exchange.head.query())
}

/// Answers with the place to go to.
pub(super) async fn send(exchange: &mut Exchange, status: u16, to: &Place) -> Result<(), Error> {
    let location = location(exchange, to)?;
    exchange.set_header("Location", &location)?;
    exchange.set_status(status);
    exchange.send("text/plain; charset=utf-8", format!("{status} {}\n", crate::http1::reason(status))).await
}

fn covers(from: &Place, exchange: &Exchange) -> bool {
    let scheme = scheme(exchange);
    // Behind a Unix socket is another server: whether its client has TLS is not known here, and it would be sent in a circle.
    if from.scheme.is_some() && exchange.peer() == Peer::Unix {
        return false;
    }
    let path = exchange.path();
    let covers_path = match from.path.as_deref() {
        None => true,
        Some(from) => match from.strip_suffix('*') {
            Some(front) => path.starts_with(front),
            None => path == from,
        },
    };
    if !covers_path || from.scheme.is_some_and(|from| from != scheme) {
        return false;
    }
    if from.query.is_some() && from.query.as_deref() != exchange.head.query() {
        return false;
    }
    if from.host.is_none() && from.port.is_none() {
        return true;
    }
    let (host, port) = split(exchange.head.authority().unwrap_or_default());
    let covers_host = from.host.as_deref().is_none_or(|from| from.eq_ignore_ascii_case(host));
    covers_host && from.port.is_none_or(|from| from == port.unwrap_or(default_port(scheme)))
}

/// The URL of a place for the client. What the place does not say is what the client asked for; its host is `web.name` or
/// the one that it asked for, never an address of this machine. Without a new host and without `web.name` it is a path: that
/// is right also behind another server.
fn location(exchange: &Exchange, to: &Place) -> Result<String, Error> {
    let name = exchange.shared.settings.name.as_ref();
    let tail = tail(exchange, to);
    let now = scheme(exchange);
    if to.scheme.is_none() && to.host.is_none() && to.port.is_none() {
        let url = |name: &Place| url(name.scheme.unwrap_or(now), &name.authority(), None, &tail);
        return Ok(name.map_or_else(|| tail.clone(), url));
    }
    let scheme = to.scheme.unwrap_or(now);
    if let Some(host) = &to.host {
        return Ok(url(scheme, host, to.port, &tail));
    }
    let asked = exchange.head.authority().filter(|authority| is_authority(authority));
    let (host, port) = match (name, asked) {
        (Some(Place { host: Some(host), port, scheme: said, .. }), _) => {
            (host.as_str(), port.filter(|_| said.is_none_or(|said| said == scheme)))
        }
        (_, Some(asked)) => split(asked),
        (_, None) => return Err(Error::status(400, "say the name of this server in the field Host")),
    };
    let port = match to.port {
        Some(port) => Some(port),
        None if scheme == now => port,
        None => listening_port(exchange, scheme),
    };
    Ok(url(scheme, host, port, &tail))
}

/// Path, query and fragment of the place.
fn tail(exchange: &Exchange, to: &Place) -> String {
    let path = to.path.as_deref().unwrap_or(exchange.head.path());
    // Two slashes would begin the name of a host.
    let mut tail = format!("/{}", path.trim_start_matches('/'));
    if let Some(query) = to.query.as_deref().or(exchange.head.query()) {
        tail.push('?');
        tail.push_str(query);
    }
    if let Some(fragment) = &to.fragment {
        tail.push('#');
        tail.push_str(fragment);
    }
    tail
}

fn url(scheme: Scheme, host: &str, port: Option<u16>, tail: &str) -> String {
    let name = if scheme == Scheme::Https { "https" } else { "http" };
    match port.filter(|port| *port != default_port(scheme)) {
        Some(port) => format!("{name}://{host}:{port}{tail}"),
        None => format!("{name}://{host}{tail}"),
    }
}

fn scheme(exchange: &Exchange) -> Scheme {
    if exchange.secure() { Scheme::Https } else { Scheme::Http }
}

/// Where this server listens with that scheme; nothing: on the port that is usual, perhaps at another server.
fn listening_port(exchange: &Exchange, scheme: Scheme) -> Option<u16> {
    let mut all = exchange.shared.settings.listen.iter();
    all.find(|listen| listen.scheme == scheme).map(|listen| listen.port)
}

fn default_port(scheme: Scheme) -> u16 {
    if scheme == Scheme::Https { 443 } else { 80 }
}

/// The host and the port of an authority that was checked.
fn split(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

/// Percent-encodes what cannot stand in a path (RFC 3986 §3.3).
fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
