//! The socket that the service manager passes to a program it starts.

use std::env;
use std::io::{self, Error, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketType, recvmsg, sockopt};

/// The first descriptor that is passed [sd_listen_fds(3)].
const FIRST: i32 = 3;

/// The listening Unix socket that was passed to this process; `None` if none was. To be asked once, at the start: the
/// descriptor is taken.
pub fn passed() -> Option<io::Result<UnixListener>> {
    let is_ours = env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    match env::var("LISTEN_FDS").as_deref() {
        Ok("1") if is_ours => Some(take()),
        Ok(count) if is_ours => {
            Some(Err(Error::other(format!("{count} sockets were passed; exactly one is expected"))))
        }
        _ => None,
    }
}

/// A number of a descriptor becomes an owned descriptor by a message from us to us: no unsafe code is needed for it.
fn take() -> io::Result<UnixListener> {
    let (to, from) = UnixStream::pair()?;
    let numbers = [FIRST];
    let message = [ControlMessage::ScmRights(&numbers)];
    sendmsg::<UnixAddr>(to.as_raw_fd(), &[IoSlice::new(b"x")], &message, MsgFlags::empty(), None)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(&from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let socket = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let socket: OwnedFd = socket.ok_or_else(|| Error::other("descriptor 3 is not open"))?;
    // The one with the number would be inherited by every child.
    nix::unistd::close(FIRST)?;
    let unix = sockopt::socket_domain(&socket)? == AddressFamily::UNIX;
    let stream = sockopt::socket_type(&socket)? == SocketType::STREAM;
    match unix && stream && sockopt::socket_acceptconn(&socket)? {
        true => Ok(UnixListener::from(socket)),
        false => Err(Error::other("it is not a listening Unix stream socket")),
    }
}
