//! Asking the helper. It blocks: an executor asks through its pool of blocking threads.

use crate::answer::{Answer, Outcome};
use crate::frame::{FrameError, Timed, read_frame, write_frame};
use crate::json::Invalid;
use crate::request::{Request, Verb};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the helper listens.
pub const HELPER_SOCKET: &str = "/run/ioto/helper.sock";

/// Time to connect and to send the request.
const SENDING: Duration = Duration::from_secs(5);

/// Asks the helper, one connection a request.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum AskError {
    /// Nobody listens, or we may not ask.
    Connect(PathBuf, io::Error),
    /// The request was sent, and the answer did not come.
    NoAnswer(PathBuf, FrameError),
    /// The answer can not be understood: the two programs are of different versions.
    Strange(Invalid),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(path, error) => {
                let hint = match error.kind() {
                    io::ErrorKind::PermissionDenied => "only root and the group ioto may ask it",
                    _ => "is ioto-helper.socket enabled, or its init script started?",
                };
                write!(f, "ioto-helper can not be reached at {}: {error}; {hint}", path.display())
            }
            Self::NoAnswer(path, error) => write!(f, "ioto-helper at {} does not answer: {error}", path.display()),
            Self::Strange(error) => write!(f, "ioto-helper gave a strange answer ({error}); is it of this version?"),
        }
    }
}

impl std::error::Error for AskError {}

impl Default for Client {
    fn default() -> Self {
        Self::at(HELPER_SOCKET)
    }
}

impl Client {
    /// A client of the helper at this socket.
    pub fn at(socket: impl AsRef<Path>) -> Self {
        Self { socket: socket.as_ref().into() }
    }

    /// Where the helper is looked for.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks, and waits for the answer: up to an hour for an installation, three minutes for all else, 10 s for a ping.
    ///
    /// A request that restarts the asker itself may end without an answer.
    pub fn ask(&self, request: &Request) -> Result<Answer, AskError> {
        let limit = match request.verb() {
            Verb::Ping => 10,
            Verb::Install => 3600,
            _ => 180,
        };
        self.ask_within(request, Duration::from_secs(limit))
    }

    /// Asks, and waits so long for the answer.
    pub fn ask_within(&self, request: &Request, limit: Duration) -> Result<Answer, AskError> {
        let stream = self.connect().map_err(|error| AskError::Connect(self.socket.clone(), error))?;
        // One who refuses us unheard has closed, so that sending fails; the answer tells why.
        let sent = write_frame(&mut Timed::new(&stream, SENDING), &request.encode());
        let no_answer = |error| AskError::NoAnswer(self.socket.clone(), error);
        let answer = read_frame(&mut Timed::new(&stream, if sent.is_ok() { limit } else { SENDING }));
        let answer = answer.map_err(|error| no_answer(sent.err().map_or(error, FrameError::Io)))?;
        Answer::decode(&answer).map_err(AskError::Strange)
    }

    /// The helper's version, when it answers.
    pub fn version(&self) -> Result<String, AskError> {
        let answer = self.ask(&Request::Ping)?;
        match answer.outcome {
            Outcome::Done => Ok(answer.text),
            _ => Err(AskError::NoAnswer(self.socket.clone(), FrameError::Io(io::Error::other(answer.text)))),
        }
    }

    /// To the helper, which is root, or to one of our own user. Whoever owns the run directory could put another there, which says
    /// "done" and does nothing.
    fn connect(&self) -> io::Result<UnixStream> {
        let stream = connect_within(&self.socket, SENDING)?;
        let (uid, _) = peer(&stream)?;
        match uid == 0 || uid == rustix::process::geteuid().as_raw() {
            true => Ok(stream),
            false => Err(io::Error::other(format!("user {uid} listens there, and not root"))),
        }
    }
}

/// Connects to a Unix socket within a time limit: the standard library would wait for ever on a full backlog.
pub fn connect_within(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // The time limit of sending is that of connecting, too [unix(7), socket(7)].
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(limit))?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// The user and the process at the other end of a connection, as the kernel tells them. The process is 0 when it is of a namespace
/// that we can not see.
pub fn peer(stream: &UnixStream) -> io::Result<(u32, i32)> {
    let credentials = getsockopt(stream, PeerCredentials)?;
    Ok((credentials.uid(), credentials.pid()))
}
