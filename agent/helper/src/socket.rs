//! The socket we listen on: given by the service manager, or made here.

use nix::unistd::{Group, setegid};
use rustix::fs::{AtFlags, Mode, OFlags, fchmod, open, unlinkat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

const DIRECTORY: &str = "/run/ioto";
const NAME: &str = "helper.sock";

/// The listener, and whether the service manager keeps it while we are away.
pub fn listener() -> Result<(UnixListener, bool), String> {
    let listener = match ioto_wire::passed() {
        Some(listener) => {
            (listener.map_err(|error| format!("the service manager's socket can not be used: {error}"))?, true)
        }
        None => {
            let made = make().map_err(|error| format!("can not listen at {DIRECTORY}/{NAME}: {error}"))?;
            (made, false)
        }
    };
    listener.0.set_nonblocking(true).map_err(|error| error.to_string())?;
    Ok(listener)
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
