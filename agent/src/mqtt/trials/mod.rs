//! The whole client - connection, handlers, outbox in a file, bytes over sockets - against a broker that cuts connections
//! after any byte, forgets, repeats, delays, reorders, sends garbage, loses CONNACKs and falls silent, on a disk that
//! fails, in an agent that is killed at any instant: seeded runs on a real clock with short times.
//!
//! Checked in each run: a message of QoS 1 arrives at least once and one of QoS 2 exactly once, unless the client counted
//! it as given up; first deliveries are in the order of publishing; what is said to be acknowledged has arrived; no packet
//! id is used twice at a time; what is received is acknowledged after it was handled, and a message of QoS 2 of which that
//! is on the disk is not handled again; connections and polls are bounded, as are queues, window and notes; in the end
//! nothing is left in memory or on the disk.
//!
//! The seed decides what goes wrong; the threads of the machine decide the rest, so that a failure may need a few runs
//! with its seed to show again.
//!
//! What is excused, as no client can do better: a broker that forgets the session sets messages of QoS 2 back that are on
//! their way just then, so that these arrive at least once; if also the CONNACK that says so is lost, such messages may be
//! lost too. What a handler did is counted as done together with the commit of the packet id of its message.

#![allow(clippy::unwrap_used)]

mod agent;
mod disk;
mod line;
mod nature;
mod world;

use std::cell::Cell;
use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use smol::future::FutureExt;
use smol::{Async, LocalExecutor, Timer};

use self::agent::Agent;
use self::nature::Nature;
use self::world::{Counts, World};
use super::QoS;
use super::broken::{Defect, break_session};

/// Runs when `IOTO_MQTT_RUNS` says nothing else.
const RUNS: usize = 250;

/// Runs in which a defect must show.
const DEFECT_RUNS: usize = 200;

/// Most of a run is waiting, so that many go at a time.
const THREADS: usize = 12;

/// A run takes less than a second, and on a machine with much else to do not this long.
const LONG: Duration = Duration::from_secs(60);

/// The same with a defect, of which nobody waits for the last consequence.
const NOT_LONG: Duration = Duration::from_secs(8);

/// A directory that is removed at the end; in memory where that is possible, as the disk is not what is tested.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let path = parent.join(format!("ioto-trials-{}-{:x}", std::process::id(), fastrand::u64(..)));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One run from its beginning to the state in which everything was delivered.
fn run(seed: u64, limit: Duration) -> Arc<Mutex<World>> {
    let mut random = Rng::with_seed(seed);
    let nature = Nature::draw(&mut random);
    let (killer, deaths) = smol::channel::unbounded();
    let (world, directory) = (Arc::new(Mutex::new(World::new(nature, random, killer))), Directory::new());
    let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
    let port = listener.get_ref().local_addr().unwrap().port();
    let polls = Rc::new(Cell::new(0));
    let agent = Agent { world: world.clone(), directory: &directory.0, port, deaths, polls: polls.clone() };
    let broker = async { match line::serve(&listener, &world).await {} };
    let too_late = async {
        Timer::after(limit).await;
        let world = world.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Nature { window, .. } = nature;
        panic!(
            "something is stuck, window {window}: to be sent {:?}, sent {:?}, answers {:?}, {:?}",
            world.broker.to_send, world.broker.outgoing, world.broker.answers, world.counts
        );
    };
    smol::block_on(LocalExecutor::new().run(broker.or(agent.run()).or(too_late)));
    // A task that a thread woke while its executor was dropped may have kept its share.
    let known = world.lock().unwrap();
    check_deliveries(&known);
    check_received(&known);
    let (polls, events) = (polls.get(), known.counts.events);
    assert!(polls < 100 + 4 * events, "a busy loop: {polls} polls for {events} events");
    drop(known);
    world
}

fn check_deliveries(world: &World) {
    let mut arrived: HashMap<u32, usize> = HashMap::new();
    let mut last: HashMap<&str, u32> = HashMap::new();
    for &index in &world.broker.arrived {
        let times = arrived.entry(index).or_default();
        *times += 1;
        if *times == 1 {
            let lane = world.published[index as usize].lane.as_str();
            let before = last.insert(lane, index);
            assert!(before.is_none_or(|before| before < index), "{index} came after {before:?} on {lane}");
        }
    }
    let mut lost = Vec::new();
    for (index, published) in world.published.iter().enumerate() {
        let times = arrived.get(&(index as u32)).copied().unwrap_or(0);
        let is_exact = published.qos == QoS::ExactlyOnce && !published.may_repeat;
        assert!(times <= 1 || !is_exact, "{index} came {times} times: {published:?}");
        if times == 0 && !published.is_uncertain && published.failed.is_none() {
            lost.push((index, published));
        }
    }
    let excused = world.excused();
    assert!(lost.len() <= excused, "lost, of which {excused} are excused: {lost:?}");
}

