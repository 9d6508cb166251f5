//! Does the agent run, answer, and do its services work?

use serde_json::{Map, Value};

use super::{Around, Report};

pub fn check(around: &Around, report: &mut Report) {
    let status = match (&around.status, &around.process) {
        (Ok(status), _) => status,
        (Err(error), Some(process)) => {
            let text = format!("process {} listens and gives no answer: {error}", process.pid);
            return report.fail("agent", text, format!("look into its log; {}", seen_by_others(around)));
        }
        (Err(error), None) => {
            let socket = around.config.directories.api_socket();
            let advice =
                format!("start it (`ioto run`, the unit, the init script); it is looked for at {}", socket.display());
            let advice = format!("{advice}; {}", seen_by_others(around));
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
        if name == "database" {
            database(service, report);
        }
    }
}

/// Whether the database was damaged, and what it keeps without knowing it.
fn database(service: &Value, report: &mut Report) {
    if let Some(reason) = service["damaged"].as_str() {
        let advice = "replace the storage, or move the file away to begin with an empty database";
        report.fail("database", format!("it is damaged, and not written any more: {reason}"), advice);
    }
    if let Some(reason) = service["recovery"]["reason"].as_str() {
        let text = |key: &str| service["recovery"][key].as_str().unwrap_or("its place");
        let rows = &service["recovery"]["rows"];
        let text =
            format!("it was damaged ({reason}) and recovered at {}, {rows} rows from {}", text("at"), text("aside"));
        report.warn(
            "database",
            text,
            "look whether the storage fails; remove what was set aside when nothing is missed",
        );
    }
    if let Some(reason) = service["sealed"].as_str() {
        let advice = "put the key of this device back (database.key); without it these fields are lost";
        report.fail("database", format!("its encrypted fields cannot be opened: {reason}"), advice);
    }
    if service["full"] == true {
        let text = format!("it is as large as database.size allows: {} of {} bytes", service["file"], service["limit"]);
        let advice =
            "remove items, raise database.size, or let models drop their oldest (database.policy, caps.policy)";
        report.fail("database", text, advice);
    }
    if let Some(models) = service["unknownModels"].as_array() {
        let names: Vec<&str> = models.iter().filter_map(Value::as_str).collect();
        let text = format!("it has rows of models that the schema does not have: {}", names.join(", "));
        report.warn("database", text, "they are kept for a firmware that knows them; put the models back to use them");
    }
}

/// What ioto-rescue says of it.
#[cfg(feature = "web")]
fn seen_by_others(around: &Around) -> String {
    crate::cli::rescue::diagnose(&around.config.directories).text
}

#[cfg(not(feature = "web"))]
fn seen_by_others(_: &Around) -> String {
    "its heartbeat is the next point".to_owned()
}
