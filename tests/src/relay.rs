//! Requests and answers of HTTP as a proxy of the tests passes them on: read whole, changed, sent.

use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::SystemTime;

use ioto::net::http_date;

/// A request as it came: the lines of its head, and its body of `Content-Length` bytes.
#[derive(Clone, Debug)]
pub struct Request {
    head: Vec<String>,
    body: Vec<u8>,
}

impl Request {
    /// Reads the next one of a connection. Its end is an error as well.
    pub fn read(reader: &mut impl BufRead) -> io::Result<Self> {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_owned()),
            }
        }
        let mut request = Self { head, body: Vec::new() };
        let length: usize = request.field("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        request.body.resize(length, 0);
        reader.read_exact(&mut request.body)?;
        Ok(request)
    }

    /// The value of a header field.
    pub fn field(&self, wanted: &str) -> Option<&str> {
        let fields = self.head.iter().filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The bytes that ask a server for one answer and the end of the connection.
    pub fn bytes(&self) -> Vec<u8> {
        let fields = self.head.iter().filter(|line| !is_connection(line));
        let head: String = fields.map(|line| format!("{line}\r\n")).collect();
        [head.as_bytes(), b"Connection: close\r\n\r\n", &self.body].concat()
    }

    /// The answer of a server to it.
    pub fn forward(&self, server: SocketAddr) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(server)?;
        stream.write_all(&self.bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

fn is_connection(line: &str) -> bool {
    line.to_ascii_lowercase().starts_with("connection:")
}

/// An answer that claims to be from this time, and says nothing of how the connection goes on.
pub fn dated(answer: &[u8], now: SystemTime) -> Vec<u8> {
    let find = |wanted: &[u8]| answer.windows(wanted.len()).position(|found| found == wanted);
    let first = find(b"\r\n").map_or(answer.len(), |at| at + 2);
    let last = find(b"\r\n\r\n").map_or(answer.len(), |at| at + 2).max(first);
    let fields = String::from_utf8_lossy(&answer[first..last]).into_owned();
    let kept = fields.split_inclusive("\r\n").filter(|line| !line.starts_with("Date:") && !is_connection(line));
    let kept: String = kept.collect();
    [&answer[..first], format!("Date: {}\r\n{kept}", http_date(now)).as_bytes(), &answer[last..]].concat()
}
