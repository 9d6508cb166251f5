//! How much of what was written to a socket the other side has not acknowledged yet.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

mod ioctl {
    #![allow(unsafe_code, missing_docs, reason = "nix makes the call, with the type of its argument")]
    nix::ioctl_read_bad!(unsent, nix::libc::TIOCOUTQ, nix::libc::c_int);
}

/// Bytes that were written to a TCP or Unix socket and that the other side's kernel has not acknowledged (tcp(7), SIOCOUTQ).
///
/// # Errors
/// When the kernel does not say: then nothing is known.
#[allow(unsafe_code, reason = "the kernel writes one number to where we say")]
pub fn underway(socket: impl AsFd) -> io::Result<usize> {
    let mut bytes = 0;
    unsafe { ioctl::unsent(socket.as_fd().as_raw_fd(), &mut bytes) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}
