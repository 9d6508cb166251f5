//! Attacks on the web server of the running program, from other addresses of this machine, while others are served.

mod attackers;
mod connections;
mod logins;
mod others;
mod ranges;
mod slow;
mod tls;
