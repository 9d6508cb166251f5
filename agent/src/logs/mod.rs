//! Logs: the agent's own lines on their way to standard output or to the log of the operating system.

mod line;
mod logger;
#[cfg(feature = "logs")]
mod os_log;
mod queue;
#[cfg(feature = "logs")]
mod record;
#[cfg(feature = "logs")]
pub mod sources;
mod stdout;
mod writer;

pub use self::line::Line;
pub use self::logger::{Error, Logger, install};
#[cfg(feature = "logs")]
pub use self::os_log::OsLog;
#[cfg(feature = "logs")]
pub use self::record::{Batch, Next, Record, Source};
