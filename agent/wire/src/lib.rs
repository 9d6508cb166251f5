//! What the programs of a device say to each other. The agent, `ioto-helper` and `ioto-rescue` are built from it; it has
//! no executor, no TLS and no database, so that the small programs stay small.

pub mod heartbeat;
pub mod notify;
