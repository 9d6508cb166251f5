//! The command line.

mod args;
mod commands;
mod config;
#[cfg(all(feature = "db", feature = "web"))]
mod db;
mod help;
mod output;
mod run;
mod status;

pub use self::commands::main;
