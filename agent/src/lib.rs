//! `ioto`, the device agent for embedded Linux.
//!
//! A Rust program can link this crate and use one service alone, or start the whole agent and add its own actions, models
//! and tasks. The modules are rooms, listed here from low to high: a room uses only rooms above it in this list.
//! Everything asynchronous runs on a [`smol`] executor of the caller; no other runtime is started.

pub mod config;
pub mod device;
pub mod net;

#[cfg(any(feature = "mqtt", feature = "db", feature = "logs"))]
mod sqlite;

#[cfg(any(feature = "web", feature = "fetch", feature = "mqtt"))]
pub mod http1;

#[cfg(feature = "web")]
pub mod web;

#[cfg(feature = "fetch")]
pub mod fetch;

#[cfg(feature = "mqtt")]
pub mod mqtt;

#[cfg(feature = "db")]
pub mod db;

#[cfg(feature = "aws")]
pub mod aws;

#[cfg(feature = "sync")]
pub mod sync;

pub mod logs;
pub mod system;

#[cfg(feature = "web")]
pub mod api;

pub mod agent;

#[cfg(all(test, any(feature = "web", feature = "db")))]
#[cfg_attr(not(all(feature = "web", feature = "db")), allow(dead_code))]
mod corpus;
