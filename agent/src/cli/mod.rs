//! The command line.

mod args;
mod commands;
mod config;
#[cfg_attr(not(all(feature = "db", feature = "web")), path = "without_db.rs")]
mod db;
mod doctor;
mod help;
#[cfg_attr(not(all(feature = "mqtt", feature = "web")), path = "without_mqtt.rs")]
mod mqtt;
mod output;
#[cfg_attr(not(feature = "users"), path = "without_users.rs")]
mod password;
#[cfg(feature = "web")]
mod rescue;
mod run;
#[cfg_attr(not(feature = "web"), path = "without_api.rs")]
mod status;

pub use self::commands::main;
