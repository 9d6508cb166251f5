//! `ioto fetch` as its users see it: beside curl with the same arguments, and alone in what only it has.

mod alone;
mod beside_curl;
mod digest;
#[path = "../../../agent/tests/fetch_support/gate.rs"]
mod gate;
mod hostile;
mod names;
mod proxies;
mod server;
mod signed;
