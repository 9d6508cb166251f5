//! Logs: the agent's own lines on their way to standard output or to the log of the operating system, and the logs of the
//! operating system on their way to a remote sink.

#[cfg(feature = "logs")]
mod figures;
#[cfg(feature = "logs")]
mod journal;
mod line;
mod logger;
#[cfg(feature = "logs")]
mod marker;
#[cfg(feature = "logs")]
mod notice;
#[cfg(feature = "logs")]
mod os_log;
#[cfg(feature = "logs")]
mod pack;
#[cfg(feature = "logs")]
mod pipeline;
mod queue;
#[cfg(feature = "logs")]
mod record;
#[cfg(feature = "logs")]
pub mod sink;
#[cfg(feature = "logs")]
pub mod sources;
#[cfg(feature = "logs")]
mod spool;
mod stdout;
mod writer;

#[cfg(feature = "logs")]
pub use self::figures::Figures;
pub use self::line::Line;
pub use self::logger::{Error, Logger, install};
#[cfg(feature = "logs")]
pub use self::os_log::OsLog;
#[cfg(feature = "logs")]
pub use self::pipeline::{Ending, Input, Places, forward};
#[cfg(feature = "logs")]
pub use self::record::{Batch, Next, Record, Source};
#[cfg(feature = "logs")]
pub use self::spool::Error as SpoolError;
