//! `ioto-helper`: does, as root and for the agent alone, the few things that need root.

fn main() {}
