//! Signals to processes that the tests started.

use std::process::{Child, Command};

/// What a test may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Please end.
    Term,
    /// Please reload.
    Hup,
    /// Stand still.
    Stop,
    /// Go on.
    Cont,
}

/// Sends a signal to a child that was not waited for yet. (The standard library knows SIGKILL alone; the shell has the rest.)
pub fn send(child: &Child, signal: Signal) {
    let name = format!("{signal:?}").to_uppercase();
    let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", child.id())).status().expect("run sh");
    assert!(sent.success(), "SIG{name} to process {}: {sent}", child.id());
}
