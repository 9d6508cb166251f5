//! Who asks, and what they may ask.

use ioto_wire::Verb;
use nix::unistd::{Uid, User};
use std::io;
use std::os::unix::net::UnixStream;

/// The process at the other end of a connection, as the kernel tells it.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub uid: u32,
    pub pid: i32,
    role: Option<Role>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// May ask everything: root, and the agent's user `ioto`.
    All,
    /// `ioto-rescue`: may bring the agent or the device back, and nothing more.
    Rescue,
}

impl Peer {
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let (uid, pid) = ioto_wire::peer(stream)?;
        Ok(Self { uid, pid, role: role(uid) })
    }

    /// This process itself, when it applies settings at boot.
    pub fn ourselves() -> Self {
        let pid = std::process::id().try_into().unwrap_or_default();
        Self { uid: rustix::process::getuid().as_raw(), pid, role: Some(Role::All) }
    }

    pub fn known(&self) -> bool {
        self.role.is_some()
    }

    pub fn may(&self, verb: Verb) -> bool {
        match self.role {
            Some(Role::All) => true,
            Some(Role::Rescue) => matches!(verb, Verb::Ping | Verb::Restart | Verb::Reboot),
            None => false,
        }
    }
}

fn role(uid: u32) -> Option<Role> {
    if uid == 0 {
        return Some(Role::All);
    }
    match User::from_uid(Uid::from_raw(uid)).ok()??.name.as_str() {
        "ioto" => Some(Role::All),
        "ioto-rescue" => Some(Role::Rescue),
        _ => None,
    }
}
