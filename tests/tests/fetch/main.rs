//! `ioto fetch` as its users see it: beside curl with the same arguments, and alone in what only it has.

mod alone;
mod beside_curl;
mod server;
mod signed;
