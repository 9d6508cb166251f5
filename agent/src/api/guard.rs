//! Who may use the API: this device's own processes, users with the ability `api`, and in profile dev a developer's browser.

use std::net::IpAddr;

use crate::http1::is_authority;
use crate::web::{Error, Exchange, Peer};

/// Through which door of the agent a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The agent's own socket: who reaches it may do all, since its directory has rights of its own.
    Own,
    /// The web server, on the network or behind another server.
    Web {
        /// `web.api.open`, profile dev: clients on this machine may use the API.
        open: bool,
    },
}

/// Lets a request pass or answers it with 403 and the reason.
///
/// All pass the agent's own socket. Through the web server pass users who have the role or ability `api`; others only when
/// the API is open, from this machine, under a name of this machine, and from no page of another site.
///
/// # Errors
/// [`Error::Status`] with 403.
pub fn guard(exchange: &Exchange, door: Door) -> Result<(), Error> {
    if exchange.user().is_some() && exchange.can("api") {
        return Ok(());
    }
    let host = exchange.header("host").unwrap_or_default();
    let scheme = if exchange.secure() { "https" } else { "http" };
    admit(door, exchange.peer(), host, exchange.header("origin"), scheme).map_err(|reason| Error::status(403, reason))
}

/// The decision of [`guard`] about clients who are no users, with the reason against.
pub fn admit(door: Door, peer: Peer, host: &str, origin: Option<&str>, scheme: &str) -> Result<(), String> {
    match door {
        Door::Own => return Ok(()),
        Door::Web { open: true } => {}
        Door::Web { open: false } => {
            let text = "the API is closed on the network; use the socket of the agent, or `ioto db` on the device";
            return Err(text.into());
        }
    }
    // Behind a Unix socket of `web.listen` may be a server that passes on clients from anywhere.
    let Peer::Tcp(address) = peer else {
        return Err("the API is not open on this socket; use the agent's own, `api.sock`".into());
    };
    let address = address.ip().to_canonical();
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

    const OPEN: Door = Door::Web { open: true };
    const CLOSED: Door = Door::Web { open: false };

    fn peer(address: &str) -> Peer {
        Peer::Tcp(format!("{address}:40000").parse().unwrap())
    }

    #[test]
    fn all_pass_the_own_socket_and_none_a_unix_socket_of_the_web_server() {
        admit(Door::Own, Peer::Unix, "", Some("http://evil.example"), "http").unwrap();
        for open in [true, false] {
            admit(Door::Web { open }, Peer::Unix, "localhost", None, "http").unwrap_err();
        }
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
            admit(OPEN, peer(address), host, None, "http").unwrap();
            admit(CLOSED, peer(address), host, None, "http").unwrap_err();
        }
        admit(OPEN, peer("127.0.0.1"), "localhost:8443", Some("https://localhost:8443"), "https").unwrap();
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
            admit(OPEN, peer(address), host, origin, "http").unwrap_err();
        }
    }
}
