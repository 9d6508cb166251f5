//! `ioto-rescue`: answers on a Unix socket when the agent does not.

fn main() {}
