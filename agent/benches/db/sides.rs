//! What `ci/bench db` measures: the agent's database and SQLite by rusqlite alone, one case in a process.
//!
//! Usage: bench_db CASE SIDE FILE COUNT [PACE]
//!
//! CASE: `fill`, `get`, `find`, `create` and `update` one after the other, the same with `-64` for 64 callers at a time,
//! or `memory`. SIDE: `ours`, `up` (ours, with a model that replicates), `document`, `columns` or `plain` (see `bare.rs`).
//! PACE: seconds between two operations. Prints what it took as JSON.

mod bare;
mod ours;

use std::time::{Duration, Instant};

use ioto::db::Item;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde_json::json;

/// Rooms that the items are in; a find asks for one.
const ROOMS: u64 = 100;
/// Items of a find's page.
const PAGE: usize = 20;
/// Items that are updated, in turn.
const UPDATED: u64 = 64;

/// One side of the comparison.
trait Side {
    /// Carries out operations `numbers`, `callers` at a time, with a pause after each.
    fn run(&mut self, case: Case, numbers: std::ops::Range<u64>, callers: usize, pause: Duration);
    /// Closes the file.
    fn close(self: Box<Self>);
}

/// An operation.
#[derive(Clone, Copy, PartialEq)]
enum Case {
    Create,
    Update,
    Get,
    Find,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [case, side, file, count] = &words[..words.len().min(4)] else {
        eprintln!("usage: bench_db CASE SIDE FILE COUNT [PACE]");
        std::process::exit(2);
    };
    let count = count.parse().expect("COUNT is a number");
    let pace = words.get(4).map_or(0.0, |pace| pace.parse().expect("PACE is a number of seconds"));
    let idle = anonymous();
    let mut side = open(side, file);
    match case.as_str() {
        "fill" => side.run(Case::Create, 0..count, 64, Duration::ZERO),
        "memory" => memory(side.as_mut(), count, idle),
        case => {
            let (name, callers) = case.strip_suffix("-64").map_or((case, 1), |name| (name, 64));
            let case = match name {
                "create" => Case::Create,
                "update" => Case::Update,
                "get" => Case::Get,
                "find" => Case::Find,
                _ => panic!("there is no case {name}"),
            };
            measure(side.as_mut(), case, count, callers, Duration::from_secs_f64(pace));
        }
    }
    side.close();
}

fn open(side: &str, file: &str) -> Box<dyn Side> {
    match side {
        "ours" | "up" => Box::new(ours::Ours::open(file, side == "up")),
        "document" | "columns" | "plain" => Box::new(bare::Bare::open(file, side)),
        _ => panic!("there is no side {side}"),
    }
}

fn measure(side: &mut dyn Side, case: Case, count: u64, callers: usize, pause: Duration) {
    // Statements are compiled and caches are filled before.
    let warm = if matches!(case, Case::Get | Case::Find) { count / 10 } else { 0 };
    side.run(case, 0..warm, callers, Duration::ZERO);
    let (cpu, begun) = (processor(), Instant::now());
    side.run(case, 0..count, callers, pause);
    println!("{{\"cpu\": {:.6}, \"wall\": {:.6}}}", processor() - cpu, begun.elapsed().as_secs_f64());
}

/// How much more memory there was at most than before the file was opened, while the database did all that it does.
fn memory(side: &mut dyn Side, count: u64, idle: u64) {
    let opened = anonymous();
    let mut most = opened;
    let step = count / 20;
    for part in 0..20 {
        side.run(Case::Create, part * step..(part + 1) * step, 64, Duration::ZERO);
        side.run(Case::Update, 0..step, 64, Duration::ZERO);
        side.run(Case::Get, 0..step, 64, Duration::ZERO);
        side.run(Case::Find, 0..step / 10, 64, Duration::ZERO);
        most = most.max(anonymous());
    }
    println!("{{\"opened\": {}, \"most\": {}}}", opened - idle, most - idle);
}

/// The key of an item.
fn key(number: u64) -> String {
    format!("reading-{number:012}")
}

/// The key of operation `number` of so many items, in an order in which neighbours are far from each other.
fn scattered(number: u64, items: u64) -> String {
    key(number.wrapping_mul(2_654_435_761) % items)
}

fn room(number: u64) -> String {
    format!("room-{:03}", number.wrapping_mul(2_654_435_761) % ROOMS)
}

/// The item of operation `number`, of about 200 bytes, under a key that is the operation's or one of few.
fn item(key: &str, number: u64) -> Item {
    let item = json!({
        "id": key, "room": room(number), "sensor": "temperature-and-humidity", "value": number as f64 / 8.0, "unit": "degrees",
        "note": "measured by the sensor beside the window, averaged over a second, not calibrated",
    });
    item.as_object().cloned().unwrap_or_default()
}

/// Memory that no file backs, in KB.
fn anonymous() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// The CPU time of all threads so far, in seconds.
fn processor() -> f64 {
    let used = getrusage(UsageWho::RUSAGE_SELF).expect("the kernel counts");
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(used.user_time()) + seconds(used.system_time())
}
