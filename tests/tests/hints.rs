//! Hints over MQTT: what they make the running agent ask the cloud, and what it does not let them do.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ioto_tests::{Agent, Ahead, Mosquitto, Moto, eventually};
use serde_json::{Value, json};

const THING: &str = "lamp-7";
const TOPIC: &str = "sync/lamp-7/dirty";
const SCHEMA: &str = "{
    models: {Setting: {id: {type: 'string'}, value: {type: 'number'}}, Reading: {id: {type: 'string'}}},
    process: {Setting: {sync: 'both', conflict: 'cloud'}, Reading: {sync: 'up'}},
}";
const SOON: Duration = Duration::from_secs(5);

/// An agent that asks the cloud once an hour, unless it is told to, and how often it asks.
struct Bench {
    moto: Moto,
    broker: Mosquitto,
    front: Ahead,
    agent: Agent,
}

impl Bench {
    fn start() -> Self {
        let (moto, broker) = (Moto::start(), Mosquitto::start());
        let server = moto.endpoint().strip_prefix("http://").expect("a URL").parse().expect("an address");
        let front = Ahead::new(server, Duration::ZERO);
        let mut agent = Agent::new();
        agent.schema(SCHEMA).configure("moto", &moto.settings().replace(&moto.endpoint(), &front.endpoint()));
        agent.configure("mosquitto", &broker.settings("other/#"));
        agent.configure("pull", &format!("{{device: {{id: '{THING}'}}, sync: {{pull: '1 hour'}}}}"));
        agent.start();
        let bench = Self { moto, broker, front, agent };
        eventually("both subscriptions stand", SOON * 2, || (bench.status("mqtt")["subscriptions"] == 2).then_some(()));
        bench.until_quiet();
        bench
    }

    fn status(&self, service: &str) -> Value {
        self.agent.client().get("/api/status").expect("ask for the status").json()["services"][service].clone()
    }

    fn value(&self, key: &str) -> Option<Value> {
        let response = self.agent.client().get(&format!("/api/db/Setting/{key}")).expect("ask for the row");
        (response.status == 200).then(|| response.json()["value"].clone())
    }

    /// Waits until nothing is asked for longer than a hint or a connection makes it ask again.
    fn until_quiet(&self) -> usize {
        let (mut asked, mut since) = (self.front.requests(), Instant::now());
        while since.elapsed() < Duration::from_secs(6) {
            thread::sleep(Duration::from_millis(50));
            if self.front.requests() != asked {
                (asked, since) = (self.front.requests(), Instant::now());
            }
        }
        asked
    }

    /// Publishes each line.
    fn publish(&self, lines: &str) {
        let port = self.broker.address().port().to_string();
        let mut child = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", TOPIC, "-l"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("run mosquitto_pub; `ci/test test` installs it");
        child.stdin.take().expect("it is piped").write_all(lines.as_bytes()).expect("write to mosquitto_pub");
        assert!(child.wait().expect("wait for mosquitto_pub").success());
    }
}

fn hint(time: &str, removed: bool) -> String {
    json!({"v": 1, "models": ["Setting"], "ts": time, "removed": removed}).to_string()
}

#[test]
fn a_hint_brings_the_change_and_one_of_a_removal_takes_the_row_away() {
    let bench = Bench::start();
    bench.moto.edit(THING, "Setting", "a", Some(&json!({"value": 1})));
    thread::sleep(Duration::from_millis(500));
    assert_eq!(bench.value("a"), None, "nobody said anything");
    bench.broker.publish(TOPIC, &hint("2026-01-01T00:00:00.000000Z", false));
    eventually("the change comes", SOON, || bench.value("a").filter(|value| *value == 1));

    // As the console deletes it.
    let gone = bench.moto.scan().remove(0);
    bench.moto.delete(&gone);
    bench.broker.publish(TOPIC, &hint("", true));
    eventually("the row is gone", SOON, || bench.value("a").is_none().then_some(()));
}

#[test]
fn ten_thousand_hints_are_few_questions_and_what_is_no_hint_is_logged_once() {
    let bench = Bench::start();
    let before = bench.front.requests();
    let began = Instant::now();
    bench.publish(&format!("{}\n", hint("2099-01-01T00:00:00.000000Z", true)).repeat(10_000));
    let took = began.elapsed();
    let asked = bench.until_quiet() - before;
    println!("10,000 hints in {took:.1?} were {asked} requests");
    // Two rounds in a second, those after the last hint, and the model as a whole now and then.
    let most = 2.0 * took.as_secs_f64() + 10.0 + 3.0 * (took.as_secs_f64() / 10.0);
    assert!((1..=most as usize).contains(&asked), "{asked} requests, {most} at most");

    bench.publish(&"{\"v\": 1, \"models\": 7}\n[]\nnothing\n".repeat(100));
    bench.moto.edit(THING, "Setting", "b", Some(&json!({"value": 2})));
    bench.broker.publish(TOPIC, &hint("2026-01-01T00:00:00.000000Z", false));
    eventually("hints work on", SOON * 2, || bench.value("b"));
    let log = bench.agent.log();
    assert_eq!(log.lines().filter(|line| line.contains("is no hint")).count(), 1, "{log}");
}
