//! The embedded web server: HTTP/1.1 over TCP, TLS and Unix sockets, static files, and actions bound to URLs.
//!
//! ```no_run
//! use ioto::config;
//! use ioto::web::{Error, Exchange, Server};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let settings = config::Web { listen: vec![], ..Default::default() };
//!     let server = Server::new(settings)
//!         .listen("http://127.0.0.1:8080")?
//!         .action("/hello", async |exchange: &mut Exchange| exchange.send("text/plain", "hello\n").await)
//!         .bind()?;
//!     let executor = smol::LocalExecutor::new();
//!     smol::block_on(executor.run(server.run(&executor)));
//!     Ok(())
//! }
//! ```

mod access;
mod action;
mod address;
mod admission;
#[cfg(feature = "users")]
pub mod auth;
#[cfg(not(feature = "users"))]
#[path = "without_users.rs"]
mod auth;
mod body;
mod cache_control;
mod certificate;
mod connection;
mod cookies;
mod crew;
mod date;
mod descriptors;
mod duplex;
mod encodings;
mod error;
mod events;
mod exchange;
mod fields;
mod file_body;
mod files;
mod form;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod head;
mod leftovers;
mod link;
mod listener;
mod local;
mod media;
mod mime;
mod multipart;
mod open_files;
mod pace;
mod preconditions;
mod proxy;
mod ranges;
mod redirect;
mod reserved;
mod root;
mod router;
mod send_file;
mod server;
mod shared;
mod signatures;
mod socket;
mod store;
mod tls;
mod trace;
mod transfer;
mod upload;
mod validators;
mod variables;
mod watch;
mod websocket;
mod worker;
mod writer;

pub use self::access::AccessSink;
pub use self::action::Action;
pub use self::address::Address;
pub use self::body::Body;
pub use self::certificate::own_certificate;
pub use self::cookies::{Cookie, SameSite};
pub use self::error::Error;
pub use self::events::{Event, EventWriter};
pub use self::exchange::{Exchange, Peer};
pub use self::form::Form;
pub use self::reserved::Reserved;
pub use self::server::{Bound, Handle, Server};
pub use self::signatures::check_signatures;
pub use self::upload::{Upload, UploadLimits, Uploads};
pub use self::websocket::WebSocket;
pub use self::worker::Worker;
pub use self::writer::BodyWriter;
pub use crate::http1::WebSocketMessage as Message;
