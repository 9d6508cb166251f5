//! The MQTT client: MQTT 3.1.1, QoS 0 to 2, over TCP, TLS and WebSocket.
//!
//! [`new`] makes a [`Client`], the handle that publishes and subscribes, and a [`Connection`], which is run on an
//! executor of yours and keeps the connection to the broker up for ever. What was published survives every outage of
//! the connection; what waits is bounded, and publishing then waits too.
//!
//! ```no_run
//! use ioto::mqtt::{self, Message, Options, QoS};
//!
//! # fn main() -> Result<(), mqtt::Error> {
//! let (client, connection) = mqtt::new(Options::new("localhost", 1883, "thermometer-1"));
//! let executor = smol::LocalExecutor::new();
//! executor.spawn(connection.run()).detach();
//! smol::block_on(executor.run(async {
//!     client
//!         .subscribe("home/+/wish", QoS::AtLeastOnce, async |message: Message| {
//!             println!("{}: {:?}", message.topic, message.payload);
//!         })
//!         .await?;
//!     client.publish("home/kitchen/temperature", "21.5").await
//! }))
//! # }
//! ```

mod action;
mod answers;
mod arrival;
mod broken;
mod client;
mod connection;
mod error;
mod handlers;
mod inbox;
mod journal;
mod keep_alive;
mod link;
mod listener;
mod lull;
mod message;
mod options;
mod outbox;
mod outbox_file;
mod pace;
pub mod packet;
mod packet_ids;
mod presence;
pub mod profile;
mod publish;
mod queue;
mod reconnect;
mod request;
pub mod session;
mod shared;
mod subscriptions;
pub mod topic;
mod transport;
mod websocket;
mod window;
mod writer;

#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod trials;

pub use self::client::{Client, new, open};
pub use self::connection::Connection;
pub use self::error::Error;
pub use self::listener::Listener;
pub use self::message::{Message, Outgoing, Priority, QoS};
pub use self::options::Options;
pub use self::outbox_file::OutboxError;
pub use self::publish::{Publish, Publishing, Wait};
pub use self::queue::{Dropped, QueueState};
pub use self::request::Request;
pub use self::shared::State;
pub use self::websocket::Signer;
pub use crate::config::{QueueLimits, QueuePolicy as Policy};

/// The seed of a randomised test: `SEED` of the environment, or the time; printed, so that a failure can be repeated.
#[cfg(test)]
fn test_seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    seed
}
