//! Connections, TLS, waiting and time: what every client and server of the agent stands on.

#[cfg(any(feature = "fetch", feature = "mqtt", feature = "sync"))]
mod alarm;
mod backoff;
pub mod base64;
#[cfg(any(feature = "mqtt", feature = "sync"))]
mod changes;
mod clock;
mod connect;
mod deadline;
mod error;
mod family;
pub mod hex;
#[cfg(feature = "tls")]
mod pin;
mod proxy;
mod race;
pub mod reactor;
mod resolve;
#[cfg(feature = "tls")]
mod sni;
mod stream;
#[cfg(feature = "tls")]
mod suites;
#[cfg(feature = "tls")]
mod tls_client;
#[cfg(feature = "tls")]
pub mod tls_server;
mod token_bucket;
#[cfg(any(feature = "web", feature = "logs"))]
mod underway;
#[cfg(feature = "tls")]
mod x509;

#[cfg(any(feature = "fetch", feature = "mqtt", feature = "sync"))]
pub(crate) use self::alarm::Alarm;
pub use self::backoff::Backoff;
#[cfg(any(feature = "mqtt", feature = "sync"))]
pub use self::changes::whenever_up;
pub use self::clock::{amz_date, http_date, iso8601, parse_http_date, parse_iso8601, utc_ms};
#[cfg(feature = "tls")]
pub use self::connect::connect;
pub use self::connect::{connect_first, connect_tcp};
pub(crate) use self::deadline::Deadline;
pub use self::error::{Error, Fault, Step};
#[cfg(feature = "tls")]
pub use self::pin::Pin;
pub use self::proxy::Proxy;
#[cfg(feature = "tls")]
pub use self::proxy::connect_through;
pub use self::stream::Stream;
#[cfg(feature = "tls")]
pub use self::tls_client::{TlsClient, TlsClientBuilder};
pub use self::token_bucket::TokenBucket;
#[cfg(any(feature = "web", feature = "logs"))]
pub use self::underway::underway;
#[cfg(feature = "tls")]
pub use self::x509::Holder;
