//! Ways to break the session on purpose, so that the tests can show that they would notice. Only tests can switch one on.

#[cfg(test)]
use std::cell::Cell;

/// A defect of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defect {
    /// What is in flight is dropped when the broker has forgotten the session.
    DropOnLostSession,
    /// After a PUBREC the message goes out again instead of its PUBREL.
    ForgetRelease,
    /// Packet ids are given out although they are in use.
    ReuseId,
    /// Received messages are acknowledged before their handlers are done with them.
    AckBeforeCommit,
    /// What goes out again does so in another order.
    ResendWithoutOrder,
    /// The bounds of the queue are not kept.
    UnboundedQueue,
    /// Packets go out before the disk has what they depend on.
    SendBeforeCommit,
    /// Received messages of QoS 2 that are repeated are handed out again.
    ForgetReceived,
    /// The connection does not wait before the next attempt.
    ReconnectAtOnce,
}

#[cfg(test)]
impl Defect {
    /// All of the session, which needs no connection to show them.
    pub const ALL: [Self; 8] = [
        Self::DropOnLostSession,
        Self::ForgetRelease,
        Self::ReuseId,
        Self::AckBeforeCommit,
        Self::ResendWithoutOrder,
        Self::UnboundedQueue,
        Self::SendBeforeCommit,
        Self::ForgetReceived,
    ];
}

#[cfg(test)]
thread_local! {
    static DEFECT: Cell<Option<Defect>> = const { Cell::new(None) };
}

/// Breaks the sessions of this thread, or repairs them.
#[cfg(test)]
pub(super) fn break_session(defect: Option<Defect>) {
    DEFECT.set(defect);
}

/// Whether the sessions of this thread have the defect.
#[cfg(test)]
pub(super) fn has(defect: Defect) -> bool {
    DEFECT.get() == Some(defect)
}

/// Never, outside of tests.
#[cfg(not(test))]
pub(super) const fn has(_defect: Defect) -> bool {
    false
}
