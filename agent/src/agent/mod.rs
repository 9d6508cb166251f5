//! The agent: builds the services from the configuration, starts them in order of need, supervises and stops them.

mod board;
mod confine;
mod error;
mod heartbeat;
mod plan;
mod run;
mod services;
mod signals;
#[cfg(any(feature = "web", feature = "db", feature = "mqtt"))]
mod slot;
mod status;
mod stop;
mod supervisor;

pub use self::board::{Board, Report, State};
pub use self::error::Error;
pub use self::plan::{Plan, Service};
pub use self::run::{Options, run};
pub use self::status::Status;
pub use self::stop::{Stop, Stopper};
pub use self::supervisor::{ServiceError, Supervisor};
