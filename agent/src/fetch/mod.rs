//! The HTTP client: streams both ways, TLS always verified, connections kept for the next request.
//!
//! ```no_run
//! # fn main() -> Result<(), ioto::fetch::Error> {
//! use ioto::fetch::{Client, Options};
//!
//! let client = Client::new(Options::default());
//! smol::block_on(async {
//!     let response = client.get("https://example.com/").send().await?;
//!     println!("{}: {}", response.status(), response.text(1024 * 1024).await?);
//!     Ok(())
//! })
//! # }
//! ```

mod alarm;
mod body;
mod call;
mod client;
mod connection;
mod cookies;
mod course;
mod digest;
mod download;
mod error;
mod event_parser;
mod events;
mod exceptions;
mod exchange;
mod form;
mod gunzip;
mod meter;
mod multipart;
mod options;
mod parts;
mod payload;
mod pool;
mod ranges;
mod redirect;
mod request;
mod response;
mod save;
mod sender;
mod story;
mod url;
mod websocket;

pub use self::body::Body;
pub use self::client::Client;
pub use self::cookies::CookieJar;
pub use self::download::{Download, Saved};
pub use self::error::{Error, Stage};
pub use self::events::{Event, EventSource};
pub use self::exceptions::Exceptions;
pub use self::meter::Progress;
pub use self::multipart::Multipart;
pub use self::options::{Options, Timeouts};
pub use self::ranges::ContentRange;
pub use self::request::Request;
pub use self::response::Response;
pub use self::url::{Scheme, Url};
pub use self::websocket::{Message, WebSocket};
