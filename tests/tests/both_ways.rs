//! Replication in both directions: the running agent, DynamoDB, and somebody who changes items there.

use std::time::Duration;

use ioto_tests::{Agent, Moto, eventually};
use serde_json::{Value, json};

const THING: &str = "lamp-7";
const SCHEMA: &str = "{
    models: {
        Setting: {id: {type: 'string'}, value: {type: 'number'}, note: {type: 'string'}},
        Catalog: {id: {type: 'string'}, title: {type: 'string'}},
    },
    process: {Setting: {sync: 'both'}, Catalog: {sync: 'down'}},
}";
const SOON: Duration = Duration::from_secs(15);

fn agent(moto: &Moto) -> Agent {
    let agent = Agent::new();
    agent.schema(SCHEMA).configure("moto", &moto.settings());
    agent.configure("pull", &format!("{{device: {{id: '{THING}'}}, sync: {{pull: '1 sec'}}}}"));
    agent
}

/// The row as the agent's API has it.
fn row(agent: &Agent, model: &str, key: &str) -> Option<Value> {
    let response = agent.client().get(&format!("/api/db/{model}/{key}")).expect("ask for the row");
    (response.status == 200).then(|| response.json())
}

fn change(agent: &Agent, key: &str, changes: &Value) {
    let headers = [("Content-Type", "application/json")];
    let path = format!("/api/db/Setting/{key}");
    let response = agent.client().request("PATCH", &path, &headers, changes.to_string().as_bytes());
    let response = response.expect("change the row");
    assert_eq!(response.status, 200, "{}", response.text());
}

fn item(moto: &Moto, key: &str) -> Option<Value> {
    moto.scan().into_iter().find(|item| item["sk"] == key)
}

#[test]
fn rows_go_both_ways_and_tombstones_too() {
    let moto = Moto::start();
    moto.edit(THING, "Setting", "old", Some(&json!({"value": 1})));
    let mut agent = agent(&moto);
    agent.start();
    let old = eventually("what was there before comes", SOON, || row(&agent, "Setting", "old"));
    assert_eq!(old, json!({"value": 1, "id": "old"}), "the key is in the row");

    moto.edit(THING, "Setting", "new", Some(&json!({"value": 2.5, "unknown": {"deep": [true, null]}})));
    let new = eventually("what somebody makes comes", SOON, || row(&agent, "Setting", "new"));
    assert_eq!((&new["value"], &new["unknown"]), (&json!(2.5), &json!({"deep": [true, null]})));

    change(&agent, "new", &json!({"note": "here"}));
    let there =
        eventually("the device's change goes up", SOON, || item(&moto, "new").filter(|item| item["_w"] == THING));
    assert_eq!((&there["note"], &there["value"], &there["_v"]), (&json!("here"), &json!(2.5), &json!(2)));
    assert_eq!((&there["unknown"]["deep"][0], there.get("gpk")), (&json!(true), None));

    moto.edit(THING, "Setting", "new", None);
    eventually("the removal comes", SOON, || row(&agent, "Setting", "new").is_none().then_some(()));
    let response = agent.client().request("DELETE", "/api/db/Setting/old", &[], b"").expect("remove the row");
    assert_eq!(response.status, 204);
    eventually("the device's removal goes up", SOON, || item(&moto, "old").filter(|item| item["_d"] == true));

    let sync = eventually("nothing is left to send", SOON, || {
        let status = agent.client().get("/api/status").expect("ask for the status").json();
        let sync = status["services"]["sync"].clone();
        (sync["backlog"] == 0).then_some(sync)
    });
    assert!(sync["pulled"].as_u64() >= Some(3) && sync["lastPull"].is_string(), "{sync}");
    assert_eq!(sync["conflicts"], 0, "{sync}");
}

#[test]
fn what_belongs_to_the_cloud_is_not_changed_on_the_device() {
    let moto = Moto::start();
    let mut agent = agent(&moto);
    agent.start();
    let refused = agent.client().post("/api/db/Catalog", &json!({"id": "a", "title": "mine"})).expect("an answer");
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("comes from the cloud"), "{}", refused.text());
    moto.edit(THING, "Catalog", "a", Some(&json!({"title": "theirs"})));
    let row = eventually("the row comes", SOON, || row(&agent, "Catalog", "a"));
    assert_eq!(row["title"], "theirs");
}

