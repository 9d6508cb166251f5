//! tiny_http, where nobody but the front reaches it.
//!
//! By itself it gives every connection a thread, for ever, starves connections when there are many, and stops accepting for
//! good at the first error. So it gets a few connections, all from the front, and its listener is shut down before the first
//! client is served: then those errors have nowhere to come from.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};
use tiny_http::{Header, Request, Response, Server};

use crate::answers::{Answer, Answers};

/// Connections, each with a thread that reads and one that answers. tiny_http has four threads from the start; with no
/// more connections than that it starves none.
pub const CONNECTIONS: usize = 3;
/// How long a thread of the same process may take for its first answer.
const START: Duration = Duration::from_secs(10);
/// Of the threads that answer.
const STACK: usize = 256 * 1024;
/// What the front says of a request.
const SECRET: &str = "X-Front";
const USER: &str = "X-User";

/// A connection of the front to tiny_http.
#[derive(Debug)]
pub struct Connection {
    pub stream: UnixStream,
    secret: Arc<str>,
}

/// Starts the threads; returns the only connections that they will ever have, not blocking.
pub fn start(answers: Answers) -> Result<Vec<Connection>, String> {
    begin(answers).map_err(|error| format!("the inner server does not start: {error}"))
}

fn begin(answers: Answers) -> io::Result<Vec<Connection>> {
    let secret = secret()?;
    // The kernel gives it a name that is not in the file system: there is no directory that we could write.
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed())?;
    rustix::net::listen(&socket, CONNECTIONS as i32)?;
    let listener = UnixListener::from(socket);
    let address = listener.local_addr()?;
    let handle = listener.try_clone()?;
    let server = Server::from_listener(listener, None).map_err(io::Error::other)?;
    // Never dropped: its end would connect to a path that it does not have.
    let server: &'static Server = Box::leak(Box::new(server));

    let answers = Arc::new(answers);
    for number in 0..CONNECTIONS {
        let (answers, secret) = (answers.clone(), secret.clone());
        let serve = move || serve(server, &answers, &secret);
        thread::Builder::new().name(format!("answer {number}")).stack_size(STACK).spawn(serve)?;
    }
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = UnixStream::connect_addr(&address)?;
        let connection = Connection { stream, secret: secret.clone() };
        connection.try_out()?;
        connections.push(connection);
    }
    // Its accepting thread ends with an error, which is what is wanted: nobody else can connect any more.
    rustix::net::shutdown(&handle, Shutdown::Read)?;
    Ok(connections)
}

fn serve(server: &Server, answers: &Answers, secret: &str) {
    loop {
        // The one error is the end of the accepting thread.
        let Ok(request) = server.recv() else { continue };
        let answer = match field(&request, SECRET) == Some(secret) {
            true => answers.answer(
                request.method(),
                request.url(),
                field(&request, USER).and_then(|user| user.parse().ok()),
            ),
            false => Answer::error(403, "only through the front"),
        };
        // A connection that broke is found by the front.
        let _ = request.respond(response(&answer));
    }
}

fn field<'a>(request: &'a Request, name: &'static str) -> Option<&'a str> {
    request.headers().iter().find(|header| header.field.equiv(name)).map(|header| header.value.as_str())
}

fn response(answer: &Answer) -> Response<io::Cursor<Vec<u8>>> {
    let fields = [("Server", "ioto-rescue"), ("Content-Type", "application/json"), ("Cache-Control", "no-store")];
    let fields = fields.into_iter().chain(answer.field);
    let headers = fields.filter_map(|(name, value)| Header::from_bytes(name, value).ok()).collect();
    let body = format!("{}\n", answer.body).into_bytes();
    let length = body.len();
    let response = Response::new(answer.status.into(), headers, io::Cursor::new(body), Some(length), None);
    // Never in chunks: the front goes by the length.
    response.with_chunked_threshold(usize::MAX)
}

impl Connection {
    /// A request as the front sends it: checked, and without anything that came from a client but method and target.
    pub fn request(&self, method: &str, target: &str, user: Option<u32>) -> String {
        let user = user.map(|user| format!("{USER}: {user}\r\n")).unwrap_or_default();
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{SECRET}: {}\r\n{user}\r\n", self.secret)
    }

    /// One request there and back, so that its thread is known to be there.
    fn try_out(&self) -> io::Result<()> {
        let mut stream = &self.stream;
        stream.set_read_timeout(Some(START))?;
        stream.write_all(self.request("GET", "/", None).as_bytes())?;
        let mut answer = Vec::new();
        let mut buffer = [0; 1024];
        while reply(&answer)?.is_none() {
            match stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => answer.extend_from_slice(&buffer[..count]),
            }
        }
        stream.set_nonblocking(true)
    }
}

/// An answer of tiny_http: the status line, the fields with the empty line, and the body.
#[derive(Debug)]
pub struct Reply<'a> {
    pub status_line: &'a [u8],
    pub fields: &'a [u8],
    pub body: &'a [u8],
}

/// Reads an answer; nothing, while it is not complete.
pub fn reply(bytes: &[u8]) -> io::Result<Option<Reply<'_>>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = bytes.split_at(end + 4);
    let text = String::from_utf8_lossy(head);
    let length = text.lines().filter_map(|line| line.split_once(": "));
    let length = length
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .find_map(|(_, value)| value.parse().ok());
    let length: usize =
        length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an answer without a length"))?;
    let line = text.find("\r\n").map_or(head.len(), |line| line + 2);
    if body.len() > length {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more than an answer"));
    }
    let (status_line, fields) = head.split_at(line);
    Ok((body.len() == length).then_some(Reply { status_line, fields, body }))
}

/// 128 bits that nobody else knows.
fn secret() -> io::Result<Arc<str>> {
    let mut bytes = [0; 16];
    // The kernel gives so few at once.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
}
