//! Who may use the API: this device's own processes, users with the ability `api`, and in profile dev a developer's browser.

use std::net::IpAddr;

use crate::http1::is_authority;
use crate::web::{Error, Exchange, Peer};

/// Lets a request pass or answers it with 403 and the reason.
///
/// Processes at the Unix socket pass: the socket's directory has its own rights. Users pass who have the role or ability
/// `api`; the web server knows them. Other clients on the network pass only when the API is open (`web.api.open`, profile dev), from this machine, under a name of this machine, and from no page of another
/// site.
///
/// # Errors
/// [`Error::Status`] with 403.
pub fn guard(exchange: &Exchange, open: bool) -> Result<(), Error> {
    if exchange.user().is_some() && exchange.can("api") {
        return Ok(());
    }
    let host = exchange.header("host").unwrap_or_default();
    let scheme = if exchange.secure() { "https" } else { "http" };
    admit(open, exchange.peer(), host, exchange.header("origin"), scheme).map_err(|reason| Error::status(403, reason))
}

/// The decision of [`guard`], with the reason against.
pub fn admit(open: bool, peer: Peer, host: &str, origin: Option<&str>, scheme: &str) -> Result<(), String> {
    let address = match peer {
        Peer::Unix => return Ok(()),
        Peer::Tcp(address) => address.ip().to_canonical(),
    };
    if !open {
        return Err("the API is closed on the network; use the socket of the agent, or `ioto db` on the device".into());
    }
    if !address.is_loopback() {
        return Err(format!(
            "the API is open only to clients on this machine, and {address} is not; use http://localhost"
        ));
    }
    // A page of another site can make its own name stand for 127.0.0.1 (DNS rebinding); the name it uses gives it away.
    if !is_authority(host) || !is_loopback_name(name(host)) {
        return Err(
            "the API is open only under the name `localhost` or a loopback address; use http://localhost".into()
        );
    }
    match origin {
        Some(origin) if !origin.eq_ignore_ascii_case(&format!("{scheme}://{host}")) => {
            Err("the API does not answer pages of other sites".into())
        }
        _ => Ok(()),
    }
}

/// The host of `host:port`.
fn name(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// `localhost` and the names below it never leave the machine (RFC 6761 §6.3).
fn is_loopback_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let address = name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    address || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::Tcp(format!("{address}:40000").parse().unwrap())
    }

    #[test]
    fn the_socket_always_passes() {
        admit(false, Peer::Unix, "", Some("http://evil.example"), "http").unwrap();
    }

    #[test]
    fn an_open_api_takes_clients_of_this_machine_under_its_own_names() {
        for (address, host) in [
            ("127.0.0.1", "localhost:8080"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.9.9.9", "LocalHost."),
            ("[::1]", "[::1]:8080"),
            ("[::ffff:127.0.0.1]", "board.localhost"),
        ] {
            admit(true, peer(address), host, None, "http").unwrap();
            admit(false, peer(address), host, None, "http").unwrap_err();
        }
        admit(true, peer("127.0.0.1"), "localhost:8443", Some("https://localhost:8443"), "https").unwrap();
    }

    #[test]
    fn strangers_rebound_names_and_foreign_pages_are_refused() {
        for (address, host, origin) in [
            ("192.168.1.2", "localhost", None),
            ("[::ffff:192.168.1.2]", "localhost", None),
            ("127.0.0.1", "evil.example:8080", None),
            ("127.0.0.1", "127.0.0.1.evil.example", None),
            ("127.0.0.1", "localhost.evil.example", None),
            ("127.0.0.1", "", None),
            ("127.0.0.1", "localhost/", None),
            ("127.0.0.1", "192.168.1.1", None),
            ("127.0.0.1", "localhost:8080", Some("http://evil.example")),
            ("127.0.0.1", "localhost:8080", Some("http://localhost:9090")),
            ("127.0.0.1", "localhost:8080", Some("https://localhost:8080")),
            ("127.0.0.1", "localhost:8080", Some("null")),
        ] {
            admit(true, peer(address), host, origin, "http").unwrap_err();
        }
    }
}
