//! The HTTP/1.1 codec: strict, no I/O, shared by the web server and the HTTP client (RFC 9110, RFC 9112).
//!
//! Bytes come in, heads and payload come out. What two programs could understand in two ways is refused, so that no request
//! can be smuggled past one of them inside the body of another.
//!
//! ```
//! use ioto::http1::{Framing, Limits, parse_request};
//!
//! let received = b"POST /lines HTTP/1.1\r\nHost: device\r\nContent-Length: 5\r\n\r\nhello";
//! let (head, length) = parse_request(received, &Limits::default()).unwrap().expect("the head is complete");
//! assert_eq!(head.path(), "/lines");
//! assert_eq!(head.framing().unwrap(), Framing::Length(5));
//! assert_eq!(&received[length..], b"hello");
//! ```

mod body;
mod encode;
mod error;
mod framing;
#[cfg(any(fuzzing, all(test, feature = "web")))]
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod headers;
mod message;
mod method;
mod parse;
mod scan;
mod status;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod table;
mod target;

pub use self::body::{BodyDecoder, Step};
pub use self::encode::{LAST_CHUNK, encode_chunk, encode_field, encode_request, encode_response, encode_status_line};
pub use self::error::Error;
pub use self::framing::Framing;
pub use self::head::{Limits, RequestHead, ResponseHead, Version};
pub use self::headers::Headers;
pub use self::message::WebSocketMessage;
pub use self::method::{Method, is_token};
pub use self::parse::{MAX_HEADERS, parse_request, parse_response};
pub use self::status::reason;
pub use self::target::{is_authority, percent_decode};
