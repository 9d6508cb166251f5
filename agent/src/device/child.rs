//! Programs that the agent starts do not outlive it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

/// Whatever ends the thread that starts the command ends the command: so a killed agent leaves no program behind.
#[allow(unsafe_code, reason = "the process asks for it between fork and exec, where only system calls are made")]
pub fn die_with_us(command: &mut Command) {
    let parent = Pid::this();
    let ask = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // It may be too late already.
        if getppid() == parent { Ok(()) } else { Err(io::Error::from(nix::errno::Errno::ESRCH)) }
    };
    // SAFETY: the closure calls prctl and getppid, which are safe after a fork, and allocates nothing.
    unsafe {
        command.pre_exec(ask);
    }
}
