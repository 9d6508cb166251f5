//! The web server of the running agent: signatures and the access log.

use std::fs;
use std::time::Duration;

use ioto_tests::{Agent, Signal, eventually};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);

const ROUTES: &str = "{web: {
    signatures: {enable: true},
    routes: [{match: '/api/', handler: 'action', validate: true}, {match: ''}],
}}";

/// Signatures of the model `Note`, in which `field` is a text that must be there.
fn signatures(field: &str) -> String {
    format!(
        "{{db: {{Note: {{\n request: {{fields: {{{field}: {{type: 'string', required: true}}, level: {{type: 'number', \
         default: 3}}}}}},\n response: {{fields: {{updated: {{drop: true}}}}}},\n}}}}}}"
    )
}

fn agent() -> Agent {
    let agent = Agent::new();
    agent.schema(
        "{models: {Note: {id: {type: 'string', generate: 'ulid'}, text: {type: 'string'}, level: {type: 'number'}}}}",
    );
    agent.configure("routes", ROUTES);
    agent
}

fn problem(agent: &Agent, body: &Value) -> (u16, String) {
    let answer = agent.client().post("/api/db/Note", body).expect("an answer");
    let field = answer.json()["problems"][0]["field"].as_str().unwrap_or_default().to_owned();
    (answer.status, field)
}

#[test]
fn signatures_that_are_wrong_end_the_start_before_any_service_and_are_told_with_their_place() {
    let mut agent = agent();
    let status = agent.run_to_end(LIMIT);
    assert_eq!(status.code(), Some(2), "{}", agent.log());
    assert!(agent.log().contains("signatures.json5: the signatures cannot be read"), "{}", agent.log());

    agent.scratch().write("config/signatures.json5", "{db: {Note: {\n request: {type: 'objct'},\n}}}");
    let status = agent.run_to_end(LIMIT);
    let log = agent.log();
    assert_eq!(status.code(), Some(2), "{log}");
    assert!(log.contains("signatures.json5:2: db.Note.request.type: expected one of 'any'"), "{log}");
    assert!(!log.contains("listening on"), "{log}");
}

#[test]
fn signatures_hold_for_the_actions_of_the_agent_and_are_read_again_on_sighup() {
    let mut agent = agent();
    agent.scratch().write("config/signatures.json5", &signatures("text"));
    agent.start();
    assert_eq!(problem(&agent, &json!({"text": 5})), (400, "body.text".to_owned()));
    let made = agent.client().post("/api/db/Note", &json!({"text": "a"})).expect("an answer");
    assert_eq!(made.json()["level"], 3, "{}", made.text());

    agent.scratch().write("config/signatures.json5", "{db: 7}");
    agent.signal(Signal::Hup);
    eventually("the wrong file is refused", LIMIT, || {
        agent.log().contains("not all certificates and signatures").then_some(())
    });
    assert!(agent.log().contains("signatures.json5:1: db: expected an object of methods"), "{}", agent.log());
    assert_eq!(problem(&agent, &json!({})), (400, "body.text".to_owned()));

    agent.scratch().write("config/signatures.json5", &signatures("title"));
    agent.signal(Signal::Hup);
    eventually("the new signatures hold", LIMIT, || {
        (problem(&agent, &json!({})) == (400, "body.title".to_owned())).then_some(())
    });
}

#[test]
fn the_access_log_goes_into_the_database() {
    let mut agent = agent();
    agent.configure("routes", "{web: {accessLog: {path: 'database', format: 'json', rows: 3}}}");
    agent.start();
    for n in 0..4 {
        agent.client().get(&format!("/page{n}?token=hunter2")).expect("an answer");
    }
    agent.stop();
    assert!(!agent.log().contains("access log"), "{}", agent.log());
    let path = agent.scratch().path().join("state/db/device.db");
    let options = ioto::config::Database { path, ..Default::default() };
    let db = ioto::db::Db::open(&options, ioto::db::Schema::default()).expect("open the database");
    let lines = smol::block_on(db.access_log(10)).expect("read the log");
    let targets: Vec<_> = (lines.iter())
        .map(|line| {
            serde_json::from_str::<Value>(line).expect("JSON")["target"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    assert_eq!(targets, ["/page3?token=***", "/page2?token=***", "/page1?token=***"]);

    agent.configure("routes", "{services: {database: false}, web: {accessLog: {path: 'database'}}}");
    assert_eq!(agent.run_to_end(LIMIT).code(), Some(2), "{}", agent.log());
    assert!(agent.log().contains("web.accessLog.path: needs the database"), "{}", agent.log());
}

#[test]
fn the_access_log_goes_into_a_file_that_sighup_begins_anew() {
    let mut agent = agent();
    agent.configure("routes", "{web: {accessLog: {path: '@state/log/access.log', exclude: ['/']}}}");
    agent.start();
    let log = agent.scratch().path().join("state/log/access.log");
    let text = || fs::read_to_string(&log).unwrap_or_default();
    agent.client().get("/one").expect("an answer");
    eventually("the line is there", LIMIT, || text().contains("GET /one HTTP/1.1\" 404 ").then_some(()));
    fs::rename(&log, log.with_file_name("moved")).expect("move the log");
    agent.signal(Signal::Hup);
    agent.client().get("/two").expect("an answer");
    eventually("the new file is there", LIMIT, || text().contains("GET /two").then_some(()));
    assert_eq!(text().lines().count(), 1);
}
