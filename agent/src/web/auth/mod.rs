//! Who a client is and what it may do.
//!
//! The gate stands before every handler. It knows a user by a session, by a bearer token, by Basic or by Digest, compares
//! what the user can with the role of the route, and answers itself where that is not enough: 401 with a challenge, 403 with
//! the reason, 429 to who guesses. Passwords are verified one at a time and off the executor.

mod account;
mod authority;
mod basic;
pub mod bearer;
mod compare;
mod cookie;
mod digest;
mod gate;
mod login;
mod nonces;
mod origin;
pub mod password;
mod sessions;
mod throttle;

pub(super) use self::account::Account;
pub use self::account::warnings;
pub(super) use self::authority::Authority;
pub(super) use self::gate::{admit, admit_to, concerns};