#[test]
fn after_an_outage_the_cloud_wins_and_the_devices_version_is_kept() {
    let mut moto = Moto::start();
    moto.edit(THING, "Setting", "both", Some(&json!({"value": 1})));
    let mut agent = agent(&moto);
    agent.start();
    eventually("the row comes", SOON, || row(&agent, "Setting", "both"));
    moto.outage();
    change(&agent, "both", &json!({"value": 2}));
    moto.edit(THING, "Setting", "both", Some(&json!({"value": 3})));
    moto.edit(THING, "Setting", "other", Some(&json!({"value": 4})));
    // The outage outlives a kill.
    agent.kill();
    agent.start();
    moto.recover();
    let other = eventually("what was missed comes", Duration::from_secs(60), || row(&agent, "Setting", "other"));
    assert_eq!(other["value"], 4);
    eventually("the cloud's version is here", Duration::from_secs(60), || {
        row(&agent, "Setting", "both").filter(|row| row["value"] == 3)
    });
    eventually("the conflict is counted", SOON, || {
        let status = agent.client().get("/api/status").expect("ask for the status").json();
        (status["services"]["sync"]["conflicts"] == 1).then_some(())
    });
}

#[test]
fn a_full_database_still_sends_takes_removals_and_takes_the_rest_when_there_is_room() {
    const LARGE: usize = 100_000;
    let moto = Moto::start();
    let mut agent = agent(&moto);
    agent.configure("size", "{database: {size: '4MB'}}");
    agent.schema(&SCHEMA.replace("models: {", "models: {Local: {id: {type: 'string'}, text: {type: 'string'}},"));
    agent.start();
    moto.edit(THING, "Setting", "mine", Some(&json!({"value": 1})));
    moto.edit(THING, "Catalog", "first", Some(&json!({"title": "x".repeat(LARGE)})));
    eventually("both come", SOON, || row(&agent, "Setting", "mine").and(row(&agent, "Catalog", "first")));
    let add = |n: usize, size: usize| {
        let body = json!({"id": format!("{n:03}"), "text": "x".repeat(size)}).to_string();
        let headers = [("Content-Type", "application/json")];
        agent.client().request("POST", "/api/db/Local", &headers, body.as_bytes()).expect("add a row")
    };
    let mut count = 0;
    // Large ones at first, then what still fits beside them.
    for size in [50_000, 2000] {
        loop {
            let response = add(count, size);
            if response.status != 201 {
                let body = response.json();
                assert_eq!((response.status, &body["error"]["code"]), (507, &json!("full")), "{body}");
                assert!(body["error"]["message"].as_str().is_some_and(|text| text.contains("database.size")), "{body}");
                break;
            }
            count += 1;
        }
    }
    moto.edit(THING, "Catalog", "second", Some(&json!({"title": "y".repeat(LARGE)})));
    moto.edit(THING, "Catalog", "third", Some(&json!({"title": "z".repeat(LARGE)})));
    let status = || agent.client().get("/api/status").expect("ask for the status").json()["services"].clone();
    eventually("what comes waits for room", SOON, || {
        let services = status();
        let error = services["sync"]["lastError"].as_str().unwrap_or_default().to_owned();
        assert_eq!(services["sync"]["state"], "running", "{services}");
        error.contains("database.size").then_some(())
    });
    let database = status()["database"].clone();
    assert_eq!((&database["limit"], &database["full"]), (&json!(4 << 20), &json!(true)), "{database}");
    change(&agent, "mine", &json!({"value": 2}));
    eventually("a change is sent all the same", SOON, || item(&moto, "mine").filter(|item| item["value"] == 2));
    assert!(row(&agent, "Catalog", "second").is_none());
    for n in 0..12 {
        let response = agent.client().request("DELETE", &format!("/api/db/Local/{n:03}"), &[], b"").expect("remove");
        assert_eq!(response.status, 204, "{n}");
    }
    let both = || row(&agent, "Catalog", "second").and(row(&agent, "Catalog", "third"));
    eventually("there is room, and it comes", Duration::from_secs(40), both);
    assert_eq!(status()["database"].get("full"), None);
    assert_eq!(status()["database"]["restarts"], 0);
    assert_eq!(status()["sync"]["restarts"], 0);
}
