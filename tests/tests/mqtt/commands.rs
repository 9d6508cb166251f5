//! `ioto mqtt pub` and `ioto mqtt sub`, with mosquitto_pub and mosquitto_sub on the other side.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use ioto_tests::{Agent, Mosquitto, Scratch, eventually, program};

/// A command that takes messages, once it is subscribed.
struct Subscriber {
    child: Child,
}

impl Subscriber {
    /// Starts it; with `--debug` it says when it is subscribed.
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start it");
        let mut said = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut line = String::new();
        while !line.contains("ubscribed") {
            line.clear();
            assert!(said.read_line(&mut line).expect("it says something") > 0, "it ended before it was subscribed");
        }
        child.stderr = Some(said.into_inner());
        Self { child }
    }

    /// What it wrote until its end, and its exit status.
    fn ended(mut self) -> (String, Option<i32>) {
        let mut text = String::new();
        self.child.stdout.take().expect("it is piped").read_to_string(&mut text).expect("text");
        let ended = || self.child.try_wait().ok().flatten();
        let status = eventually("the subscriber ends", Duration::from_secs(20), ended);
        let mut said = String::new();
        self.child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("text");
        println!("the subscriber said: {said}");
        (text, status.code())
    }
}

fn direct(broker: &Mosquitto, verb: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("ioto"));
    let port = broker.address().port().to_string();
    command.env_clear().args(["mqtt", verb, "-h", "127.0.0.1", "-p", &port]).args(arguments);
    command
}

fn run(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start it");
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn succeeds(command: &mut Command, input: &str) {
    let output = run(command, input);
    assert!(output.status.success(), "{:?}: {}", command, String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_connection_of_its_own_takes_every_kind_of_payload_and_shows_every_format() {
    let broker = Mosquitto::with(Scratch::new(), "allow_anonymous true\n");
    let file = Scratch::new().write("payload", "of a file");
    std::fs::create_dir_all(file.parent().expect("a directory")).expect("it is made");
    std::fs::write(&file, "of a file").expect("it is written");
    let file = file.to_string_lossy().into_owned();
    let format = ["-t", "a/#", "-t", "b", "-q", "1", "-C", "7", "-d", "-F", "%t|%p|%q|%r|%l|%x"];
    let subscriber = Subscriber::start(direct(&broker, "sub", &format));
    succeeds(&mut direct(&broker, "pub", &["-t", "a/1", "-m", "text", "-q", "1"]), "");
    succeeds(&mut direct(&broker, "pub", &["-t", "a/2", "-f", &file, "-q", "1"]), "");
    succeeds(&mut direct(&broker, "pub", &["-t", "a/3", "-s", "-q", "1"]), "all\nof it");
    succeeds(&mut direct(&broker, "pub", &["-t", "a/4", "-l", "-q", "1"]), "one\ntwo");
    succeeds(&mut direct(&broker, "pub", &["-t", "a/5", "-n", "-q", "1"]), "");
    succeeds(&mut direct(&broker, "pub", &["-t", "b", "-m", "0"]), "");
    let (text, status) = subscriber.ended();
    assert_eq!(status, Some(0));
    assert_eq!(
        text,
        "a/1|text|1|0|4|74657874\na/2|of a file|1|0|9|6f6620612066696c65\na/3|all\nof it|1|0|9|616c6c0a6f66206974\n\
         a/4|one|1|0|3|6f6e65\na/4|two|1|0|3|74776f\na/5||1|0|0|\nb|0|0|0|1|30\n"
    );
    let _ = std::fs::remove_dir_all(std::path::Path::new(&file).parent().expect("a directory"));
}

#[test]
fn a_thousand_lines_arrive_in_their_order() {
    let broker = Mosquitto::with(Scratch::new(), "allow_anonymous true\n");
    let subscriber = Subscriber::start(direct(&broker, "sub", &["-t", "lines", "-q", "1", "-C", "1000", "-d"]));
    let lines: String = (0..1000).map(|line| format!("{line}\n")).collect();
    succeeds(&mut direct(&broker, "pub", &["-t", "lines", "-l", "-q", "1"]), &lines);
    assert!(subscriber.ended() == (lines, Some(0)));
}

#[test]
fn through_the_agent_messages_go_both_ways_with_its_connection() {
    let broker = Mosquitto::with(Scratch::new(), "allow_anonymous true\n");
    let mut agent = Agent::new();
    agent.configure("mqtt", &broker.settings("none"));
    agent.start();
    let ask = |words: &[&str]| agent.ask(words);
    let subscribe = |arguments: &[&str]| {
        let directory = agent.scratch().path();
        let mut command = Command::new(program("ioto"));
        command.env_clear().args(["mqtt", "sub", "--profile", "dev"]).args(arguments);
        command.args(["--config".as_ref(), directory.join("config").as_os_str()]);
        command.args(["--state".as_ref(), directory.join("state").as_os_str()]);
        command.env("IOTO_DIRECTORIES_SHARE", directory.join("share"));
        Subscriber::start(command)
    };
    let subscriber = subscribe(&["-t", "to/#", "-q", "1", "-v", "-C", "2", "-d", "-W", "20"]);
    broker.publish("to/us", "hello");
    let output = ask(&["mqtt", "pub", "-t", "to/them", "-m", "and back", "-q", "1", "-r"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(subscriber.ended(), ("to/us hello\nto/them and back\n".into(), Some(0)));

    let retained = subscribe(&["-t", "to/them", "-C", "1", "-d", "-W", "20", "-F", "%r"]);
    assert_eq!(retained.ended(), ("1\n".into(), Some(0)));
    // The largest message of AWS IoT passes the socket in base64.
    let large = "x".repeat(128 * 1024);
    let file = agent.scratch().write("large", &large).to_string_lossy().into_owned();
    let subscriber = subscribe(&["-t", "large", "-C", "1", "-d", "-W", "20"]);
    let output = ask(&["mqtt", "pub", "-t", "large", "-f", &file, "-q", "1"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (text, status) = subscriber.ended();
    assert_eq!((text.len(), status), (large.len() + 1, Some(0)));
    assert!(text.trim_end() == large);
    let status = String::from_utf8_lossy(&ask(&["status"]).stdout).into_owned();
    assert!(status.contains("connected true") && status.contains("sent 2"), "{status}");
}

#[test]
fn what_cannot_be_done_is_said_with_the_right_status() {
    let broker = Mosquitto::with(Scratch::new(), "allow_anonymous true\n");
    for (arguments, status, word) in [
        (&["-t", "a/#", "-m", "x"][..], 2, "no topic"),
        (&["-m", "x"], 2, "a topic is needed"),
        (&["-t", "a"], 2, "a payload is needed"),
        (&["-t", "a", "-m", "x", "-n"], 2, "more than one"),
        (&["-t", "a", "-m", "x", "-q", "3"], 2, "-q"),
        (&["-t", "a", "-f", "/nonexistent"], 1, "cannot be read"),
        (&["-t", "a", "-m", "x", "--cert", "/x"], 2, "--key"),
    ] {
        let output = run(&mut direct(&broker, "pub", arguments), "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    let output = run(&mut direct(&broker, "sub", &["-t", "nothing", "-W", "0.3"]), "");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let output = run(
        Command::new(program("ioto")).env_clear().args(["mqtt", "pub", "-h", "127.0.0.1", "-p", "9", "-t", "a", "-n"]),
        "",
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot connect"));
    let agent = Agent::new();
    let output = agent.ask(&["mqtt", "pub", "-t", "a", "-m", "x"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--direct"));
}
