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

mod body;
mod client;
mod connection;
mod error;
mod exchange;
mod options;
mod pool;
mod redirect;
mod request;
mod response;
mod sender;
mod timer;
mod url;

pub use self::body::Body;
pub use self::client::Client;
pub use self::error::{Error, Stage};
pub use self::options::{Options, Timeouts};
pub use self::request::Request;
pub use self::response::Response;
pub use self::url::{Scheme, Url};
