//! A small blocking HTTP/1.1 client: plain sockets and nothing of the code under test.

use std::fmt::{self, Write as _};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

/// How long a read or a write may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One connection, kept open from request to request.
pub struct Client {
    reader: BufReader<Box<dyn Read + Send>>,
    writer: Box<dyn Write + Send>,
}

/// An answer, its body decoded from its framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names, in lower case, and values, in the order of arrival.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// Connects over TCP.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self::of_halves(stream.try_clone()?, stream))
    }

    /// Talks over what somebody else set up, such as TLS.
    pub fn over(stream: impl Read + Write + Send + 'static) -> Self {
        let stream = Whole(Arc::new(Mutex::new(stream)));
        Self::of_halves(Whole(Arc::clone(&stream.0)), stream)
    }

    /// Connects to a Unix socket.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self::of_halves(stream.try_clone()?, stream))
    }

    fn of_halves(reader: impl Read + Send + 'static, writer: impl Write + Send + 'static) -> Self {
        Self { reader: BufReader::new(Box::new(reader)), writer: Box::new(writer) }
    }

    /// Sends a GET and reads the answer.
    pub fn get(&mut self, path: &str) -> io::Result<Response> {
        self.request("GET", path, &[], b"")
    }

    /// Posts JSON and reads the answer.
    pub fn post(&mut self, path: &str, body: &Value) -> io::Result<Response> {
        self.request("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    /// Sends a request and reads the answer. `Host` and, with a body, `Content-Length` are added to the headers.
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Response> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        if !body.is_empty() {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        self.send(&[head.as_bytes(), b"\r\n", body].concat())?;
        self.response(method)
    }

    /// Sends bytes as they are, however malformed.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)?;
        self.writer.flush()
    }

    /// Reads the answer to a request with that method; interim answers (1xx) are passed over.
    pub fn response(&mut self, method: &str) -> io::Result<Response> {
        let (status, headers) = loop {
            let status = self.line()?;
            let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
            let status: u16 = status.ok_or_else(|| invalid("no status line"))?;
            let headers = self.headers()?;
            if status >= 200 {
                break (status, headers);
            }
        };
        let mut response = Response { status, headers, body: Vec::new() };
        response.body = match response.header("content-length") {
            _ if method == "HEAD" || matches!(status, 204 | 304) => Vec::new(),
            _ if response.header("transfer-encoding") == Some("chunked") => self.chunks()?,
            Some(length) => self.exactly(length.parse().map_err(|_| invalid("Content-Length"))?)?,
            None => self.rest()?,
        };
        Ok(response)
    }

    /// Reads what comes until the peer closes.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.into()),
            None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            None => Err(invalid("a line without CRLF")),
        }
    }

    fn headers(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(headers);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid("a header without a colon"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().into()));
        }
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&self.line()?, 16).map_err(|_| invalid("a chunk's size"))?;
            if size == 0 {
                self.headers()?;
                return Ok(body);
            }
            body.extend(self.exactly(size)?);
            if !self.line()?.is_empty() {
                return Err(invalid("a chunk is longer than its size"));
            }
        }
    }

    fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// A stream that cannot be divided.
struct Whole<S>(Arc<Mutex<S>>);

impl<S: Read> Read for Whole<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(buf)
    }
}

impl<S: Write> Write for Whole<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Response {
    /// The first value of a header; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics, showing the answer, when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON in {} {}", self.status, self.text()))
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed answer: {what}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answer(bytes: &'static [u8]) -> io::Result<Response> {
        Client::over(bytes, io::sink()).response("GET")
    }

    #[test]
    fn bodies_are_decoded_from_every_framing() {
        let known = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi!").unwrap();
        let chunked =
            answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n").unwrap();
        let closed = answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nhi").unwrap();
        for response in [known, chunked, closed] {
            assert_eq!((response.status, response.text().as_str()), (200, "hi"));
        }
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error() {
        assert!(answer(b"").is_err());
        assert!(answer(b"HTTP/1.1 201 Created\r\nContent-Len").is_err());
        assert!(answer(b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\nhi").is_err());
        assert!(answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi").is_err());
    }
}
