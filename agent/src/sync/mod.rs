//! Replication of the database to DynamoDB: what is in the change log reaches the table, whatever happens on the way.
//!
//! A model whose schema says `sync: 'up'` belongs to the device: its rows are pushed, and where somebody else wrote the
//! same item the device's row wins, with both versions kept in the conflict log. The database records a change in the
//! transaction of the row itself; [`Engine`] decides what to do about the log, without any I/O; [`Replicator`] carries
//! it out through a [`Transport`]. [`item`] says what a row looks like in the cloud.

mod answer;
mod engine;
mod error;
pub mod item;
mod pace;
mod replicator;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod simulation;
mod state;
mod transport;

pub use answer::{Answer, Over, Policy};
pub use engine::{Action, Engine, Parked, Push, Report, Settings};
pub use error::Error;
pub use replicator::Replicator;
pub use state::{State, Status};
pub use transport::{DynamoTransport, Transport};
