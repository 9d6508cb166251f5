//! How the agent is when it does not say so itself: what `ioto-rescue` knows, or else its heartbeat alone.

use std::time::Duration;

use ioto::api::Client;
use ioto::config::Directories;
use ioto::http1::Method;
use ioto_wire::heartbeat::{self, Health, STALE};
use serde_json::{Value, json};

/// How `ioto-rescue` is asked for a restart.
const RESTART: &str = "restart it with `ioto-rescue restart`";
/// Lines of the agent's log that are shown.
const LINES: usize = 5;

/// What others say of the agent.
#[derive(Debug)]
pub struct Verdict {
    /// Whether its executor moves, or it has time left to start or stop.
    pub alive: bool,
    /// One line for people, with what to do.
    pub text: String,
    /// The end of its log, when `ioto-rescue` answered.
    pub log: Vec<String>,
    /// All of it; from `ioto-rescue`, what its `/status` answers.
    pub details: Value,
}

/// Asks `ioto-rescue`, and when that does not answer within moments, reads the heartbeat.
pub fn diagnose(directories: &Directories) -> Verdict {
    ask(directories).unwrap_or_else(|| look(directories))
}

fn ask(directories: &Directories) -> Option<Verdict> {
    // It reads the journal within 1.5 s.
    let client = Client::new(directories.rescue_socket()).patience(Duration::from_secs(4));
    let details = match client.request(Method::Get, "/status", None) {
        Ok((200, details)) => details,
        _ => return None,
    };
    let agent = &details["agent"];
    let (health, why) = (agent["health"].as_str()?, agent["why"].as_str()?);
    let lines = details["log"]["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
    let log =
        lines.iter().skip(lines.len().saturating_sub(LINES)).filter_map(Value::as_str).map(str::to_owned).collect();
    Some(Verdict { alive: health == Health::Alive.to_string(), text: advise(health, why), log, details })
}

/// The same by the heartbeat alone.
fn look(directories: &Directories) -> Verdict {
    let (health, why) = match heartbeat::read(&directories.run) {
        Ok(beat) => (beat.health(STALE).to_string(), beat.describe(STALE)),
        Err(absent) => ("unknown".to_owned(), absent.to_string()),
    };
    let text = format!("{}; ioto-rescue does not answer", advise(&health, &why));
    let details = json!({"agent": {"health": health, "why": why}});
    Verdict { alive: health == Health::Alive.to_string(), text, log: Vec::new(), details }
}

fn advise(health: &str, why: &str) -> String {
    match health {
        "hanging" => format!("{why}; {RESTART}"),
        _ => why.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn without_ioto_rescue_the_heartbeat_tells() {
        let run = std::env::temp_dir().join(format!("ioto-diagnose-{}", std::process::id()));
        std::fs::create_dir_all(&run).unwrap();
        let directories = Directories { run: run.clone(), ..Directories::default() };
        let verdict = diagnose(&directories);
        assert!(!verdict.alive && verdict.text.starts_with("no heartbeat: no agent ran"), "{}", verdict.text);
        let mut writer = heartbeat::Writer::new(&run).unwrap();
        writer.state(heartbeat::State::Running).unwrap();
        let verdict = diagnose(&directories);
        assert!(verdict.alive && verdict.text.starts_with("the agent lives"), "{}", verdict.text);
        writer.state(heartbeat::State::Stopped).unwrap();
        assert_eq!(diagnose(&directories).details["agent"]["health"], "stopped");
        std::fs::remove_dir_all(run).unwrap();
    }
}
