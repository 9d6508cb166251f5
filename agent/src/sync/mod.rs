//! Replication of the database to and from DynamoDB: what is in the change log reaches the table, and what others write there
//! reaches the database, whatever happens on the way.
//!
//! A model whose schema says `sync: 'up'` belongs to the device: its rows are pushed. One with `sync: 'down'` belongs to the
//! cloud and is not changed on the device. One with `sync: 'both'` is changed on either side. Where both changed the same row,
//! the model's `conflict` says who wins, and both versions are kept in the conflict log. The database records a change in the
//! transaction of the row itself; [`Engine`] decides what to do about the log and [`pull::Puller`] what to read, without any
//! I/O; [`Replicator`] carries it out through a [`Transport`]: DynamoDB itself, or messages of MQTT and a function in the cloud.
//! Hints over MQTT say when to ask. [`item`] says what a row looks like in the cloud.

mod answer;
mod budget;
mod census;
#[cfg(feature = "mqtt")]
mod courier;
mod engine;
mod error;
#[cfg(feature = "mqtt")]
mod hear;
mod hint;
pub mod item;
#[cfg(feature = "mqtt")]
mod message;
#[cfg(feature = "mqtt")]
mod mqtt_transport;
mod news;
mod pace;
pub mod pull;
mod question;
mod replicator;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod simulation;
mod state;
mod transport;

pub use answer::{Answer, Over};
pub use engine::{Action, Engine, Parked, Push, Report, Settings};
pub use error::Error;
#[cfg(feature = "mqtt")]
pub use hear::hear;
pub use hint::{Hint, Removed};
#[cfg(feature = "mqtt")]
pub use mqtt_transport::MqttTransport;
pub use replicator::Replicator;
pub use state::{State, Status};
pub use transport::{DynamoTransport, Transport};
