//! The device itself: who it is and how it does.

mod error;
mod facts;
mod identity;
mod network;
mod private_file;

pub use self::error::Error;
pub use self::facts::{Facts, Memory, Storage};
pub use self::identity::identity;
pub use self::network::{Interface, interfaces};
pub use self::private_file::write_private;
