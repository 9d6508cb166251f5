//! The MQTT client against a real mosquitto, with mosquitto_pub and mosquitto_sub as peers of another make.

#![cfg(feature = "mqtt")]
#![allow(clippy::unwrap_used)]

mod access;
mod broker;
mod messages;
mod outages;
mod strangers;
