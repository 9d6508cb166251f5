//! Who is at the other end, and what they may do.

use std::os::unix::net::UnixStream;

use nix::unistd::{Uid, User};

use crate::privileges::Identity;

/// The agent's user.
const AGENT: &str = "ioto";

/// The user of a peer, as the kernel knows it; without, it may only ask.
pub fn user(stream: &UnixStream) -> Option<u32> {
    ioto_wire::peer(stream).ok().map(|(user, _)| user)
}

/// Whose requests change something: root's, the agent's, and our own.
#[derive(Clone, Debug)]
pub struct Allowed(Vec<u32>);

impl Allowed {
    /// Looked up once, while the list of users can be read.
    pub fn find(identity: Option<&Identity>) -> Self {
        let agent = User::from_name(AGENT).ok().flatten().map(|user| user.uid);
        let own = identity.map_or_else(Uid::effective, |identity| identity.user.uid);
        Self([Some(Uid::from_raw(0)), agent, Some(own)].into_iter().flatten().map(Uid::as_raw).collect())
    }

    /// Whether this user may change something.
    pub fn has(&self, user: Option<u32>) -> bool {
        user.is_some_and(|user| self.0.contains(&user))
    }
}
