//! The services of the agent: each function runs one until it is asked to stop.

#[cfg(feature = "db")]
pub mod database;
#[cfg(feature = "mqtt")]
pub mod mqtt;
