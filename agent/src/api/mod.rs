//! The local API and the API on the web: what people and programs ask of the running agent.

mod client;
#[cfg(feature = "db")]
mod db;
#[cfg(feature = "db")]
mod db_parameters;
#[cfg(feature = "db")]
mod db_watch;
mod guard;
#[cfg(feature = "mqtt")]
mod mqtt;
mod status;

pub use self::client::{Client, Error as ClientError, percent_encode};
#[cfg(feature = "db")]
pub use self::db::{database, no_database};
pub use self::guard::{Door, admit, guard};
#[cfg(feature = "mqtt")]
pub use self::mqtt::messages;
pub use self::status::status;
