//! Connections that wait for their next request.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::cases::SMALL;
use crate::servers::Server;
use crate::{Outcome, handshakes, usage};

/// What a server gives back when a connection falls idle, it has given back by then.
const REST: Duration = Duration::from_secs(2);

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Bytes of memory for each of so many connections that have served one request. That they are all open is made sure of by
/// a second request.
pub fn memory_each(server: &Server, tls: bool, connections: usize) -> Outcome<f64> {
    let config = handshakes::client();
    let open = || -> io::Result<Box<dyn Stream>> {
        Ok(match tls {
            true => Box::new(handshakes::connect(&config, server.address(true))?),
            false => Box::new(TcpStream::connect(server.address(false))?),
        })
    };
    // What the first connection takes once for all is not counted.
    let first = open().and_then(|mut first| request(&mut first).map(|()| first));
    let _first = first.map_err(|error| format!("the first connection: {error}"))?;
    thread::sleep(REST);
    let before = usage::memory(&server.processes)?;

    let mut streams = Vec::with_capacity(connections);
    for number in 1..=connections {
        let stream = open().and_then(|mut stream| request(&mut stream).map(|()| stream));
        streams.push(stream.map_err(|error| format!("connection {number}: {error}"))?);
    }
    thread::sleep(REST);
    let after = usage::memory(&server.processes)?;
    for (number, stream) in streams.iter_mut().enumerate() {
        request(stream).map_err(|error| format!("connection {number} was idle and is lost: {error}"))?;
    }
    Ok(after.saturating_sub(before) as f64 / connections as f64)
}

/// Asks for the small file and reads the answer.
pub fn request(stream: &mut (impl Read + Write)) -> io::Result<()> {
    // In one piece: for the rest of it the kernel would wait until the first is acknowledged.
    stream.write_all(format!("GET /{SMALL} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
    stream.flush()?;
    // The head, and a body whose length is known.
    let mut answer = Vec::with_capacity(2048);
    let mut buffer = [0; 2048];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => answer.extend_from_slice(&buffer[..bytes]),
        }
        if let Some(head) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            if !answer.starts_with(b"HTTP/1.1 200") {
                return Err(io::Error::other(String::from_utf8_lossy(&answer[..head]).into_owned()));
            }
            if answer.len() >= head + 4 + 1024 {
                return Ok(());
            }
        }
    }
}
