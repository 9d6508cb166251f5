//! The operating system: what the agent asks of it and tells it.

mod notify;
pub mod sandbox;

pub use self::notify::Notify;
