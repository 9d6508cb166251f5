//! Listening sockets, and the loop that accepts connections.

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_rustls::TlsAcceptor;
use rustls::ServerConfig;
use smol::channel::Sender;
use smol::{Async, LocalExecutor, Timer};

use super::admission::{Admission, Crowd, Place, Refusal};
use super::connection::{serve, turn_away};
use super::exchange::Peer;
use super::local::Local;
use super::shared::Shared;
use super::socket::Socket;
use super::watch::Claim;
use super::{Address, Error};
use crate::config::{Listen, Scheme};

/// Pause after a failed accept: without file descriptors it would fail again at once, for ever.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes that rustls gathers for one connection.
const TLS_BUFFER: usize = 16 * 1024;

/// A socket that listens.
pub(super) enum Listener {
    Tcp { socket: Async<TcpListener>, is_tls: bool },
    Unix { socket: Async<UnixListener>, file: SocketFile },
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
        result.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => Error::AddressInUse { address: listen.to_string() },
            _ => Error::Bind { address: listen.to_string(), source },
        })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<Address> {
        Ok(match self {
            Listener::Tcp { socket, is_tls: false } => Address::Http(socket.get_ref().local_addr()?),
            Listener::Tcp { socket, is_tls: true } => Address::Https(socket.get_ref().local_addr()?),
            Listener::Unix { file, .. } => Address::Unix(file.path.clone()),
        })
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Listener::Tcp { is_tls: true, .. })
    }

    /// Accepts connections and passes them on, for ever. Where there is no place for one, it is passed on to be refused.
    pub async fn accept(self, admission: Arc<Admission>, accepted: Sender<Accepted>, local: Rc<Local>) {
        let mut is_failing = false;
        let mut crowd = Crowd::default();
        loop {
            match self.accept_one().await {
                Ok(stream) => {
                    is_failing = false;
                    let place = admission.admit(stream.peer(), stream.descriptor(), &mut crowd, &local).await;
                    if accepted.send(Accepted { stream, place }).await.is_err() {
                        return;
                    }
                }
                // That client is gone again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        log::warn!("cannot accept connections for now: {error}");
                    }
                    admission.make_room(&local);
                    Timer::after(PAUSE).await;
                }
            }
        }
    }

    async fn accept_one(&self) -> io::Result<Stream> {
        Ok(match self {
            Listener::Tcp { socket, is_tls } => {
                let (stream, peer) = socket.accept().await?;
                // Responses are written whole; waiting for more to send would only delay them.
                let _ = stream.get_ref().set_nodelay(true);
                Stream::Tcp(stream, Peer::Tcp(peer), *is_tls)
            }
            Listener::Unix { socket, .. } => Stream::Unix(socket.accept().await?.0),
        })
    }
}

/// A new connection, with its place among those that are allowed.
pub(super) struct Accepted {
    stream: Stream,
    place: Result<Place, Refusal>,
}

enum Stream {
    Tcp(Async<TcpStream>, Peer, bool),
    Unix(Async<UnixStream>),
}

impl Stream {
    fn peer(&self) -> Peer {
        match self {
            Stream::Tcp(_, peer, _) => *peer,
            Stream::Unix(_) => Peer::Unix,
        }
    }

    /// The number of its socket.
    fn descriptor(&self) -> u64 {
        let number = match self {
            Stream::Tcp(stream, ..) => stream.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
        };
        u64::try_from(number).unwrap_or(0)
    }
}

impl Accepted {
    /// Serves the connection in a task of its own, or refuses it.
    pub fn spawn(self, executor: &LocalExecutor<'_>, shared: &Arc<Shared>, local: &Rc<Local>) {
        let number = local.connections.number();
        let (shared, owned) = (shared.clone(), local.clone());
        let task = executor.spawn(async move {
            match self.place {
                Ok(place) => {
                    run(self.stream, shared, owned.clone()).await;
                    drop(place);
                }
                Err(refusal) => refuse(self.stream, refusal, shared, owned.clone()).await,
            }
            owned.connections.ended(number);
        });
        local.connections.keep(number, task);
    }
}

async fn run(stream: Stream, shared: Arc<Shared>, local: Rc<Local>) {
    match stream {
        Stream::Unix(stream) => serve(Socket(stream), (Peer::Unix, false), shared, local).await,
        Stream::Tcp(stream, peer, false) => serve(Socket(stream), (peer, false), shared, local).await,
        Stream::Tcp(stream, peer, true) => {
            if let Some(config) = shared.tls() {
                serve_tls(stream, config, peer, shared, local).await;
            }
        }
    }
}

/// Tells the client why. A handshake to do so would be too dear: with TLS the connection just closes.
async fn refuse(stream: Stream, refusal: Refusal, shared: Arc<Shared>, local: Rc<Local>) {
    match stream {
        Stream::Tcp(_, _, true) => {}
        Stream::Tcp(stream, ..) => turn_away(Socket(stream), refusal.status(), shared, local).await,
        Stream::Unix(stream) => turn_away(Socket(stream), refusal.status(), shared, local).await,
    }
}

async fn serve_tls(
    stream: Async<TcpStream>,
    config: Arc<ServerConfig>,
    peer: Peer,
    shared: Arc<Shared>,
    local: Rc<Local>,
) {
    let limit = Instant::now() + shared.settings.timeouts.tls;
    let accept = TlsAcceptor::from(config)
        .accept_with(Socket(stream), |connection| connection.set_buffer_limit(Some(TLS_BUFFER)));
    let deadline = local.watch.deadline();
    deadline.set_claim(Claim::Headless(Instant::now()));
    let handshake = deadline.limit(limit, accept).await;
    drop(deadline);
    match handshake {
        Some(Ok(stream)) => serve(stream, (peer, true), shared, local).await,
        Some(Err(error)) => log::debug!("TLS handshake failed: {error}"),
        None => log::debug!("TLS handshake took too long"),
    }
}

fn bind_tcp(listen: &Listen) -> io::Result<Async<TcpListener>> {
    let listener = if listen.host.is_empty() {
        // A socket for all IPv6 addresses takes IPv4 as well, where the kernel has IPv6.
        TcpListener::bind(("::", listen.port)).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Err(error),
            _ => TcpListener::bind(("0.0.0.0", listen.port)),
        })?
    } else {
        let addresses: Vec<_> = (listen.host.as_str(), listen.port).to_socket_addrs()?.collect();
        TcpListener::bind(addresses.as_slice())?
    };
    Async::new(listener)
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
    Ok(Listener::Unix { socket: Async::new(listener)?, file })
}
