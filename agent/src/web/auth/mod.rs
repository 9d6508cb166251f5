//! Who a client is and what it may do.

mod compare;
pub mod password;
