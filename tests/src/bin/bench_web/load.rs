//! wrk, and what it says.

use std::process::{Command, Stdio};

use crate::{Outcome, interrupt, servers};

#[derive(Clone, Debug, Default)]
pub struct Load {
    pub requests: u64,
    pub seconds: f64,
    /// Those of sockets, and answers with another status than 2xx and 3xx.
    pub errors: u64,
    /// What they were.
    pub complaints: Vec<String>,
}

/// Loads a server from one thread.
pub fn run(url: &str, connections: usize, seconds: u64, close: bool, cores: Option<&str>) -> Outcome<Load> {
    // Without `cores` it runs where this program does.
    let mut command = match cores {
        Some(cores) => servers::pinned(cores, "wrk"),
        None => Command::new("wrk"),
    };
    command.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s")]);
    if close {
        command.args(["-H", "Connection: close"]);
    }
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = interrupt::started(|| command.spawn()).map_err(|error| format!("cannot start wrk: {error}"))?;
    let id = child.id();
    let output = child.wait_with_output().map_err(|error| format!("wrk: {error}"))?;
    interrupt::ended(id);
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).ok_or_else(|| format!("wrk said: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// ```text
///   182038 requests in 2.00s, 219.25MB read
///   Socket errors: connect 0, read 0, write 0, timeout 7
///   Non-2xx or 3xx responses: 3
/// ```
fn parse(text: &str) -> Option<Load> {
    let mut load = Load::default();
    for line in text.lines().map(str::trim) {
        if let Some((requests, rest)) = line.split_once(" requests in ") {
            load.requests = requests.parse().ok()?;
            load.seconds = seconds(rest.split_once(',')?.0)?;
        }
        if let Some(errors) = line.strip_prefix("Socket errors: ") {
            load.errors +=
                errors.split(", ").filter_map(|error| error.split_once(' ')?.1.parse::<u64>().ok()).sum::<u64>();
            load.complaints.push(errors.to_owned());
        }
        if let Some(refused) = line.strip_prefix("Non-2xx or 3xx responses: ") {
            load.errors += refused.parse::<u64>().ok()?;
            load.complaints.push(format!("answers other than 2xx and 3xx {refused}"));
        }
    }
    (load.requests > 0).then_some(load)
}

/// `1.50m` or `2.00s`.
fn seconds(text: &str) -> Option<f64> {
    match text.strip_suffix('m') {
        Some(minutes) => Some(minutes.parse::<f64>().ok()? * 60.0),
        None => text.strip_suffix('s')?.parse().ok(),
    }
}
