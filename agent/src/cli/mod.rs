//! The command line.

mod args;
mod commands;
mod config;
mod db;
mod help;
mod output;
mod run;
mod status;

pub use self::commands::main;
