//! Listening sockets, and the loop that accepts connections.

use std::fs;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, SocketAddrAny, SocketFlags, SocketType, acceptfrom_with, bind, listen, socket_with, sockopt,
};
use rustls::ServerConfig;
use smol::{LocalExecutor, Timer};

use super::access;
use super::admission::{Admission, Crowd, Place, Refusal};
use super::connection::{refuse_with, serve, turn_away};
use super::exchange::{Caller, Peer};
use super::link::Link;
use super::local::Local;
use super::shared::Shared;
use super::socket::Socket;
use super::tls::{Handshake, handshake};
use super::watch::Claim;
use super::{Address, Error};
use crate::config::{Listen, Scheme};
use crate::net::reactor::Source;

/// Pause after a failed accept: without file descriptors it would fail again at once, for ever.
const PAUSE: Duration = Duration::from_millis(50);
/// Connections that wait in the kernel's queue; when it is full, clients try again after a second.
pub(super) const WAITING: i32 = 1024;
/// Connections that are accepted before those that are open get their turn.
const TURN: usize = 64;

/// A socket that listens. It belongs to no thread yet, and does not block.
pub(super) enum Listener {
    Tcp { socket: TcpListener, is_tls: bool },
    Unix { socket: UnixListener, file: Option<SocketFile> },
}

/// The file of a Unix socket; removed with the listener, unless it is someone else's by then.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Opens a listening socket.
    pub fn bind(listen: &Listen) -> Result<Self, Error> {
        let result = match listen.scheme {
            Scheme::Unix => bind_unix(Path::new(&listen.host)),
            scheme => bind_tcp(listen).map(|socket| Listener::Tcp { socket, is_tls: scheme == Scheme::Https }),
        };
        result.map_err(|source| failed(listen, source))
    }

    /// A listening socket of TCP that was opened before.
    pub fn of(socket: TcpListener, listen: &Listen) -> Self {
        Listener::Tcp { socket, is_tls: listen.scheme == Scheme::Https }
    }

    /// A Unix socket that somebody else opened, and whose file is theirs.
    pub fn inherited(socket: UnixListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Listener::Unix { socket, file: None })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<Address> {
        Ok(match self {
            Listener::Tcp { socket, is_tls: false } => Address::Http(socket.local_addr()?),
            Listener::Tcp { socket, is_tls: true } => Address::Https(socket.local_addr()?),
            Listener::Unix { file: Some(file), .. } => Address::Unix(file.path.clone()),
            Listener::Unix { socket, .. } => {
                Address::Unix(socket.local_addr()?.as_pathname().unwrap_or(Path::new("")).to_owned())
            }
        })
    }

    /// Another socket at the same address, for another thread; the kernel divides the connections among them. `None`: a Unix
    /// socket, which there can be only one of.
    pub fn again(&self) -> Result<Option<Self>, Error> {
        let Listener::Tcp { socket, is_tls } = self else { return Ok(None) };
        let another = bind_again(socket).map_err(|source| {
            let address = socket.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
            Error::Bind { address, source }
        })?;
        Ok(Some(Listener::Tcp { socket: another, is_tls: *is_tls }))
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Listener::Tcp { is_tls: true, .. })
    }

    /// Accepts connections and serves them as tasks, for ever. Where there is no place for one, it is refused.
    pub async fn accept(self, door: &Door<'_, '_>) {
        let (socket, is_tls, _file) = match self {
            Listener::Tcp { socket, is_tls } => (OwnedFd::from(socket), is_tls, None),
            Listener::Unix { socket, file } => (OwnedFd::from(socket), false, Some(file)),
        };
        let source = Source::new(socket, door.local.reactor.clone());
        let mut is_failing = false;
        let mut accepted = 0;
        let mut crowd = Crowd::default();
        loop {
            match poll_fn(|cx| source.poll_read(cx, accept_one)).await {
                Ok((stream, peer)) => {
                    is_failing = false;
                    let number = u64::try_from(stream.as_raw_fd()).unwrap_or(0);
                    let place = door.admission.admit(peer, number, &mut crowd, door.local).await;
                    door.serve(Source::new(stream, door.local.reactor.clone()), peer, is_tls, place);
                    accepted += 1;
                    if accepted % TURN == 0 {
                        smol::future::yield_now().await;
                    }
                }
                // That client is gone again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        log::warn!("cannot accept connections for now: {error}");
                    }
                    door.admission.make_room(door.local);
                    Timer::after(PAUSE).await;
                }
            }
        }
    }
}

/// The next connection of a listening socket, ready for its reactor.
fn accept_one(listener: &OwnedFd) -> io::Result<(OwnedFd, Peer)> {
    let (stream, peer) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let peer = peer.and_then(|peer: SocketAddrAny| SocketAddr::try_from(peer).ok());
    Ok((stream, peer.map_or(Peer::Unix, Peer::Tcp)))
}

/// What it takes to serve the connections of one thread.
pub(super) struct Door<'a, 'e> {
    pub executor: &'a LocalExecutor<'e>,
    pub shared: &'a Arc<Shared>,
    pub local: &'a Rc<Local>,
    pub admission: &'a Arc<Admission>,
}

