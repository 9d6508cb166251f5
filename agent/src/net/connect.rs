//! From a host name to a connection.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;
#[cfg(feature = "tls")]
use std::time::Instant;

use smol::channel;
use smol::future::{FutureExt, pending};
use smol::net::TcpStream;
use smol::stream;

use super::race::race;
use super::resolve::resolve;
use super::{Deadline, Error, Step};
#[cfg(feature = "tls")]
use super::{Stream, TlsClient};

/// Connects to a host name or IP address (IPv6 with or without brackets), with TLS when a client is given.
///
/// `timeout` bounds all of it: the name look-up, the addresses, which are tried in turn, and the TLS handshake.
#[cfg(feature = "tls")]
pub async fn connect(host: &str, port: u16, tls: Option<&TlsClient>, timeout: Duration) -> Result<Stream, Error> {
    let start = Instant::now();
    let tcp = connect_tcp(host, port, timeout).await?;
    match tls {
        None => Ok(tcp.into()),
        Some(tls) => tls.handshake(host, tcp, timeout.saturating_sub(start.elapsed())).await,
    }
}

/// Connects over plain TCP, small writes are sent at once (`TCP_NODELAY`).
///
/// The look-up runs on threads of its own. The addresses of a name are tried in the order of the resolver (RFC 6724), IPv6 and
/// IPv4 in turns, the next one after a quarter of a second or when one fails; the first that answers is taken (RFC 8305). When
/// name servers answer for one of the families alone, the other is not waited for.
pub async fn connect_tcp(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, Error> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return connect_first(host, port, &[SocketAddr::new(address, port)], timeout).await;
    }
    let (tell, told) = channel::unbounded();
    let is_found = Cell::new(false);
    let look_up = async {
        let found = |addresses| {
            is_found.set(true);
            let _ = tell.try_send(addresses);
        };
        let outcome = resolve(bare, port, found).await;
        match outcome {
            Err(source) if !is_found.get() => Err(Error::Resolve { host: host.into(), source }),
            // The race is told that this was all.
            _ => {
                tell.close();
                pending().await
            }
        }
    };
    let told = pin!(told);
    let connecting = connect_any(host, port, told, timeout);
    let too_late = async {
        Deadline::after(timeout).await;
        let step = if is_found.get() { Step::Connect } else { Step::Resolve };
        Err(Error::Timeout { host: host.into(), port, step, after: timeout })
    };
    connecting.or(look_up).or(too_late).await
}

/// Connects to the first of these addresses of a host that answers, as [`connect_tcp`] does.
pub async fn connect_first(
    host: &str,
    port: u16,
    addresses: &[SocketAddr],
    timeout: Duration,
) -> Result<TcpStream, Error> {
    let connecting = connect_any(host, port, stream::once(addresses.to_vec()), timeout);
    connecting.or(elapsed(host, port, Step::Connect, timeout)).await
}

async fn connect_any(
    host: &str,
    port: u16,
    found: impl stream::Stream<Item = Vec<SocketAddr>> + Unpin,
    timeout: Duration,
) -> Result<TcpStream, Error> {
    race(found, attempt).await.map_err(|source| match source.kind() {
        // The kernel's patience has ended before ours.
        io::ErrorKind::TimedOut => Error::Timeout { host: host.into(), port, step: Step::Connect, after: timeout },
        _ => Error::Connect { host: host.into(), port, source },
    })
}

/// Ends with the timeout of a step, to race against the step.
pub(super) async fn elapsed<T>(host: &str, port: u16, step: Step, after: Duration) -> Result<T, Error> {
    Deadline::after(after).await;
    Err(Error::Timeout { host: host.into(), port, step, after })
}

async fn attempt(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(all(test, feature = "tls"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::TcpListener;

    use smol::io::AsyncReadExt;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn names_and_addresses_with_and_without_brackets_connect() {
        // `localhost` often has ::1 first, where nothing listens: the next address must be tried.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            let mut stream = smol::block_on(connect(host, port, None, LONG)).unwrap();
            assert_eq!(stream.peer().unwrap().port(), port);
            drop(listener.accept().unwrap());
            assert_eq!(smol::block_on(stream.read(&mut [0; 8])).unwrap(), 0);
        }
        if let Ok(listener) = TcpListener::bind("[::1]:0") {
            let port = listener.local_addr().unwrap().port();
            smol::block_on(connect("::1", port, None, LONG)).unwrap();
            smol::block_on(connect("[::1]", port, None, LONG)).unwrap();
        }
    }

    /// An address that answers nothing: the queue of its listener is full, so the kernel drops who knocks.
    fn black_hole() -> (Vec<std::net::TcpStream>, rustix::fd::OwnedFd, SocketAddr) {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
        let v6 = socket(AddressFamily::INET6, SocketType::STREAM, None).ok();
        let v6 = v6.filter(|v6| bind(v6, &"[::1]:0".parse::<SocketAddr>().unwrap()).is_ok());
        let hole = v6.unwrap_or_else(|| {
            let v4 = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            bind(&v4, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
            v4
        });
        listen(&hole, 0).unwrap();
        let address = SocketAddr::try_from(getsockname(&hole).unwrap()).unwrap();
        let soon = Duration::from_millis(300);
        let knock = || std::net::TcpStream::connect_timeout(&address, soon).ok();
        let waiting: Vec<_> = std::iter::from_fn(knock).take(100).collect();
        assert!(waiting.len() < 100);
        (waiting, hole, address)
    }

    #[test]
    fn an_address_that_answers_nothing_costs_a_quarter_of_a_second() {
        let (_waiting, _hole, dead) = black_hole();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let alive = listener.local_addr().unwrap();
        let start = Instant::now();
        let stream = smol::block_on(connect_first("both.example", 1, &[dead, alive], LONG)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), alive);
        assert!((200..3000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        let soon = Duration::from_millis(400);
        let error = smol::block_on(connect_first("dead.example", 1, &[dead], soon)).unwrap_err();
        assert!(matches!(error, Error::Timeout { step: Step::Connect, .. }), "{error}");
        assert!(error.to_string().contains("dead.example port 1"), "{error}");
    }

    #[test]
    fn a_small_write_is_not_held_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = smol::block_on(connect_tcp("127.0.0.1", port, LONG)).unwrap();
        assert!(stream.nodelay().unwrap());
    }

    #[test]
    fn a_refused_connection_says_where_and_what_to_do() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = smol::block_on(connect("127.0.0.1", port, None, LONG)).unwrap_err();
        assert!(error.is_transient());
        let text = error.to_string();
        assert!(text.contains(&format!("127.0.0.1 port {port}")) && text.contains("refused"), "{text}");
    }

    #[test]
    fn what_can_be_no_name_is_a_resolver_error() {
        let error = smol::block_on(connect("not a name", 80, None, LONG)).unwrap_err();
        assert!(matches!(error, Error::Resolve { .. }), "{error}");
    }

    #[test]
    fn a_server_that_never_answers_the_handshake_is_given_up_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = TlsClient::from(std::sync::Arc::new(
            rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        ));
        let start = Instant::now();
        let error = smol::block_on(connect("localhost", port, Some(&tls), Duration::from_millis(200))).unwrap_err();
        assert!(matches!(error, Error::Timeout { step: Step::Handshake, .. }), "{error}");
        assert!(error.is_transient() && start.elapsed() < Duration::from_secs(5));
    }
}
