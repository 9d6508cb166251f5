//! `ioto status`: how the running agent is; when it does not answer, how it is by what others see.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use ioto::api::Client;
use ioto::http1::Method;
use serde_json::{Map, Value, json};

use super::args::Args;
use super::config::load;
use super::output::{complain, print};
use super::rescue;

/// How long the agent may be silent until others are asked about it.
const PATIENCE: Duration = Duration::from_secs(5);
/// What every service has; the rest are its figures.
const COMMON: [&str; 5] = ["state", "since", "restarts", "error", "retryIn"];

/// Asks the running agent and shows what it says.
pub fn main(args: Args) -> ExitCode {
    let loaded = match load(&args) {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let directories = &loaded.config.directories;
    let client = Client::new(directories.api_socket()).patience(PATIENCE);
    match client.request(Method::Get, "/api/status", None) {
        Ok((200, status)) if args.flag("json") => print(&format!("{status:#}\n")),
        Ok((200, status)) => print(&render(&status)),
        Ok((status, body)) => {
            complain(&format!("ioto: the agent answered {status}: {body}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            let verdict = rescue::diagnose(directories);
            if args.flag("json") {
                let status = json!({"error": error.to_string(), "alive": verdict.alive, "rescue": verdict.details});
                print(&format!("{status:#}\n"));
            }
            complain(&format!("ioto: {error}\nioto: {}", verdict.text));
            verdict.log.iter().for_each(|line| complain(&format!("  {line}")));
            ExitCode::FAILURE
        }
    }
}

/// The state of the agent as text: a line for the agent, a line a service.
fn render(status: &Value) -> String {
    let text = |key: &str| status[key].as_str().unwrap_or("?");
    let up = duration(status["uptime"].as_u64().unwrap_or(0));
    let mut out = format!("{}  ioto {}  profile {}  up {up}\n", text("id"), text("version"), text("profile"));
    // Writing to a string does not fail.
    if let Some(sandbox) = status["sandbox"]["summary"].as_str() {
        let _ = writeln!(out, "  {:10} {sandbox}", "sandbox");
    }
    for (name, service) in status["services"].as_object().into_iter().flatten() {
        let state = service["state"].as_str().unwrap_or("?");
        let _ = writeln!(out, "  {name:10} {state:9} {}", details(service).join(", "));
        for (figure, value) in service.as_object().into_iter().flatten().filter(|(_, value)| is_table(value)) {
            for (row, members) in value.as_object().into_iter().flatten() {
                let _ = writeln!(out, "  {:10} {figure} {row}: {}", "", plain(members));
            }
        }
    }
    out
}

/// Whether a figure is objects by name, as the queues are: each gets a line of its own.
fn is_table(value: &Value) -> bool {
    value.as_object().is_some_and(|rows| rows.values().all(Value::is_object) && !rows.is_empty())
}

fn details(service: &Value) -> Vec<String> {
    let figures = service.as_object().into_iter().flat_map(Map::iter);
    let is_empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let is_shown = |name: &String, value: &Value| !COMMON.contains(&name.as_str()) && !is_empty(value);
    let figures = figures.filter(|(name, value)| is_shown(name, value) && !is_table(value));
    let show = |(name, value): (&String, &Value)| match value.as_object() {
        Some(counts) if counts.values().all(|count| *count == 0) => format!("{name} 0"),
        Some(_) => format!("{name} ({})", plain(value)),
        None => format!("{name} {}", plain(value)),
    };
    let mut details: Vec<_> = figures.map(show).collect();
    if let Some(error) = service["error"].as_str() {
        details
            .insert(0, format!("{error} (next try within {:.0} s)", service["retryIn"].as_f64().unwrap_or(0.0).ceil()));
    }
    details
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Object(members) => {
            let known = members.iter().filter(|(_, value)| !value.is_null());
            known.map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes, seconds) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    match days {
        0 => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{days} d {hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_of_several_things_have_a_line_for_each() {
        let mqtt = json!({
            "state": "running", "dropped": {"newest": 0, "oldest": 4}, "lost": {"a": 0}, "sent": 1,
            "queues": {"high": {"dropped": 0, "messages": 0, "oldest": null}, "low": {"dropped": 4, "messages": 2, "oldest": 61}},
        });
        let text = render(&json!({"uptime": 0, "services": {"mqtt": mqtt}}));
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "  mqtt       running   dropped (newest 0, oldest 4), lost 0, sent 1",
                "             queues high: dropped 0, messages 0",
                "             queues low: dropped 4, messages 2, oldest 61",
            ]
        );
    }

    #[test]
    fn a_failed_service_says_why_before_its_figures() {
        let services = json!({
            "web": {"state": "running", "since": "x", "restarts": 0, "listen": ["http://127.0.0.1:8080"], "requests": 7},
            "mqtt": {"state": "failed", "error": "no route to host", "retryIn": 1.2, "queued": 3},
        });
        let status =
            json!({"id": "JT08FFQXWQ", "version": "0.1.0", "profile": "dev", "uptime": 90_061, "services": services});
        assert_eq!(
            render(&status),
            "JT08FFQXWQ  ioto 0.1.0  profile dev  up 1 d 1:01:01\n  \
             web        running   listen http://127.0.0.1:8080, requests 7\n  \
             mqtt       failed    no route to host (next try within 2 s), queued 3\n"
        );
    }
}
