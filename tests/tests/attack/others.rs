//! The other clients: how they are served while an attack goes on, and what the program takes.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ioto_tests::{Agent, Client};

/// What nearly all requests of others may take during an attack.
const GOAL: Duration = Duration::from_millis(50);
/// How long others are watched before an attack and at least during one.
const WATCHED: Duration = Duration::from_secs(2);
/// A machine with other work to do disturbs every measurement now and then.
const ATTEMPTS: usize = 3;

/// Times of the requests of others, and what went wrong with them.
#[derive(Default)]
pub struct Served {
    times: Vec<Duration>,
    pub errors: Vec<String>,
}

impl Served {
    fn note(&mut self, began: Instant, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.times.push(began.elapsed()),
            Err(error) => self.errors.push(format!("{error} after {:?}", began.elapsed())),
        }
    }

    fn at(&self, share: f64) -> Duration {
        let mut times = self.times.clone();
        times.sort();
        let last = times.len().saturating_sub(1);
        times.get((last as f64 * share).ceil() as usize).copied().unwrap_or_default()
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, failed) = (self.times.len(), self.errors.len());
        write!(f, "{count} requests, {failed} failed, p50 {:.1?}, p99 {:.1?}", self.at(0.5), self.at(0.99))?;
        write!(f, ", longest {:.1?}", self.at(1.0))
    }
}

/// Asks as ordinary clients do until it is told to stop: one keeps its connection, one connects for each request.
pub fn serve_until(address: SocketAddr, stop: &AtomicBool) -> Served {
    thread::scope(|scope| {
        let kept = scope.spawn(|| ask(address, stop, true));
        let mut served = ask(address, stop, false);
        let kept = kept.join().expect("a client");
        served.times.extend(kept.times);
        served.errors.extend(kept.errors);
        served
    })
}

fn ask(address: SocketAddr, stop: &AtomicBool, keeps: bool) -> Served {
    let mut served = Served::default();
    let mut client: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let kept = client.take().filter(|_| keeps);
        let asked = kept.map_or_else(|| Client::connect(address), Ok).and_then(|mut client| {
            let response = client.get("/")?;
            Ok((client, response))
        });
        served.note(
            began,
            match asked {
                Ok((asked, response)) if response.status == 200 => {
                    client = Some(asked).filter(|_| response.header("connection") != Some("close"));
                    Ok(())
                }
                Ok((_, response)) => Err(format!("status {}", response.status)),
                Err(error) => Err(error.to_string()),
            },
        );
        thread::sleep(Duration::from_millis(4));
    }
    served
}

/// Attacks, and checks that all others are served: without an error, and as fast as the goal says, or as fast as without the
/// attack where the machine is busy. What the attack returns of the last attempt is returned.
pub fn are_served_during<T: Send>(agent: &Agent, name: &str, attack: impl Fn() -> T + Sync) -> T {
    let address = agent.address();
    for attempt in 1..=ATTEMPTS {
        let before = watch(address, || thread::sleep(WATCHED)).0;
        let resident = memory(agent);
        let (during, outcome) = watch(address, || {
            let began = Instant::now();
            let outcome = attack();
            thread::sleep(WATCHED.saturating_sub(began.elapsed()));
            outcome
        });
        let (grown, peak) = (memory(agent).saturating_sub(resident), peak(agent));
        println!("{name}: {during}\n  without it: {before}\n  memory grew by {grown} KiB, the peak is {peak} KiB");
        let errors: Vec<_> = before.errors.iter().chain(&during.errors).take(5).collect();
        assert!(errors.is_empty(), "{name}: others were not served: {errors:?}");
        assert!(during.times.len() >= 100, "{name}: only {} requests were served", during.times.len());
        if during.at(0.99) <= GOAL.max(before.at(0.99) * 3) {
            return outcome;
        }
        assert!(attempt < ATTEMPTS, "{name}: others had to wait: {during}");
    }
    unreachable!("the last attempt passes or fails")
}

fn watch<T: Send>(address: SocketAddr, work: impl FnOnce() -> T + Send) -> (Served, T) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let others = scope.spawn(|| serve_until(address, &stop));
        // Also when the work panics: the scope waits for the others.
        let stopping = Stopping(&stop);
        let outcome = work();
        drop(stopping);
        (others.join().expect("the others"), outcome)
    })
}

struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The program's resident memory in KiB.
pub fn memory(agent: &Agent) -> usize {
    status(agent, "VmRSS:")
}

fn peak(agent: &Agent) -> usize {
    status(agent, "VmHWM:")
}

fn status(agent: &Agent, name: &str) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{}/status", agent.id())).expect("the agent runs");
    let line = text.lines().find(|line| line.starts_with(name)).expect("a line of the kernel");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// The program's open file descriptors.
pub fn descriptors(agent: &Agent) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", agent.id())).expect("the agent runs").count()
}
