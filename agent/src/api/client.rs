//! A client of the local API, for the command line: it blocks, and asks one question a connection.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, sockopt};
use serde_json::Value;

use crate::http1::{
    self, BodyDecoder, Limits, Method, RequestHead, ResponseHead, Step, encode_request, parse_response,
};

/// Bytes of an answer, at most: a page of the database is about 1 MB.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// How long the agent may be silent, unless the caller says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks the agent at a Unix socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    patience: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No agent listens there.
    NotRunning,
    /// The socket is there and cannot be used.
    Connect(PathBuf, io::Error),
    /// It was silent for so long.
    Silent(Duration),
    /// The connection broke before the answer was complete.
    Io(io::Error),
    /// The answer is not HTTP.
    Http(http1::Error),
    /// The answer is not what it should be; the text says how.
    Answer(String),
}

impl Client {
    /// A client of the agent whose socket this is: `api.sock` in `directories.run`.
    pub fn new(socket: impl AsRef<Path>) -> Self {
        Self { socket: socket.as_ref().into(), patience: PATIENCE }
    }

    /// How long the agent may be silent.
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Sends a request and returns status and JSON of the answer; [`Value::Null`] for an answer without a body.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when nobody listens, [`Error::Silent`] when it does not answer in time. A status of 400 and above is no error here.
    pub fn request(&self, method: Method, target: &str, body: Option<&Value>) -> Result<(u16, Value), Error> {
        self.exchange(method, target, body).map_err(|error| match error {
            Error::Io(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Error::Silent(self.patience)
            }
            error => error,
        })
    }

    /// Sends a GET whose answer is a stream of events, and gives their data to `take` until that breaks or the stream ends.
    /// Returns status and JSON of an answer that is none.
    ///
    /// # Errors
    /// As [`Client::request`]; the agent sends something often enough while it runs.
    pub fn events(
        &self,
        target: &str,
        mut take: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<(u16, Value)>, Error> {
        let mut stream = self.connect()?;
        stream.write_all(&request(&Method::Get, target, "")?).map_err(Error::Io)?;
        let (head, mut received) = receive_head(&mut stream)?;
        if head.status != 200 {
            let body = receive_body(&mut stream, &head, &Method::Get, received)?;
            return Ok(Some((head.status, serde_json::from_slice(&body).unwrap_or_default())));
        }
        let mut decoder = BodyDecoder::new(head.framing(&Method::Get).map_err(Error::Http)?);
        let mut lines = Vec::new();
        loop {
            let used = match decoder.decode(&received).map_err(Error::Http)? {
                Step::Payload { start, end } => {
                    lines.extend_from_slice(&received[start..end]);
                    end
                }
                Step::More { used } => used,
                Step::End { .. } => return Ok(None),
            };
            received.drain(..used);
            while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = lines.drain(..=end).collect();
                let data = std::str::from_utf8(&line)
                    .ok()
                    .and_then(|line| line.trim_end_matches(['\r', '\n']).strip_prefix("data: "));
                if data.is_some_and(|data| take(data).is_break()) {
                    return Ok(None);
                }
            }
            if lines.len() > MAX_ANSWER {
                return Err(Error::Answer(format!("an event has more than {MAX_ANSWER} bytes")));
            }
            if received.is_empty() && read_more(&mut stream, &mut received)? == 0 {
                return Ok(None);
            }
        }
    }

    fn exchange(&self, method: Method, target: &str, body: Option<&Value>) -> Result<(u16, Value), Error> {
        let mut stream = self.connect()?;
        let request = request(&method, target, &body.map(Value::to_string).unwrap_or_default())?;
        // An answer may come, and the connection end, before all of a large request was read: then the answer counts.
        let sent = stream.write_all(&request);
        let (status, body) = receive(&mut stream, &method).map_err(|error| match sent {
            Err(sent) => Error::Io(sent),
            Ok(()) => error,
        })?;
        if body.is_empty() {
            return Ok((status, Value::Null));
        }
        match serde_json::from_slice(&body) {
            Ok(value) => Ok((status, value)),
            Err(error) => Err(Error::Answer(format!("the agent answered {status} without JSON: {error}"))),
        }
    }

    /// Connects in time: a program that stands still leaves its callers in a queue, and the standard library would wait there
    /// for ever.
    fn connect(&self) -> Result<UnixStream, Error> {
        let connect = || -> io::Result<UnixStream> {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            // Connecting is under the time limit of sending [unix(7)].
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(self.patience))?;
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(self.patience))?;
            rustix::net::connect(&socket, &SocketAddrUnix::new(&self.socket)?)?;
            Ok(UnixStream::from(socket))
        };
        connect().map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::NotRunning,
            ErrorKind::WouldBlock => Error::Io(error),
            _ => Error::Connect(self.socket.clone(), error),
        })
    }
}

fn request(method: &Method, target: &str, body: &str) -> Result<Vec<u8>, Error> {
    let mut head = RequestHead::new(method.clone(), target);
    let length = body.len().to_string();
    for (name, value) in [("host", "localhost"), ("connection", "close"), ("accept", "application/json")] {
        head.headers.append(name, value).map_err(Error::Http)?;
    }
    if !body.is_empty() {
        head.headers.append("content-type", "application/json").map_err(Error::Http)?;
        head.headers.append("content-length", &length).map_err(Error::Http)?;
    }
    let mut request = Vec::new();
    encode_request(&head, &mut request).map_err(Error::Http)?;
    request.extend_from_slice(body.as_bytes());
    Ok(request)
}

