//! Connections through a proxy: HTTP CONNECT (RFC 9110 §9.3.6) and SOCKS5 (RFC 1928), which also looks the name up.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::FutureExt;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpStream;

use super::{Error, Fault, Step, base64, connect_tcp};
#[cfg(feature = "tls")]
use super::{Stream, TlsClient};
use crate::config::{OutboundProxy, Secret};

/// Bytes of the head of an answer to CONNECT; squid writes less than 1 KB.
const MAX_HEAD: usize = 16 * 1024;

/// Bytes of a user name or password in SOCKS5 (RFC 1929), and of a host name (RFC 1928).
const MAX_SOCKS_TEXT: usize = 255;

/// How to speak to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http,
    Socks5,
}

/// A proxy: where it is, how it is spoken to, and who we are there.
///
/// It is always the proxy that looks up the name of the destination: a device behind one often has no DNS for the world.
///
/// ```
/// use ioto::net::Proxy;
///
/// let proxy: Proxy = "http://gate:3128".parse()?;
/// assert_eq!(proxy.to_string(), "http://gate:3128");
/// let proxy: Proxy = "socks5://user:secret@10.0.0.1".parse()?;
/// assert_eq!(proxy.to_string(), "socks5://10.0.0.1:1080");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    protocol: Protocol,
    host: String,
    port: u16,
    login: Option<(String, Secret)>,
}

impl Proxy {
    /// What a section `proxy` of the configuration says, if it says anything.
    ///
    /// # Errors
    /// What was expected, as when a text is read.
    pub fn from_config(config: &OutboundProxy) -> Result<Option<Self>, String> {
        if config.url.is_empty() {
            return Ok(None);
        }
        let proxy: Self = config.url.parse()?;
        Ok(Some(match &config.username {
            Some(user) => proxy.login(user, config.password.clone()),
            None => proxy,
        }))
    }

    /// The same proxy, with a user name and a password (Basic for HTTP, RFC 1929 for SOCKS5).
    pub fn login(mut self, user: impl Into<String>, password: Secret) -> Self {
        self.login = Some((user.into(), password));
        self
    }

    /// Connects to a host through the proxy. `timeout` bounds all of it.
    ///
    /// # Errors
    /// The proxy cannot be reached; [`Error::Proxy`] when it does not let us through.
    pub async fn connect(&self, host: &str, port: u16, timeout: Duration) -> Result<TcpStream, Error> {
        let start = Instant::now();
        let mut stream = connect_tcp(&self.host, self.port, timeout).await?;
        let too_late = async {
            Timer::after(timeout.saturating_sub(start.elapsed())).await;
            Err(Error::Timeout { host: self.host.clone(), port: self.port, step: Step::Proxy, after: timeout })
        };
        let introduction = async {
            let through = match self.protocol {
                Protocol::Http => self.http(&mut stream, host, port).await,
                Protocol::Socks5 => self.socks5(&mut stream, host, port).await,
            };
            through.map_err(|fault| Error::Proxy { proxy: self.to_string(), fault })
        };
        introduction.or(too_late).await?;
        Ok(stream)
    }

    /// Whether it takes requests of HTTP without TLS as they are, with the whole URL in the request line (RFC 9112 §3.2.2).
    /// Proxies often allow CONNECT to port 443 alone.
    pub fn forwards(&self) -> bool {
        self.protocol == Protocol::Http
    }

    /// Connects to the proxy itself.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn reach(&self, timeout: Duration) -> Result<TcpStream, Error> {
        connect_tcp(&self.host, self.port, timeout).await
    }

    /// The value of `Proxy-Authorization`.
    pub fn authorization(&self) -> Option<String> {
        let (user, password) = self.login.as_ref()?;
        Some(format!("Basic {}", base64::encode(format!("{user}:{}", password.expose()).as_bytes())))
    }

    async fn http(&self, stream: &mut TcpStream, host: &str, port: u16) -> Result<(), Fault> {
        if !host.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Fault::Host(host.into()));
        }
        let place = match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let mut request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
        if let Some(authorization) = self.authorization() {
            request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        let head = receive_head(stream).await?;
        let (status, reason) = status_of(&head).ok_or(Fault::NotHttp)?;
        match status {
            200..=299 => Ok(()),
            407 => Err(Fault::Login),
            _ => Err(Fault::Status(status, reason)),
        }
    }

    async fn socks5(&self, stream: &mut TcpStream, host: &str, port: u16) -> Result<(), Fault> {
        // Offered: no authentication (0), and user name and password (2) when we have them.
        let methods: &[u8] = if self.login.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] };
        stream.write_all(methods).await?;
        let mut choice = [0; 2];
        stream.read_exact(&mut choice).await?;
        match (choice, &self.login) {
            ([5, 0], _) => {}
            ([5, 2], Some((user, password))) => {
                let mut login = vec![1];
                put_text(&mut login, user)?;
                put_text(&mut login, password.expose())?;
                stream.write_all(&login).await?;
                let mut verdict = [0; 2];
                stream.read_exact(&mut verdict).await?;
                if verdict[1] != 0 {
                    return Err(Fault::Login);
                }
            }
            ([5, 0xff], _) => return Err(Fault::Login),
            _ => return Err(Fault::NotSocks),
        }
        stream.write_all(&socks5_request(host, port)?).await?;
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let [version, reply, _, kind] = head;
        if version != 5 {
            return Err(Fault::NotSocks);
        }
        if reply != 0 {
            return Err(Fault::Reply(reply));
        }
        // The address at which the proxy is seen; nobody needs it, but it must be taken from the stream.
        let length = match kind {
            1 => 4,
            4 => 16,
            3 => {
                let mut length = [0];
                stream.read_exact(&mut length).await?;
                usize::from(length[0])
            }
            _ => return Err(Fault::NotSocks),
        };
        let mut bound = [0; MAX_SOCKS_TEXT + 2];
        stream.read_exact(&mut bound[..length + 2]).await?;
        Ok(())
    }
}

