//! Does the agent run, answer, and do its services work?

use serde_json::Map;

use super::{Around, Report};

pub fn check(around: &Around, report: &mut Report) {
    let status = match (&around.status, &around.process) {
        (Ok(status), _) => status,
        (Err(error), Some(process)) => {
            let text = format!("process {} listens and gives no answer: {error}", process.pid);
            return report.fail("agent", text, "look into its log; restart it if it hangs");
        }
        (Err(error), None) => {
            let socket = around.config.directories.api_socket();
            let advice =
                format!("start it (`ioto run`, the unit, the init script); it is looked for at {}", socket.display());
            return report.fail("agent", error.as_str(), advice);
        }
    };
    let text = |key: &str| status[key].as_str().unwrap_or("?");
    let seconds = status["uptime"].as_u64().unwrap_or(0);
    report.ok("agent", format!("ioto {}, device {}, up {seconds} s", text("version"), text("id")));
    if status["version"].as_str() != Some(env!("CARGO_PKG_VERSION")) {
        let text = format!("the running agent is not of this program's version, {}", env!("CARGO_PKG_VERSION"));
        report.warn("agent", text, "restart it after an update");
    }
    for (name, service) in status["services"].as_object().into_iter().flat_map(Map::iter) {
        match (service["state"].as_str(), service["error"].as_str()) {
            (Some("failed"), error) => {
                let error = error.unwrap_or("for no reason that is known");
                report.fail(
                    "service",
                    format!("{name} failed: {error}"),
                    "remove the cause; it is tried again by itself",
                );
            }
            (state, _) => report.ok("service", format!("{name} {}", state.unwrap_or("?"))),
        }
    }
}
