//! The other clients: how they are served while an attack goes on, and what the program takes.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ioto_tests::{Agent, Client};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// What nearly all requests of others may take during an attack.
const GOAL: Duration = Duration::from_millis(50);
/// How long others are watched before an attack, and at least during one.
const BEFORE: Duration = Duration::from_secs(1);
const DURING: Duration = Duration::from_secs(2);
/// A machine with other work to do disturbs every measurement now and then.
const ATTEMPTS: usize = 3;
/// Fewer requests tell nothing.
const ENOUGH: usize = 100;

/// One attack at a time: the next would be a disturbance.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server of so many threads; not started.
pub fn server(threads: usize) -> Agent {
    let agent = Agent::new();
    agent.configure("threads", &format!("{{web: {{threads: {threads}}}}}"));
    agent
}

/// What others ask for, and how.
pub struct Target {
    pub address: SocketAddr,
    pub path: &'static str,
    pub tls: Option<Arc<ClientConfig>>,
}

impl Target {
    fn connect(&self) -> io::Result<Client> {
        let Some(config) = &self.tls else { return Client::connect(self.address) };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Client::over(StreamOwned::new(connection, stream)))
    }
}

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
fn serve_until(target: &Target, stop: &AtomicBool) -> Served {
    thread::scope(|scope| {
        let kept = scope.spawn(|| ask(target, stop, true));
        let mut served = ask(target, stop, false);
        let kept = kept.join().expect("a client");
        served.times.extend(kept.times);
        served.errors.extend(kept.errors);
        served
    })
}

fn ask(target: &Target, stop: &AtomicBool, keeps: bool) -> Served {
    let mut served = Served::default();
    let mut client: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let kept = client.take().filter(|_| keeps);
        let asked = kept.map_or_else(|| target.connect(), Ok).and_then(|mut client| {
            let response = client.get(target.path)?;
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

/// As [`are_served_at`], for others who ask for the first page without TLS.
pub fn are_served_during<T: Send>(agent: &Agent, name: &str, attack: impl Fn() -> T + Sync) -> T {
    are_served_at(&Target { address: agent.address(), path: "/", tls: None }, agent, name, attack)
}

/// Attacks, and checks that all others are served: without an error, and in at least one attempt as fast as the goal says. A
/// machine that is too busy for that also without the attack proves nothing, and the output says so.
/// What the attack returns of the last attempt is returned.
pub fn are_served_at<T: Send>(target: &Target, agent: &Agent, name: &str, attack: impl Fn() -> T + Sync) -> T {
    let mut is_busy = false;
    for attempt in 1..=ATTEMPTS {
        let before = watch(target, || thread::sleep(BEFORE)).0;
        let resident = memory(agent);
        let (during, outcome) = watch(target, || {
            let began = Instant::now();
            let outcome = attack();
            thread::sleep(DURING.saturating_sub(began.elapsed()));
            outcome
        });
        let (grown, peak) = (memory(agent).saturating_sub(resident), peak(agent));
        println!("{name}: {during}\n  without it: {before}\n  memory grew by {grown} KiB, the peak is {peak} KiB");
        let errors: Vec<_> = before.errors.iter().chain(&during.errors).take(5).collect();
        assert!(errors.is_empty(), "{name}: others were not served: {errors:?}");
        if during.at(0.99) < GOAL && during.times.len() >= ENOUGH {
            return outcome;
        }
        // Where others wait as long without an attack, the machine has too much else to do.
        is_busy |= before.at(0.99) * 2 >= GOAL
            && during.at(0.99) <= before.at(0.99) * 2
            && during.times.len() >= before.times.len();
        if attempt == ATTEMPTS && is_busy {
            println!("{name}: NOT PROVED, this machine is too busy: others waited as long without the attack");
            return outcome;
        }
        assert!(attempt < ATTEMPTS, "{name}: others had to wait: {during}; without the attack: {before}");
    }
    unreachable!("the last attempt passes or fails")
}

fn watch<T: Send>(target: &Target, work: impl FnOnce() -> T + Send) -> (Served, T) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let others = scope.spawn(|| serve_until(target, &stop));
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

/// The most that ever was.
pub fn peak(agent: &Agent) -> usize {
    status(agent, "VmHWM:")
}

fn status(agent: &Agent, name: &str) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{}/status", agent.id())).expect("the agent runs");
    let line = text.lines().find(|line| line.starts_with(name)).expect("a line of the kernel");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// The processor time that the program has taken.
pub fn processor_time(agent: &Agent) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", agent.id())).expect("the agent runs");
    // The name, in parentheses, is the second of the fields and may hold spaces.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    // 100 a second, on every Linux.
    Duration::from_millis(ticks * 10)
}

/// The program's open file descriptors.
pub fn descriptors(agent: &Agent) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", agent.id())).expect("the agent runs").count()
}
