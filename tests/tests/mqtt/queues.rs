//! The queues of messages on their way out: configured, seen in `ioto status`, and on disk where a message wants it.

use ioto_tests::Agent;

const NO_BROKER: &str = "{services: {mqtt: true}, mqtt: {endpoint: 'mqtt://127.0.0.1:9', clientId: 'queues', queue: {
    count: 3, high: {policy: 'dropNewest'}, normal: {policy: 'dropOldest', age: '1 hour'}, low: {policy: 'coalesce'},
}}}";

/// Leaves a message to the agent, and gives what the command said when it failed.
fn publish(agent: &Agent, topic: &str, options: &[&str]) -> Result<(), String> {
    let mut words = vec!["mqtt", "pub", "-t", topic, "-m", "0123456789", "-q", "1", "--no-wait"];
    words.extend(options);
    let output = agent.ask(&words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

/// Expects these words in one line of `ioto status`.
fn shows(agent: &Agent, name: &str, words: &[&str]) {
    let status = String::from_utf8_lossy(&agent.ask(&["status"]).stdout).into_owned();
    let line = status.lines().find(|line| line.contains(name)).expect("it is a line of the status");
    assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {status}");
}

#[test]
fn each_priority_has_its_bounds_and_its_policy_and_shows_them_in_the_status() {
    let mut agent = Agent::new();
    agent.configure("mqtt", NO_BROKER);
    agent.start();
    for topic in ["t/1", "t/2", "t/3", "t/4"] {
        let high = publish(&agent, topic, &["--priority", "high"]);
        assert_eq!(high.is_ok(), topic != "t/4", "{high:?}");
        publish(&agent, topic, &[]).expect("the oldest makes room");
        publish(&agent, "t/low", &["--priority", "low"]).expect("there is room");
    }
    let refused = publish(&agent, "t/5", &["--priority", "high"]).expect_err("the queue is full");
    assert!(refused.contains("queue"), "{refused}");
    // 9 bytes of a packet's head, 3 or 5 of the topic, 10 of the payload.
    shows(&agent, "queues high", &["messages 3", "bytes 66", "oldest ", "dropped 2"]);
    shows(&agent, "queues normal", &["messages 3", "bytes 66", "oldest ", "dropped 1"]);
    shows(&agent, "queues low", &["messages 1", "bytes 24", "dropped 3"]);
    shows(&agent, "mqtt ", &["queued 7", "newest 2", "oldest 1", "coalesced 3"]);
}

#[test]
fn a_full_queue_keeps_its_publisher_waiting_and_says_at_last_that_nothing_was_queued() {
    let mut agent = Agent::new();
    agent.configure("mqtt", &NO_BROKER.replace("'dropOldest'", "'block'"));
    agent.start();
    for _ in 0..3 {
        publish(&agent, "t", &[]).expect("there is room");
    }
    let refused = publish(&agent, "t", &["-W", "1"]).expect_err("there is no room");
    assert!(refused.contains("ioto: "), "{refused}");
    shows(&agent, "queues normal", &["messages 3", "bytes 60", "dropped 0"]);
}

#[test]
fn a_durable_message_outlives_the_agent_and_another_does_not() {
    let mut agent = Agent::new();
    agent.configure("mqtt", NO_BROKER);
    agent.start();
    publish(&agent, "kept", &["--durable", "--priority", "low"]).expect("it is queued");
    publish(&agent, "gone", &[]).expect("it is queued");
    agent.kill();
    agent.start();
    shows(&agent, "queues low", &["messages 1", "bytes 23"]);
    shows(&agent, "queues normal", &["messages 0"]);
}

#[test]
fn options_of_the_agents_queue_make_no_sense_without_the_agent() {
    let agent = Agent::new();
    for options in
        [&["--durable", "-h", "127.0.0.1"][..], &["--priority", "high", "--direct"], &["--priority", "urgent"]]
    {
        let said = publish(&agent, "t", options).expect_err("bad usage");
        assert!(said.contains("--"), "{said}");
    }
}
