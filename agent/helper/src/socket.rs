//! The socket we listen on: given by the service manager, or made here.

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use nix::unistd::{Group, setegid};
use rustix::fs::{AtFlags, Mode, OFlags, fchmod, open, unlinkat};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, bind,
    listen, recvmsg, socket_with, sockopt,
};
use std::env;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

const DIRECTORY: &str = "/run/ioto";
const NAME: &str = "helper.sock";

/// The first descriptor that the service manager gives [sd_listen_fds(3)].
const FIRST: i32 = 3;

/// The listener, and whether the service manager keeps it while we are away.
pub fn listener() -> Result<(UnixListener, bool), String> {
    let for_us = env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    let listener = match (for_us, env::var("LISTEN_FDS").as_deref()) {
        (true, Ok("1")) => {
            (given().map_err(|error| format!("the service manager's socket can not be used: {error}"))?, true)
        }
        (true, Ok(count)) => return Err(format!("the service manager gave {count} sockets; exactly one is expected")),
        _ => {
            let made = make().map_err(|error| format!("can not listen at {DIRECTORY}/{NAME}: {error}"))?;
            (made, false)
        }
    };
    listener.0.set_nonblocking(true).map_err(|error| error.to_string())?;
    Ok(listener)
}

/// A number of a descriptor becomes an owned descriptor by a message from us to us: no unsafe code is needed for it.
fn given() -> io::Result<UnixListener> {
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
    let socket: OwnedFd = socket.ok_or_else(|| io::Error::other("descriptor 3 is not open"))?;
    // The one with the number would be inherited by every child.
    nix::unistd::close(FIRST)?;
    let unix = sockopt::socket_domain(&socket)? == AddressFamily::UNIX;
    let stream = sockopt::socket_type(&socket)? == SocketType::STREAM;
    match unix && stream && sockopt::socket_acceptconn(&socket)? {
        true => Ok(UnixListener::from(socket)),
        false => Err(io::Error::other("it is not a listening Unix stream socket")),
    }
}

/// Makes the socket, mode 0660 root:ioto. The directory belongs to the user `ioto`, so nothing in it is trusted: no path in
/// it is changed after it was made, because by then it could be another file. Mode and group are right from the beginning.
fn make() -> io::Result<UnixListener> {
    let directory = open(DIRECTORY, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    match unlinkat(&directory, NAME, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // The mode of the socket's file is this one without the umask [net/unix/af_unix.c, unix_bind].
    fchmod(&socket, Mode::from_raw_mode(0o660))?;
    let group = Group::from_name("ioto").ok().flatten();
    let own = nix::unistd::getegid();
    let umask = rustix::process::umask(Mode::from_raw_mode(0o117));
    if let Some(group) = &group {
        setegid(group.gid)?;
    }
    let path = format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd());
    let bound = SocketAddrUnix::new(path).and_then(|address| bind(&socket, &address));
    setegid(own)?;
    rustix::process::umask(umask);
    bound?;
    listen(&socket, 16)?;
    Ok(UnixListener::from(socket))
}