/// Connects as [`connect`](super::connect), through a proxy when one is given.
#[cfg(feature = "tls")]
pub async fn connect_through(
    proxy: Option<&Proxy>,
    host: &str,
    port: u16,
    tls: Option<&TlsClient>,
    timeout: Duration,
) -> Result<Stream, Error> {
    let Some(proxy) = proxy else { return super::connect(host, port, tls, timeout).await };
    let start = Instant::now();
    let tcp = proxy.connect(host, port, timeout).await?;
    match tls {
        None => Ok(tcp.into()),
        Some(tls) => tls.handshake(host, tcp, timeout.saturating_sub(start.elapsed())).await,
    }
}

/// Takes the head of an answer and not a byte more: what follows belongs to the destination.
async fn receive_head(stream: &mut TcpStream) -> Result<Vec<u8>, Fault> {
    let mut head = Vec::new();
    let mut seen = [0; 2048];
    loop {
        let count = stream.peek(&mut seen).await?;
        if count == 0 {
            return Err(Fault::Hangup);
        }
        // The blank line may have begun in what was taken before.
        let overlap = head.len().min(3);
        let joined = [&head[head.len() - overlap..], &seen[..count]].concat();
        let end = joined.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4 - overlap);
        let wanted = end.unwrap_or(count);
        stream.read_exact(&mut seen[..wanted]).await?;
        head.extend_from_slice(&seen[..wanted]);
        if end.is_some() {
            return Ok(head);
        }
        if head.len() > MAX_HEAD {
            return Err(Fault::NotHttp);
        }
    }
}

/// Status and reason of `HTTP/1.1 200 OK`.
fn status_of(head: &[u8]) -> Option<(u16, String)> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let line = String::from_utf8_lossy(line);
    let rest = line.strip_prefix("HTTP/1.0 ").or_else(|| line.strip_prefix("HTTP/1.1 "))?;
    let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let known = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    let status = status.parse().ok().filter(|_| known)?;
    Some((status, reason.chars().filter(|c| !c.is_control()).take(80).collect()))
}

fn socks5_request(host: &str, port: u16) -> Result<Vec<u8>, Fault> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let mut request = vec![5, 1, 0];
    match bare.parse() {
        Ok(IpAddr::V4(address)) => {
            request.push(1);
            request.extend_from_slice(&address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            request.push(4);
            request.extend_from_slice(&address.octets());
        }
        Err(_) if bare.is_empty() || bare.len() > MAX_SOCKS_TEXT => return Err(Fault::Host(host.into())),
        Err(_) => {
            request.push(3);
            put_text(&mut request, bare)?;
        }
    }
    request.extend_from_slice(&port.to_be_bytes());
    Ok(request)
}

fn put_text(bytes: &mut Vec<u8>, text: &str) -> Result<(), Fault> {
    let length = u8::try_from(text.len()).map_err(|_| Fault::TooLong)?;
    bytes.push(length);
    bytes.extend_from_slice(text.as_bytes());
    Ok(())
}

impl std::str::FromStr for Proxy {
    type Err = String;

    /// `http://HOST:PORT` or `socks5://HOST:PORT`, also with `USER:PASSWORD@`, both percent-encoded; the ports are 8080 and
    /// 1080 when none is given. `socks5h` is the same as `socks5`. Errors never show the password.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a proxy as 'http://HOST:PORT' or 'socks5://HOST:PORT'".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (protocol, default) = match scheme {
            "http" => (Protocol::Http, 8080),
            "socks5" | "socks5h" => (Protocol::Socks5, 1080),
            _ => return Err(wrong()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (host, port) = match place.rsplit_once(':') {
            // The colons of an IPv6 address are inside brackets.
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?)
            }
            _ => (place, default),
        };
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let good = match inner {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => {
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                !host.is_empty() && host.len() <= MAX_SOCKS_TEXT && host.bytes().all(allowed)
            }
        };
        if !good {
            return Err(wrong());
        }
        let login = login.map(|login| {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            let decoded =
                |text| decode(text).ok_or("the user or the password of the proxy is not percent-encoded UTF-8");
            Ok::<_, &str>((decoded(user)?, Secret::new(decoded(password)?)))
        });
        Ok(Self { protocol, host: inner.unwrap_or(host).into(), port, login: login.transpose()? })
    }
}

/// Undoes percent-encoding (RFC 3986 §2.1).
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                (digit(rest.next())? << 4 | digit(rest.next())?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            Protocol::Http => "http",
            Protocol::Socks5 => "socks5",
        };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Hangup,
            _ => Self::Io(error),
        }
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
