//! Attackers: clients with other addresses of this machine than the clients that are to be served.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// The address of an attacker, by number.
pub fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1 + (number / 250) as u8, 1 + (number % 250) as u8)
}

/// A connection of that attacker.
pub fn connect_from(number: usize, to: SocketAddr) -> io::Result<TcpStream> {
    let descriptor = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&descriptor, &SocketAddr::from((address(number), 0)))?;
    connect(&descriptor, &to)?;
    let stream = TcpStream::from(descriptor);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// Connections that each have sent these bytes, a hundred from each address.
pub fn open(count: usize, to: SocketAddr, bytes: &[u8]) -> Vec<TcpStream> {
    let connected = (0..count).map(|number| {
        let mut stream = connect_from(number / 100, to)?;
        stream.write_all(bytes)?;
        Ok(stream)
    });
    connected.collect::<io::Result<_>>().expect("attackers connect")
}

/// What comes until the end, also when the connection is reset, but not more than a megabyte.
pub fn rest(stream: &TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.take(1 << 20).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The status of an answer; 0 when there is none.
pub fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