fn check_received(world: &World) {
    assert_eq!(world.handled.len(), world.nature.incoming as usize, "received messages are lost");
    for (index, times) in &world.handled {
        let is_exact = world.is_exact(*index);
        assert!(*times <= 1 || !is_exact, "the received message {index} was handled {times} times");
        assert!(*times >= 1 || world.nature.is_unseen, "the received message {index} was not handled");
    }
    let firsts: Vec<u32> = world.order.iter().copied().filter(|index| !world.sent_again.contains(index)).collect();
    assert!(firsts.is_sorted(), "handled out of order: {firsts:?}");
}

/// What came of many runs.
#[derive(Default)]
struct Outcome {
    sum: Counts,
    messages: usize,
    repeats: usize,
    /// The first run that failed, with its seed.
    failed: Option<(usize, u64)>,
}

/// Runs until one fails. The first run has the seed itself.
fn runs(seed: u64, count: usize, defect: Option<Defect>) -> Outcome {
    let mut random = Rng::with_seed(seed);
    let seeds: Vec<u64> = (0..count).map(|number| if number == 0 { seed } else { random.u64(..) }).collect();
    let (next, outcome) = (AtomicUsize::new(0), Mutex::new(Outcome::default()));
    let limit = if defect.is_some() { NOT_LONG } else { LONG };
    let work = || {
        break_session(defect);
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            let Some(&seed) = seeds.get(number) else { return };
            let world = catch_unwind(AssertUnwindSafe(|| run(seed, limit)));
            let mut outcome = outcome.lock().unwrap();
            match world {
                Ok(world) => outcome.add(&world.lock().unwrap()),
                Err(_) => {
                    println!("run {number} failed, SEED={seed}: {:?}", Nature::draw(&mut Rng::with_seed(seed)));
                    let failed = outcome.failed.unwrap_or((number, seed));
                    outcome.failed = Some(failed.min((number, seed)));
                    next.store(count, Ordering::SeqCst);
                }
            }
        }
    };
    thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    outcome.into_inner().unwrap()
}

impl Outcome {
    fn add(&mut self, world: &World) {
        let Counts { connects, kills, losses, lost_connacks, garbage, silences, full, excused, events } = world.counts;
        self.sum.connects += connects;
        self.sum.kills += kills;
        self.sum.losses += losses;
        self.sum.lost_connacks += lost_connacks;
        self.sum.garbage += garbage;
        self.sum.silences += silences;
        self.sum.full += full;
        self.sum.excused += excused;
        self.sum.events += events;
        self.messages += world.published.len() + world.handled.len();
        self.repeats += world.broker.repeats;
    }
}

#[test]
fn no_fault_and_no_kill_makes_the_client_lose_repeat_or_reorder_a_message() {
    let seed = super::test_seed();
    let start = Instant::now();
    let count = std::env::var("IOTO_MQTT_RUNS").ok().and_then(|count| count.parse().ok()).unwrap_or(RUNS);
    let Outcome { sum, messages, repeats, failed } = runs(seed, count, None);
    if let Some((number, seed)) = failed {
        panic!("run {number} failed, SEED={seed}");
    }
    println!("{count} runs in {:?}: {messages} messages, {repeats} repeats, {sum:?}", start.elapsed());
    assert!(messages > count * 20 && repeats > count, "the faults were not there");
    assert!(sum.kills > count / 2 && sum.losses > count / 8 && sum.lost_connacks > count / 8, "{sum:?}");
    assert!(sum.garbage > count / 16 && sum.silences > count / 100 && sum.full > count / 50, "{sum:?}");
}

#[test]
fn each_defect_makes_the_client_fail() {
    let seed = super::test_seed();
    for defect in Defect::ALL.into_iter().chain([Defect::ReconnectAtOnce]) {
        let Outcome { failed, .. } = runs(seed, DEFECT_RUNS, Some(defect));
        let Some((number, _)) = failed else { panic!("{defect:?} was not found in {DEFECT_RUNS} runs, SEED={seed}") };
        println!("{defect:?} was found in run {number}");
    }
}