impl Door<'_, '_> {
    /// Serves a connection in a task of its own, or tells it why not. A handshake to do so would be too dear: with TLS it
    /// just closes.
    fn serve(&self, stream: Source, peer: Peer, is_tls: bool, place: Result<Place, Refusal>) {
        if let Err(refusal) = &place {
            access::refused(self.shared, self.local, (peer, is_tls), refusal.status());
            if is_tls {
                return;
            }
        }
        let number = self.local.connections.number();
        let (shared, local) = (self.shared.clone(), self.local.clone());
        let task = self.executor.spawn(async move {
            match (&place, is_tls, shared.tls()) {
                (Err(refusal), ..) => {
                    Box::pin(turn_away(Socket(stream), refusal.status(), shared, local.clone())).await;
                }
                (Ok(_), false, _) => serve(Socket(stream), (peer, false), shared, local.clone()).await,
                (Ok(_), true, Some(config)) => serve_tls(Socket(stream), config, peer, shared, local.clone()).await,
                (Ok(_), true, None) => {}
            }
            drop(place);
            local.connections.ended(number);
        });
        self.local.connections.keep(number, task);
    }
}

async fn serve_tls(
    stream: Socket,
    (config, generation): (Arc<ServerConfig>, u64),
    peer: Peer,
    shared: Arc<Shared>,
    local: Rc<Local>,
) {
    let limit = Instant::now() + shared.settings.timeouts.tls;
    let deadline = local.watch.deadline();
    deadline.set_claim(Claim::Headless(Instant::now()));
    // On the heap until it ends: what follows would pay for its room.
    let outcome = deadline.limit(limit, Box::pin(handshake(stream, config, peer))).await;
    drop(deadline);
    match outcome {
        Some(Handshake::Done(stream, holder)) => {
            let certificate = holder.map(|holder| (holder, generation));
            serve(stream, Caller { peer, secure: true, certificate }, shared, local).await;
        }
        Some(Handshake::Plain(stream)) => {
            access::refused(&shared, &local, (peer, false), 400);
            let link = Link::new(stream, 0, local.clone());
            refuse_with(link, (400, "this is an https port: use https://"), true, &shared, &local).await;
        }
        Some(Handshake::Failed) => {}
        None => log::debug!("the TLS handshake with {peer} took too long"),
    }
}

/// Why nothing can listen there.
pub(super) fn failed(listen: &Listen, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::AddrInUse => Error::AddressInUse { address: listen.to_string() },
        _ => Error::Bind { address: listen.to_string(), source },
    }
}

pub(super) fn bind_tcp(at: &Listen) -> io::Result<TcpListener> {
    let listener = if at.host.is_empty() {
        bind_all(at.port).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Err(error),
            _ => TcpListener::bind(("0.0.0.0", at.port)),
        })?
    } else {
        let addresses: Vec<_> = (at.host.as_str(), at.port).to_socket_addrs()?.collect();
        TcpListener::bind(addresses.as_slice())?
    };
    // Responses are written whole; waiting for more to send would only delay them. Connections take it over from here.
    sockopt::set_tcp_nodelay(&listener, true)?;
    listener.set_nonblocking(true)?;
    listen(&listener, WAITING)?;
    Ok(listener)
}

/// A socket for all IPv6 addresses that takes IPv4 as well, whatever the system's default (`net.ipv6.bindv6only`) is.
fn bind_all(port: u16) -> io::Result<TcpListener> {
    let socket = socket_with(AddressFamily::INET6, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    listen(&socket, WAITING)?;
    Ok(socket.into())
}

pub(super) fn bind_again(socket: &TcpListener) -> io::Result<TcpListener> {
    // Set after the first was bound, so that a server of someone else at this address was an error.
    sockopt::set_socket_reuseport(socket, true)?;
    let address = socket.local_addr()?;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let another = socket_with(family, SocketType::STREAM, flags, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&another, sockopt::ipv6_v6only(socket)?)?;
    }
    sockopt::set_socket_reuseaddr(&another, true)?;
    sockopt::set_socket_reuseport(&another, true)?;
    bind(&another, &address)?;
    listen(&another, WAITING)?;
    sockopt::set_tcp_nodelay(&another, true)?;
    Ok(another.into())
}

/// A socket for the agent's user and group. It gets its mode before it gets its name.
fn bind_unix(path: &Path) -> io::Result<Listener> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file is there and is no socket"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(io::ErrorKind::AddrInUse.into()),
        _ => {}
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let _ = fs::remove_file(&temporary);
    let listener = UnixListener::bind(&temporary)?;
    let named = (|| {
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o660))?;
        let inode = fs::symlink_metadata(&temporary)?.ino();
        fs::rename(&temporary, path)?;
        Ok(inode)
    })();
    let inode = named.inspect_err(|_: &io::Error| drop(fs::remove_file(&temporary)))?;
    let file = SocketFile { path: path.to_owned(), inode };
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix { socket: listener, file: Some(file) })
}
