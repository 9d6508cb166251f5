//! The operating system: what the agent asks of it and tells it.

pub mod sandbox;

pub use ioto_wire::notify::Notify;
