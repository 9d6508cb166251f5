//! Prints what the program named by `IOTO_PROGRAM` needs: the time to its first HTTP answer, and its memory when idle.

use std::time::Duration;
use std::{fs, thread};

use ioto_tests::Agent;

fn main() {
    let mut starts: Vec<Duration> = Vec::new();
    let mut agent = Agent::new();
    for _ in 0..5 {
        starts.push(agent.start());
        // The last one is left running.
        if starts.len() < 5 {
            agent.kill();
        }
    }
    starts.sort();
    println!("start to ready: {:>6.0} ms (median of 5)", starts[2].as_secs_f64() * 1000.0);
    // What the start needed has been given back by then.
    thread::sleep(Duration::from_secs(3));
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).expect("read the status of the process");
    for line in status.lines().filter(|line| ["VmRSS", "RssAnon", "Threads"].iter().any(|name| line.starts_with(name)))
    {
        println!("{line}");
    }
}
