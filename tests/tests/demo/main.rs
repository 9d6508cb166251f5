//! The demo cloud end to end: a row changed in the cloud is on the page of the device within two seconds, one changed on the page
//! is in DynamoDB within two seconds, and so it is after an outage.
//!
//! The page is in a browser, the agent is the real program with the shipped schema and page, and the function in the cloud is the
//! real one; moto stands for DynamoDB and its stream, mosquitto for AWS IoT.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use ioto_tests::{Agent, Function, Mosquitto, Moto, Proxy, eventually, repository};
use serde_json::{Value, json};

const THING: &str = "lamp-7";
/// What is promised.
const SOON: Duration = Duration::from_secs(2);

/// The visitor and the program in the cloud.
struct Visitor {
    child: Child,
    orders: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Visitor {
    fn start(agent: &Agent, moto: &Moto) -> Self {
        let environment = env::var_os("IOTO_TEST_VENV").map_or_else(|| repository().join(".venv"), PathBuf::from);
        let place = json!({
            "plain": format!("http://{}", agent.address()),
            "scratch": agent.scratch().path(),
            "thing": THING,
            "cloud": moto.line().parse::<Value>().expect("it is JSON"),
        });
        let mut child = Command::new(environment.join("bin/python"))
            .arg("-B")
            .arg(repository().join("tests/tests/demo/page.py"))
            .arg(place.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start python");
        let orders = child.stdin.take().expect("it is piped");
        let said = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut visitor = Self { child, orders, said };
        assert_eq!(visitor.hear(), "ready", "the browser does not start, or the page shows no settings");
        visitor
    }

    /// Has something done, and returns how long that took.
    fn order(&mut self, order: &str) -> Duration {
        writeln!(self.orders, "{order}").expect("give an order");
        let took = self.hear().parse().unwrap_or_else(|_| panic!("{order}: it failed, see above"));
        Duration::from_secs_f64(took)
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("hear the visitor");
        line.trim_end().to_owned()
    }

    /// Changes settings in every way, and returns how long they took to the other side.
    fn all_ways(&mut self, value: &str, when: &str) {
        for (by, wait) in [("cloud", "shown"), ("console", "shown"), ("page", "stored")] {
            let began = Instant::now();
            let made = self.order(&format!("{by} {value}"));
            self.order(&format!("{wait} {by} {value}"));
            let took = began.elapsed();
            let after = took.saturating_sub(made);
            println!("{when}: set by {by}: {wait} after {took:.0?}, {after:.0?} after the end of the write");
            assert!(took <= SOON, "{when}: {by} took {took:?}");
        }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let _ = writeln!(self.orders, "end");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn agent(moto: &Moto, broker: &Proxy, transport: &str) -> Agent {
    let mut agent = Agent::new();
    let shipped = repository().join("rootfs-overlay/usr/share/ioto/schema.json5");
    agent.schema(&fs::read_to_string(shipped).expect("read the shipped schema")).configure("moto", &moto.settings());
    agent.configure(
        "demo",
        &format!(
            "{{device: {{id: '{THING}'}}, services: {{mqtt: true}}, mqtt: {{endpoint: 'mqtt://{}'}}, \
             sync: {{transport: '{transport}'}}}}",
            broker.address()
        ),
    );
    for name in ["index.html", "page.js", "style.css", "icon.svg"] {
        let page = fs::read_to_string(repository().join("agent/www").join(name)).expect("read the page");
        agent.scratch().write(&format!("www/{name}"), &page);
    }
    agent.start();
    agent
}

fn status(agent: &Agent) -> Value {
    agent.client().get("/api/status").expect("ask for the status").json()["services"].clone()
}

fn until_connected(agent: &Agent) {
    // After a long outage the client waits up to 15 minutes.
    eventually("the device is connected", Duration::from_secs(1000), || {
        let mqtt = status(agent)["mqtt"].clone();
        (mqtt["connected"] == true && mqtt["subscriptions"].as_u64() >= Some(1)).then_some(())
    });
}

#[test]
fn rows_are_on_the_other_side_within_two_seconds_also_after_an_outage() {
    there_and_back("dynamodb");
}

#[test]
fn over_mqtt_alone_they_are_as_well() {
    there_and_back("mqtt");
}

/// `IOTO_TEST_OUTAGE` is how long the outage takes, in seconds.
fn there_and_back(transport: &str) {
    let outage = env::var("IOTO_TEST_OUTAGE").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let (mut moto, broker) = (Moto::with_stream(), Mosquitto::start());
    let _function = Function::start(&moto, &broker);
    let mut front = Proxy::new(broker.address());
    let agent = agent(&moto, &front, transport);
    until_connected(&agent);
    let mut visitor = Visitor::start(&agent, &moto);
    for round in 0..3 {
        visitor.all_ways(&format!("v{round}"), &format!("{transport}, in good times"));
    }

    moto.outage();
    front.close();
    thread::sleep(Duration::from_secs(outage) / 2);
    visitor.order("cloud missed");
    visitor.order("page waiting");
    thread::sleep(Duration::from_secs(outage) / 2);
    let before = status(&agent);
    assert_eq!((&before["mqtt"]["connected"], &before["sync"]["backlog"]), (&json!(false), &json!(1)), "{before}");
    moto.recover();
    front.open();
    let began = Instant::now();
    until_connected(&agent);
    let away = began.elapsed();
    let connected = Instant::now();
    visitor.order("shown cloud missed");
    let down = connected.elapsed();
    visitor.order("stored page waiting");
    let up = connected.elapsed();
    println!(
        "{transport}: after an outage of {outage} s: connected to the broker {away:.0?} after its end; then what was missed was on the \
         page after {down:.0?}, what waited in DynamoDB after {up:.0?}"
    );
    assert!(down <= SOON && up <= SOON, "{down:?} {up:?}");
    visitor.all_ways("later", &format!("{transport}, after the outage"));
}
