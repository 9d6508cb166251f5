//! The HTTP client: streams both ways, TLS verified, connections kept for the next request.
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
//!
//! What else there is: [`Body`] (bytes, file, reader, form) and [`Multipart`] for what is sent; [`Response`] as stream, text,
//! JSON or file for what comes; [`Download`] for files that are fetched in as many parts as it takes; [`EventSource`] and
//! [`WebSocket`] for what goes on for long; [`Options`] for trust, proxies, deadlines, redirections, retries, cookies and
//! compression.
//!
//! The whole of it against a server of this process:
//!
//! ```
//! use std::io::{BufRead, BufReader, Write};
//!
//! let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! let url = format!("http://{}/lamp", listener.local_addr()?);
//! std::thread::spawn(move || {
//!     let (stream, _) = listener.accept().unwrap();
//!     let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
//!     assert_eq!(lines.next().unwrap(), "POST /lamp HTTP/1.1");
//!     assert!(lines.any(|line| line == "Content-Length: 8"));
//!     (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nis on").unwrap();
//! });
//! use ioto::fetch::{Body, Client};
//!
//! let form = Body::form(&[("state", "on")]);
//! let text = smol::block_on(async { Client::default().post(&url).body(form).send().await?.text(100).await })?;
//! assert_eq!(text, "is on");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
mod proxies;
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
pub use self::proxies::Proxies;
pub use self::ranges::ContentRange;
pub use self::request::Request;
pub use self::response::Response;
pub use self::url::{Scheme, Url};
pub use self::websocket::WebSocket;
pub use crate::http1::WebSocketMessage as Message;
