//! The device itself: who it is and how it does.

mod child;
mod error;
mod facts;
mod file;
mod identity;
mod network;
mod rotated;

pub use self::child::die_with_us;
pub use self::error::Error;
pub use self::facts::{Facts, Memory, Storage};
pub use self::file::write_file;
pub use self::identity::identity;
pub use self::network::{Interface, interfaces};
pub use self::rotated::RotatedFile;
