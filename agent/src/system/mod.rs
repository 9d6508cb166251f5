//! The operating system: what the agent asks of it and tells it.

mod helper;
pub mod sandbox;

pub use self::helper::{Helper, HelperError};
pub use ioto_wire::notify::Notify;
