//! The operating system: what the agent asks of it and tells it.

mod helper;
mod notify;

pub use self::helper::{Helper, HelperError};
pub use self::notify::Notify;
