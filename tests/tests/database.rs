//! The database of the running agent when something is not as it should be: what `ioto status` and `ioto doctor` say, and what
//! goes on.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use ioto_tests::{Agent, Client, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(15);

fn schema(kind: &str) -> String {
    format!(
        "{{models: {{Wifi: {{id: {{type: 'string'}}, ssid: {{type: '{kind}'}}, psk: {{type: 'string', encrypt: true}}}}}}}}"
    )
}

fn agent() -> Agent {
    let mut agent = Agent::new();
    agent.schema(&schema("string"));
    agent.start();
    for n in 0..30 {
        said(&agent, &["db", "create", "Wifi", &format!("id=k{n}"), "ssid=home", &format!("psk=secret {n}")]);
    }
    agent
}

/// What a command of the program says; it must succeed.
fn said(agent: &Agent, words: &[&str]) -> String {
    let output = agent.ask(words);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Why a command fails.
fn refused(agent: &Agent, words: &[&str]) -> String {
    let output = agent.ask(words);
    assert_eq!(output.status.code(), Some(1), "{words:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn database(agent: &Agent) -> Value {
    agent.client().get("/api/status").expect("ask for the status").json()["services"]["database"].clone()
}

/// What the doctor says of the database; whether it is well does not matter.
fn doctor(agent: &Agent) -> String {
    String::from_utf8_lossy(&agent.ask(&["doctor"]).stdout).into_owned()
}

fn psk(agent: &Agent, id: &str) -> String {
    let row = agent.client().get(&format!("/api/db/Wifi/{id}")).expect("ask for the row").json();
    row["psk"].as_str().map_or_else(|| row.to_string(), str::to_owned)
}

fn state(agent: &Agent, name: &str) -> PathBuf {
    agent.scratch().path().join("state").join(name)
}

#[test]
fn a_damaged_file_is_recovered_and_status_and_doctor_say_so() {
    let mut agent = agent();
    agent.stop();
    let file = fs::OpenOptions::new().write(true).open(state(&agent, "db/device.db")).expect("open the file");
    file.write_all_at(&[0x55; 64], 0).expect("damage it");
    agent.start();
    let status = said(&agent, &["status"]);
    assert!(status.contains("recoveries 1") && status.contains("rows 30") && status.contains("corrupt-1"), "{status}");
    let doctor = doctor(&agent);
    assert!(doctor.contains("it was damaged") && doctor.contains("30 rows from"), "{doctor}");
    assert_eq!(psk(&agent, "k7"), "secret 7");
}

#[test]
fn with_a_schema_that_does_not_fit_the_agent_is_reachable_and_says_why_until_it_is_taken_back() {
    let mut agent = agent();
    agent.stop();
    agent.schema(&schema("number"));
    agent.start();
    let why = "model Wifi, field ssid";
    eventually("the status says why", SOON, || {
        let service = database(&agent);
        (service["state"] == "failed" && service["error"].as_str()?.contains(why)).then_some(())
    });
    assert!(doctor(&agent).contains(why));
    let answer = agent.client().get("/api/db/Wifi/k1").expect("ask for a row");
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &json!("closed")));
    let words = refused(&agent, &["db", "get", "Wifi", "k1"]);
    assert!(words.contains("the database is not up; `ioto status` says why"), "{words}");
    agent.stop();
    agent.schema(&schema("string"));
    agent.start();
    assert_eq!(psk(&agent, "k7"), "secret 7");
}

#[test]
fn a_key_elsewhere_can_be_missing_come_back_and_be_changed_under_the_sandbox() {
    let mut agent = agent();
    said(&agent, &["db", "rekey"]);
    let path = agent.scratch().path().join("keys/device.key");
    agent.stop();
    let key = fs::read_to_string(state(&agent, "database.key")).expect("read the key");
    agent.scratch().write("keys/device.key", &key);
    agent.configure("key", &format!("{{database: {{key: '{}'}}}}", path.display()));
    agent.start();
    assert_eq!(psk(&agent, "k7"), "secret 7");
    agent.stop();
    fs::remove_file(&path).expect("remove the key");
    agent.start();
    assert!(psk(&agent, "k7").contains("put it back") && doctor(&agent).contains("cannot be opened"));
    assert!(database(&agent)["sealed"].as_str().is_some_and(|text| text.contains("device.key")));
    // It comes back in front of the running agent, with a new one before it, as one changes keys.
    let fresh = agent.scratch().path().join("keys/fresh");
    fs::write(&fresh, format!("{}\n{key}", "ab".repeat(32))).expect("write the keys");
    fs::rename(&fresh, &path).expect("put the keys in place");
    assert_eq!((psk(&agent, "k7"), database(&agent).get("sealed")), ("secret 7".into(), None));
    let mut socket = Client::unix(&agent.run_directory().join("api.sock")).expect("connect to the agent's own socket");
    let rekeyed = socket.post("/api/db", &json!({"task": "rekey"})).expect("ask for new seals").json();
    assert_eq!(rekeyed, json!({"rows": 30}));
    fs::write(&path, "ab".repeat(32)).expect("forget the old key");
    agent.stop();
    agent.start();
    assert_eq!((psk(&agent, "k7"), database(&agent).get("sealed")), ("secret 7".into(), None));
    let headers = [("Content-Type", "application/json")];
    let refused = agent.client().request("POST", "/api/db", &headers, b"{\"task\": \"rekey\"}").expect("ask the web");
    assert_eq!(refused.status, 403);
}

#[test]
fn a_full_database_is_told_by_status_and_doctor() {
    let mut agent = agent();
    agent.configure("size", "{database: {size: '4MB'}}");
    agent.stop();
    agent.start();
    let text = "x".repeat(60_000);
    let refusal = (0..200).find_map(|n| {
        let output = agent.ask(&["db", "create", "Wifi", &format!("id=full{n}"), &format!("ssid={text}")]);
        (!output.status.success()).then(|| (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    });
    let (code, words) = refusal.expect("it is full some time");
    assert!(code == Some(1) && words.contains("as large as database.size allows (4MB)"), "{words}");
    assert!(
        said(&agent, &["status"]).contains("limit 4194304, full true") && doctor(&agent).contains("of 4194304 bytes")
    );
    assert!(said(&agent, &["db", "statistics"]).contains("limit"));
}
