//! AWS: signatures, credentials, calls to services and requests to any of them.

mod api;
pub mod attribute;
mod canonical;
pub mod chunked;
mod crc32;
mod credentials;
mod dynamodb;
mod error;
mod outgoing;
mod request;
mod retry;
mod role_alias;
pub mod sigv4;
mod skew;
mod websocket;

pub use self::api::{Api, Service};
pub use self::credentials::{Credentials, Provider};
pub use self::dynamodb::DynamoDb;
pub use self::error::Error;
pub use self::request::Request;
pub use self::role_alias::RoleAlias;
pub use self::websocket::WebSocketSigner;
