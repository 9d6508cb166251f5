//! From a host name to a connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::FutureExt;
use smol::net::{TcpStream, resolve};

use super::{Error, Step};
#[cfg(feature = "tls")]
use super::{Stream, TlsClient};

/// Addresses of one host that are tried. A name with more of them is a load balancer: the first ones do.
const ADDRESSES: usize = 8;

/// The share of the time that one address gets although others wait.
const MIN_SHARE: Duration = Duration::from_millis(250);

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
/// The addresses of a name are tried in the order of the resolver (RFC 6724); each gets an even share of the time that is
/// left, so that one dead address does not use it all. The look-up runs on the pool of blocking threads.
pub async fn connect_tcp(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, Error> {
    let start = Instant::now();
    let addresses = addresses_of(host, port, timeout).await?;
    let mut refusal = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (tried, address) in addresses.iter().enumerate() {
        let left = timeout.saturating_sub(start.elapsed());
        let share = (left / (addresses.len() - tried) as u32).max(MIN_SHARE).min(left);
        match attempt(*address, share).await {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                log::debug!("{host} at {address}: {error}");
                refusal = error;
            }
        }
    }
    let host = host.into();
    match refusal.kind() {
        io::ErrorKind::TimedOut => Err(Error::Timeout { host, port, step: Step::Connect, after: timeout }),
        _ => Err(Error::Connect { host, port, source: refusal }),
    }
}

/// Ends with the timeout of a step, to race against the step.
pub(super) async fn elapsed<T>(host: &str, port: u16, step: Step, after: Duration) -> Result<T, Error> {
    Timer::after(after).await;
    Err(Error::Timeout { host: host.into(), port, step, after })
}

async fn addresses_of(host: &str, port: u16, timeout: Duration) -> Result<Vec<SocketAddr>, Error> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let look_up = async { resolve((bare, port)).await.map_err(|source| Error::Resolve { host: host.into(), source }) };
    let mut addresses = look_up.or(elapsed(host, port, Step::Resolve, timeout)).await?;
    addresses.truncate(ADDRESSES);
    Ok(addresses)
}

async fn attempt(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let too_late = async {
        Timer::after(timeout).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    let stream = TcpStream::connect(address).or(too_late).await?;
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
