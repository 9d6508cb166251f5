//! Watching the database of the running agent over WebSockets and by server-sent events, with the package websockets.

use ioto_tests::{Agent, python, repository};

fn watch(part: &str, web: &str) {
    let mut agent = Agent::new();
    let fields =
        "id: {type: 'string'}, n: {type: 'number'}, text: {type: 'string'}, secret: {type: 'string', hidden: true}";
    agent.schema(&format!("{{models: {{Lamp: {{{fields}}}}}}}"));
    agent.configure("few", "{database: {watchers: 4}}").configure("web", &format!("{{web: {web}}}"));
    agent.start();
    let script = repository().join("tests/tests/watching.py");
    let status = python().arg(script).args([&agent.address().to_string(), part]).status().expect("python runs");
    assert!(status.success(), "{status}");
}

#[test]
fn a_websocket_tells_what_server_sent_events_tell_and_says_why_it_ends() {
    watch("quick", "{webSockets: {ping: '1 sec'}, timeouts: {inactivity: '3 secs'}}");
}

#[test]
fn a_slow_reader_holds_up_nobody_and_is_told_what_it_lost() {
    watch("patient", "{}");
}
