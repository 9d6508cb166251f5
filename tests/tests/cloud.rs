//! The agent against a broker and AWS: what `ci/run --cloud` promises, and how the agent ends.

use std::net::TcpListener;
use std::time::Duration;

use ioto_tests::{Agent, Mosquitto, Moto, eventually, readings};
use serde_json::Value;

#[test]
fn a_posted_row_is_in_dynamodb_within_five_seconds() {
    let moto = Moto::start();
    let mut agent = Agent::new();
    agent.schema(readings::SCHEMA).configure("moto", &moto.settings());
    agent.start();
    let response = readings::post(&mut agent.client(), "temperature", 21).expect("post a row");
    assert_eq!(response.status, 201, "{}", response.text());
    let item = response.json();
    let row = eventually("the row is in DynamoDB", Duration::from_secs(5), || {
        readings::in_the_cloud(&moto).get("temperature").cloned()
    });
    assert_eq!((Value::from(row.0), row.1), (item["id"].clone(), 21));
}

#[test]
fn a_published_message_reaches_the_agent() {
    let broker = Mosquitto::start();
    let mut agent = Agent::new();
    agent.configure("mosquitto", &broker.settings("demo/#"));
    agent.start();
    let mut client = agent.client();
    // Until the subscription stands, the broker has nobody to pass a message to.
    let status = eventually("the agent has a message", Duration::from_secs(10), || {
        broker.publish("demo/hello", "world");
        let status = client.get("/api/status").expect("ask for the status").json();
        let mqtt = status["services"]["mqtt"].clone();
        (mqtt["received"].as_u64() > Some(0)).then_some(mqtt)
    });
    assert!(status.to_string().contains("demo/hello"), "the status names the topic: {status}");
}

#[test]
fn sigterm_ends_the_agent_within_five_seconds_and_keeps_what_was_acknowledged() {
    let (mut moto, broker) = (Moto::start(), Mosquitto::start());
    let mut agent = Agent::new();
    agent.schema(readings::SCHEMA);
    agent.configure("moto", &moto.settings()).configure("mosquitto", &broker.settings("demo/#"));
    agent.start();
    // With work that cannot be done, and a client that stays.
    moto.outage();
    let mut client = agent.client();
    assert_eq!(readings::post(&mut client, "kept", 1).expect("post a row").status, 201);
    let (status, time) = agent.stop();
    assert!(status.success(), "{status}\n{}", agent.log());
    assert!(time < Duration::from_secs(5), "it took {time:?}\n{}", agent.log());
    agent.start();
    assert!(readings::on_the_device(&mut agent.client()).contains_key("kept"));
}

#[test]
fn a_port_in_use_is_said_in_one_line_and_ends_with_status_1() {
    let mut agent = Agent::new();
    let _taken = TcpListener::bind(agent.address()).expect("take the agent's port");
    let status = agent.run_to_end(Duration::from_secs(10));
    let log = agent.log();
    assert_eq!(status.code(), Some(1), "{log}");
    let port = agent.address().port().to_string();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(&port) && line.contains("in use")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(!log.contains("panicked"), "{log}");
}