fn receive(stream: &mut UnixStream, method: &Method) -> Result<(u16, Vec<u8>), Error> {
    let (head, received) = receive_head(stream)?;
    Ok((head.status, receive_body(stream, &head, method, received)?))
}

/// The head of the answer, and what came after it.
fn receive_head(stream: &mut UnixStream) -> Result<(ResponseHead, Vec<u8>), Error> {
    let mut received = Vec::new();
    loop {
        match parse_response(&received, &Limits::default()).map_err(Error::Http)? {
            Some((head, used)) => {
                received.drain(..used);
                // A `100 Continue` comes before the answer.
                if head.status >= 200 {
                    return Ok((head, received));
                }
            }
            None if read_more(stream, &mut received)? == 0 => return Err(Error::Io(ErrorKind::UnexpectedEof.into())),
            None => {}
        }
    }
}

fn receive_body(
    stream: &mut UnixStream,
    head: &ResponseHead,
    method: &Method,
    mut received: Vec<u8>,
) -> Result<Vec<u8>, Error> {
    let mut decoder = BodyDecoder::new(head.framing(method).map_err(Error::Http)?);
    let mut body = Vec::new();
    loop {
        let used = match decoder.decode(&received).map_err(Error::Http)? {
            Step::Payload { start, end } => {
                body.extend_from_slice(&received[start..end]);
                end
            }
            Step::More { used } => used,
            Step::End { .. } => return Ok(body),
        };
        received.drain(..used);
        if body.len() > MAX_ANSWER {
            return Err(Error::Answer(format!("the answer has more than {MAX_ANSWER} bytes")));
        }
        if received.is_empty() && !decoder.is_done() && read_more(stream, &mut received)? == 0 {
            decoder.end_of_input().map_err(Error::Http)?;
            return Ok(body);
        }
    }
}

fn read_more(stream: &mut UnixStream, received: &mut Vec<u8>) -> Result<usize, Error> {
    let mut buffer = [0; 8192];
    let count = stream.read(&mut buffer).map_err(Error::Io)?;
    received.extend_from_slice(&buffer[..count]);
    Ok(count)
}

/// Writes text as part of a path or as a value of a query, percent-encoded (RFC 3986 §2.1). A slash stays: the server takes no
/// encoded ones, because others would take them for something else.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte))
            }
            byte => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotRunning => f.write_str("no agent is running; start it with `ioto run`"),
            Error::Connect(path, error) if error.kind() == ErrorKind::PermissionDenied => {
                write!(f, "{}: permission denied; run this as root or as the user of the agent", path.display())
            }
            Error::Connect(path, error) => write!(f, "{}: cannot connect: {error}", path.display()),
            Error::Silent(time) => write!(f, "the agent did not answer within {} s", time.as_secs()),
            Error::Io(error) => write!(f, "the connection to the agent broke: {error}"),
            Error::Http(error) => write!(f, "the agent and this program do not understand each other: {error}"),
            Error::Answer(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Connect(_, error) | Error::Io(error) => Some(error),
            Error::Http(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn ask(answer: &'static [u8]) -> Result<(u16, Value), Error> {
        let path = std::env::temp_dir().join(format!("ioto-client-{}-{}", std::process::id(), answer.len()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let count = stream.read(&mut request).unwrap();
            stream.write_all(answer).unwrap();
            String::from_utf8(request[..count].to_vec()).unwrap()
        });
        let result = Client::new(&path).request(Method::Post, "/x", Some(&Value::from(1)));
        let request = server.join().unwrap();
        assert!(request.starts_with("POST /x HTTP/1.1\r\n") && request.ends_with("\r\n\r\n1"), "{request}");
        std::fs::remove_file(path).unwrap();
        result
    }

    #[test]
    fn answers_of_every_framing_are_read() {
        for answer in [
            &b"HTTP/1.1 201 Created\r\nContent-Length: 7\r\n\r\n{\"a\":1}"[..],
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{\"a\":1}\r\n0\r\n\r\n",
            b"HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n{\"a\":1}",
        ] {
            assert_eq!(ask(answer).unwrap(), (201, serde_json::json!({"a": 1})));
        }
        assert_eq!(ask(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(), (204, Value::Null));
    }

    #[test]
    fn an_answer_that_is_cut_off_is_an_error() {
        assert!(matches!(ask(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"), Err(Error::Http(_))));
        assert!(matches!(ask(b"HTTP/1.1 200"), Err(Error::Io(_))));
        assert!(matches!(ask(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{"), Err(Error::Answer(_))));
    }

    #[test]
    fn one_that_is_silent_is_not_waited_for() {
        let path = std::env::temp_dir().join(format!("ioto-client-{}-silent", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let client = Client::new(&path).patience(Duration::from_millis(50));
        // The first waits for its answer, those that follow for a place in the queue.
        let _queued: Vec<_> = (0..3).map(|_| client.connect()).collect();
        assert!(matches!(client.request(Method::Get, "/", None), Err(Error::Silent(_))));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn nobody_at_the_socket_is_told_apart() {
        let client = Client::new("/nowhere/api.sock");
        assert!(matches!(client.request(Method::Get, "/", None), Err(Error::NotRunning)));
    }

    #[test]
    fn all_but_plain_characters_and_slashes_are_encoded() {
        assert_eq!(percent_encode("a/b ä~%"), "a/b%20%C3%A4~%25");
    }
}
