//! Who a client is and what it may do.
//!
//! The gate stands before every handler. It knows a user by a session, by a bearer token, by Basic or by Digest, compares
//! what the user can with the role of the route, and answers itself where that is not enough: 401 with a challenge, 403 with
//! the reason, 429 to who guesses. Passwords are verified one at a time by a thread of low priority.

mod account;
mod authority;
mod basic;
pub mod bearer;
mod compare;
mod cookie;
mod digest;
mod gate;
mod hasher;
mod keeper;
mod login;
mod nonces;
mod origin;
pub mod password;
mod session;
mod session_store;
mod sessions;
mod throttle;
mod xsrf;

pub use self::account::warnings;
pub(super) use self::account::{Account, People};
pub(super) use self::authority::Authority;
pub(super) use self::gate::{admit, concerns};
pub use self::session::Session;
pub(super) use self::session::SessionId;
pub use self::session_store::{Answer, SessionStore};
