//! The network comes up after the agent: it does not wait any longer for what failed before.
//!
//! The test runs in a network namespace of its own, which has nothing but loopback until an address is added to it.

use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

use ioto_tests::{Agent, Mosquitto, Scratch, eventually, free_port};

const INSIDE: &str = "IOTO_TEST_NAMESPACE";
const ADDRESS: &str = "10.9.8.7";
/// An attempt that comes so late is one that was due anyway.
const SOON: Duration = Duration::from_millis(1500);

fn run(program: &str, arguments: &str) -> bool {
    let status = Command::new(program).args(arguments.split(' ')).status();
    status.unwrap_or_else(|error| panic!("{program}: {error}")).success()
}

/// Runs a test of this program again, in a namespace.
fn in_namespace(test: &str) {
    let user = if run("unshare", "--net true") { "--net" } else { "--net --map-root-user" };
    let status = Command::new("unshare")
        .args(user.split(' '))
        .arg(env::current_exe().expect("it is there"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(status.expect("run unshare").success(), "it failed in the namespace, see above");
}

/// How long the agent says that it waits now.
fn wait(agent: &Agent) -> Option<f32> {
    let log = agent.log();
    let (_, last) = log.rsplit_once("next attempt in ")?;
    last.split(' ').next()?.parse().ok()
}

#[test]
fn the_broker_is_tried_as_soon_as_the_network_comes_up() {
    if env::var_os(INSIDE).is_none() {
        return in_namespace("the_broker_is_tried_as_soon_as_the_network_comes_up");
    }
    assert!(run("ip", "link set lo up"), "bring loopback up");
    let port = free_port();
    let settings = format!("allow_anonymous true\nlistener {port} 0.0.0.0\n");
    let _broker = Mosquitto::with(Scratch::new(), &settings);
    let mut agent = Agent::new();
    agent.configure(
        "mqtt",
        &format!("{{services: {{mqtt: true}}, mqtt: {{endpoint: 'mqtt://{ADDRESS}:{port}', keepAlive: 30}}}}"),
    );
    agent.start();
    let long_wait = || wait(&agent).filter(|wait| *wait > 2.0 * SOON.as_secs_f32());
    let wait = eventually("the agent waits for long", Duration::from_secs(120), long_wait);

    let began = Instant::now();
    assert!(run("ip", &format!("address add {ADDRESS}/32 dev lo")), "add an address");
    eventually("the agent is connected", Duration::from_secs(120), || {
        let status = agent.client().get("/api/status").ok()?.json();
        (status["services"]["mqtt"]["connected"] == true).then_some(())
    });
    let took = began.elapsed();
    println!("connected {took:.1?} after the address came up, where the next attempt was due after {wait} s");
    assert!(took < SOON, "it took {took:?}, and the next attempt was due after {wait} s: {}", agent.log());
}
