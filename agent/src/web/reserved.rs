//! Sockets at ports below 1024, opened while the process may and kept for as long as it lives.
//!
//! A server that is bound again later takes them as they are. What connects while no server takes connections waits in the
//! kernel's queue.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use super::Error;
use super::listener::{Listener, WAITING, bind_again, bind_tcp, failed};
use crate::config::{Listen, Scheme, Web};

/// The ports below this one are bound by privileged processes only (unless `net.ipv4.ip_unprivileged_port_start` says so).
const PRIVILEGED: u16 = 1024;

/// Sockets by address, one for each thread of the server.
#[derive(Default)]
pub struct Reserved {
    rows: Vec<(Listen, Vec<TcpListener>)>,
}

impl Reserved {
    /// Opens a socket at each port below 1024 of the settings, for each thread. An address that no interface has yet is
    /// bound all the same: there will be no second time. One that cannot be bound is left to the server, and its error is in the
    /// list.
    ///
    /// # Errors
    /// Another program listens there.
    pub fn open(settings: &Web) -> Result<(Self, Vec<String>), Error> {
        let (mut reserved, mut missing) = (Self::default(), Vec::new());
        let is_low = |at: &&Listen| at.scheme != Scheme::Unix && (1..PRIVILEGED).contains(&at.port);
        for at in settings.listen.iter().filter(is_low) {
            match sockets(at, settings.threads) {
                Ok(sockets) => reserved.rows.push((at.clone(), sockets)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(failed(at, error)),
                Err(error) => missing.push(format!(
                    "{at} could not be bound ({error}), and can not be later, without the right to ports below 1024"
                )),
            }
        }
        Ok((reserved, missing))
    }

    /// The listener of a thread at an address; nothing when none is kept for it.
    pub(super) fn listener(&self, at: &Listen, thread: usize) -> Option<Result<Listener, Error>> {
        let (_, sockets) = self.rows.iter().find(|(listen, _)| listen == at)?;
        let socket = sockets.get(thread)?.try_clone();
        Some(socket.map(|socket| Listener::of(socket, at)).map_err(|error| failed(at, error)))
    }
}

fn sockets(at: &Listen, threads: usize) -> io::Result<Vec<TcpListener>> {
    let first = match bind_tcp(at) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => bind_early(at).ok_or(error)?,
        bound => bound?,
    };
    let mut sockets = vec![first];
    for _ in 1..threads {
        sockets.push(bind_again(&sockets[0])?);
    }
    Ok(sockets)
}

/// Binds an address that no interface has yet.
fn bind_early(at: &Listen) -> Option<TcpListener> {
    let address: IpAddr = at.host.parse().ok()?;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None).ok()?;
    match address {
        IpAddr::V4(_) => sockopt::set_ip_freebind(&socket, true).ok()?,
        IpAddr::V6(_) => sockopt::set_ipv6_freebind(&socket, true).ok()?,
    }
    sockopt::set_socket_reuseaddr(&socket, true).ok()?;
    sockopt::set_tcp_nodelay(&socket, true).ok()?;
    bind(&socket, &SocketAddr::from((address, at.port))).ok()?;
    listen(&socket, WAITING).ok()?;
    Some(socket.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_socket_is_there_for_each_thread_and_each_start() {
        let web = |listen: &str| Web { listen: vec![listen.parse().unwrap()], threads: 2, ..Web::default() };
        if !nix::unistd::geteuid().is_root() {
            return println!("not root: ports below 1024 can not be bound");
        }
        // Any port of the first thousand that is free.
        let mut tried = (600..700).map(|port| web(&format!("http://127.0.0.9:{port}")));
        let (settings, reserved) = tried
            .find_map(|settings| Reserved::open(&settings).ok().map(|(reserved, _)| (settings, reserved)))
            .unwrap();
        let at = &settings.listen[0];
        for thread in [0, 1, 0, 1] {
            let listener = reserved.listener(at, thread).unwrap().unwrap();
            assert_eq!(listener.address().unwrap().to_string(), at.to_string());
        }
        assert!(reserved.listener(at, 2).is_none());
        assert!(matches!(Reserved::open(&settings), Err(Error::AddressInUse { .. })));
    }

    #[test]
    fn an_address_that_no_interface_has_yet_is_bound() {
        // Documentation addresses (RFC 5737, RFC 3849); the ports are high, so that anybody may run this.
        for address in ["http://192.0.2.77:18443", "http://[2001:db8::77]:18443"] {
            let listen: Listen = address.parse().unwrap();
            match bind_early(&listen) {
                Some(socket) => assert_eq!(socket.local_addr().unwrap().port(), 18443),
                None => println!("{address}: this system has no such family"),
            }
        }
    }
}
