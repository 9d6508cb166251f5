//! What there is to say of the agent and the device.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use ioto_wire::heartbeat::{self, Health};
use ioto_wire::{Client, Outcome, Request};
use serde_json::{Map, Value, json};

use crate::options::Options;

/// For the helper: a service manager may wait for the agent's end before it answers.
const RESTART: Duration = Duration::from_secs(15);
/// Bytes of the kernel's command line that are looked at.
const MAX_COMMAND_LINE: u64 = 4096;
/// What boot loaders tell of the slot that was booted, by updater.
const SLOTS: [(&str, &str); 3] = [("rauc.slot=", "rauc"), ("swupdate.slot=", "swupdate"), ("root=", "root")];

/// How the agent is: the verdict, and the same in brief for `/livez`.
pub fn health(options: &Options) -> (Option<Health>, Value) {
    match heartbeat::read(&options.run) {
        Ok(beat) => {
            let health = beat.health(options.stale);
            let body = json!({
                "health": health.to_string(),
                "why": beat.describe(options.stale),
                "age": rounded(beat.age().as_secs_f64()),
            });
            (Some(health), body)
        }
        Err(absent) => (None, json!({"health": "unknown", "why": absent.to_string(), "age": null})),
    }
}

/// How the agent is, with all that its heartbeat has.
pub fn agent(options: &Options) -> Value {
    let (_, mut body) = health(options);
    if let (Ok(beat), Some(agent)) = (heartbeat::read(&options.run), body.as_object_mut()) {
        let up = heartbeat::now().saturating_sub(beat.started);
        agent.insert("state".into(), beat.state.to_string().into());
        agent.insert("pid".into(), beat.pid.into());
        agent.insert("process".into(), beat.has_process().into());
        agent.insert("uptime".into(), up.as_secs().into());
        let ready = beat.ready.map(|ready| rounded(ready.saturating_sub(beat.started).as_secs_f64()));
        agent.insert("readyAfter".into(), ready.into());
        agent.insert("heartbeats".into(), beat.sequence.into());
        agent.insert("lag".into(), rounded(beat.lag.as_secs_f64()).into());
        agent.insert("restarts".into(), beat.starts.saturating_sub(1).into());
        agent.insert("crashes".into(), beat.crashes.into());
    }
    body
}

/// The kernel's number of this boot, as it writes it.
pub fn boot_id() -> Value {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or(Value::Null, |id| id.trim().into())
}

/// The root partition that was booted, as far as the boot loader told.
pub fn slots() -> Value {
    let mut line = String::new();
    let opened = File::open("/proc/cmdline");
    let _ = opened.and_then(|file| file.take(MAX_COMMAND_LINE).read_to_string(&mut line));
    Value::Object(slots_in(&line))
}

fn slots_in(line: &str) -> Map<String, Value> {
    let find = |prefix: &str| line.split_ascii_whitespace().find_map(|word| word.strip_prefix(prefix));
    SLOTS.iter().filter_map(|(prefix, name)| Some(((*name).to_owned(), find(prefix)?.into()))).collect()
}

/// Asks ioto-helper to restart the agent; what it says, or why it does not.
pub fn restart(options: &Options) -> Result<String, String> {
    let client = Client::at(&options.helper);
    let answer = client.ask_within(&Request::Restart, RESTART).map_err(|error| error.to_string())?;
    match answer.outcome {
        Outcome::Done => Ok(answer.text),
        outcome => Err(format!("ioto-helper: {}: {}", outcome.name(), answer.text)),
    }
}

/// To milliseconds.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_is_told_by_the_kernels_command_line() {
        let slots = slots_in("console=ttyS0 root=/dev/mmcblk0p2 rootwait rauc.slot=A quiet\n");
        assert_eq!(Value::Object(slots), json!({"rauc": "A", "root": "/dev/mmcblk0p2"}));
        assert!(slots_in("").is_empty());
    }
}
