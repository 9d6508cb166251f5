//! The real program against moto with signatures verified, over a link that does whatever links and services do, and
//! killed on the way: what it acknowledged, what came to the cloud and what others wrote there must fit together.
//!
//! A run has its seed; `IOTO_TEST_RUNS=200` makes so many of them, `SEED=N IOTO_TEST_RUNS=1` one of them again.
#![allow(clippy::unwrap_used)]

mod device;
mod editor;
mod history;
mod link;
mod mutant;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use device::{Device, made_by};
use history::{By, Write, document, judge};
use ioto::aws::{Api, DynamoDb};
use ioto::config::{self, Secret};
use ioto::db::changelog::LoggedConflict;
use ioto::db::{Db, Item, Schema};
use ioto_tests::{Agent, Moto, seed};
use link::{Link, Weather, YEARS};
use mutant::Mutant;
use serde_json::{Value, json};

/// Runs in `ci/test`.
const RUNS: u64 = 4;
/// Of them so many at a time.
const AT_A_TIME: u64 = 4;

fn schema(direction: &str) -> String {
    json!({
        "version": "2",
        "process": {"Reading": {"sync": direction}, "Private": {"sync": "none"}},
        "models": {
            "Reading": {
                "id": {"type": "string"}, "name": {"type": "string"}, "value": {"type": "number"},
                "note": {"type": "object"}, "ttl": {"type": "string"},
            },
            "Private": {"id": {"type": "string"}},
        },
    })
    .to_string()
}

/// What a run did, for people.
#[derive(Debug, Default)]
struct Figures {
    changes: u64,
    kills: u64,
    writes: usize,
    edits: usize,
    conflicts: usize,
    faults: BTreeMap<&'static str, u32>,
}

impl Figures {
    fn add(&mut self, other: Self) {
        self.changes += other.changes;
        self.kills += other.kills;
        self.writes += other.writes;
        self.edits += other.edits;
        self.conflicts += other.conflicts;
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
    }
}

fn access(moto: &Moto) -> DynamoDb {
    let config = config::Aws {
        endpoint: Some(moto.endpoint()),
        region: moto.access("region").into(),
        access_key_id: moto.access("access_key_id").into(),
        secret_access_key: Secret::new(moto.access("secret_access_key")),
        ..Default::default()
    };
    DynamoDb::new(Api::new(&config).unwrap())
}

/// One run: the device works, the link and the service have their moods, somebody edits in the cloud, kills; then all is
/// quiet, and everything is compared.
fn run(moto: &Moto, direction: &str, seed: u64, mutant: Option<Mutant>) -> Result<Figures, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    // Runs of the same seed share a table.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let thing = format!("lamp-{}", COUNT.fetch_add(1, Ordering::SeqCst));
    let server: SocketAddr = moto.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
    let link = Link::new(server, access(moto), mutant, random.u64(..));
    let mut agent = Agent::new();
    let settings = moto.settings().replace(&moto.endpoint(), &link.endpoint());
    agent.schema(&schema(direction)).configure("moto", &settings);
    let (window, delay) = (random.u8(1..9), random.u8(..2) * 30);
    let more = format!(
        "{{device: {{id: '{thing}'}}, timeouts: {{aws: '2 secs'}}, sync: {{window: {window}, delay: '{delay} ms'}}}}"
    );
    agent.configure("run", &more);
    agent.start();
    let private = agent.client().post("/api/db/Private", &json!({"id": "secret"})).unwrap();
    assert_eq!(private.status, 201, "{}", private.text());

    let mut figures = Figures::default();
    let mut device = Device::new(agent, random.u64(..));
    let mut editor = editor::Editor::new(&thing, moto.access("table"), random.u64(..));
    for _ in 0..random.u8(4..8) {
        link.set(weather(&mut random));
        let kill = random.u8(..3) > 0;
        device.work(kill, &mut || editor.edit_perhaps(&link))?;
        if kill {
            figures.kills += 1;
            // What the cloud does meanwhile is in the writes before it is on the device.
            let rows = device.rows();
            let writes = link.cloud().writes.clone();
            for (key, row) in rows {
                device.check(&key, Some(&row), &writes)?;
            }
        }
    }
    link.set(Weather::default());
    device.agent.kill();
    device.agent.start();
    quiet(&device, &link)?;

    let writes = link.cloud().writes.clone();
    let states = device.check_all(&writes)?;
    let (status, _) = device.agent.stop();
    if !status.success() || device.agent.log().contains("panicked") {
        return Err(format!("the agent ended with {status}"));
    }
    let conflicts = match mutant {
        Some(Mutant::NoLog) => Vec::new(),
        _ => conflicts(&device.agent, direction)?,
    };
    if let Some(wrong) = link.cloud().wrong.take() {
        return Err(wrong);
    }
    check_conflicts(&conflicts, &writes)?;
    judge(&writes, |theirs, mine| is_explained(theirs, mine, &conflicts))?;
    let items = items(moto, &thing);
    for (key, state) in &states {
        let of_key = || writes.iter().filter(|write| write.key == *key);
        let mine = of_key().rev().find(|write| matches!(write.by, By::Device { .. }));
        match mine {
            None if state.change == 0 => continue,
            None => return Err(format!("I2 {key} never came to the cloud: {state:?}")),
            Some(mine) if !made_by(mine, state) => {
                return Err(format!("I2 the cloud has {mine:?} of the device last, and not {state:?}"));
            }
            Some(_) => {}
        }
        let is_ours = of_key().next_back().is_some_and(|last| matches!(last.by, By::Device { .. }));
        let item = items.get(key).cloned().flatten();
        if is_ours && !are_same(item.as_ref(), state.item.as_ref()) {
            return Err(format!("I1 {key} is {item:?} in the cloud and {:?} on the device", state.item));
        }
    }
    figures.changes = device.changes;
    figures.edits = writes.iter().filter(|write| matches!(write.by, By::Cloud { .. })).count();
    figures.writes = writes.len() - figures.edits;
    figures.conflicts = conflicts.len();
    figures.faults = link.faults();
    Ok(figures)
}

fn weather(random: &mut fastrand::Rng) -> Weather {
    Weather {
        trouble: [0, 20, 50, 90][random.usize(..4)],
        ahead: if random.u8(..5) == 0 { random.i64(-YEARS..YEARS) } else { 0 },
        expired: random.u8(..8) == 0,
        throttled: random.u8(..8) == 0,
    }
}

/// Waits until the device has nothing to send and nothing is on its way.
fn quiet(device: &Device, link: &Link) -> Result<(), String> {
    let began = Instant::now();
    let mut since = (link.requests(), Instant::now());
    loop {
        thread::sleep(Duration::from_millis(50));
        if link.requests() != since.0 {
            since = (link.requests(), Instant::now());
        }
        let status = device.agent.client().get("/api/status").map_err(|error| error.to_string())?.json();
        let sync = &status["services"]["sync"];
        // The backlog is counted at the start and a second after changes.
        if since.0.1 == 0 && since.1.elapsed() > Duration::from_millis(1500) && sync["backlog"] == 0 {
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(60) {
            return Err(format!("I1 the device is not done after a minute: {sync}"));
        }
    }
}

/// The conflict log of a device that has ended; it has nothing left to send.
fn conflicts(agent: &Agent, direction: &str) -> Result<Vec<LoggedConflict>, String> {
    let path = agent.scratch().path().join("state/db/device.db");
    assert!(path.exists(), "no database at {}", path.display());
    let options = config::Database { path, ..Default::default() };
    let db = Db::open(&options, Schema::parse(&schema(direction), "schema").unwrap()).unwrap();
    smol::block_on(async {
        let backlog = db.backlog().await.unwrap();
        let conflicts = db.conflicts(1000).await.unwrap();
        db.close().await;
        match backlog.rows {
            0 => Ok(conflicts),
            rows => Err(format!("I1 {rows} rows are still to be sent")),
        }
    })
}

/// A conflict is one with somebody else, about what that one wrote.
fn check_conflicts(conflicts: &[LoggedConflict], writes: &[Write]) -> Result<(), String> {
    let is_real = |logged: &&LoggedConflict| {
        writes.iter().any(|write| {
            let is_theirs = matches!(write.by, By::Cloud { .. }) && write.key == logged.key;
            is_theirs && write.version == logged.base && same(&json!(write.item), &json!(logged.conflict.theirs))
        })
    };
    match conflicts.iter().find(|logged| !is_real(logged)) {
        None => Ok(()),
        Some(logged) => Err(format!("I2 a conflict with nobody: {logged:?}")),
    }
}

/// Whether the device wrote over an edit of the cloud knowingly: it had taken the edit, or keeps it in the log. Of a row
/// that it removed, the condition of the write says enough.
fn is_explained(theirs: &Write, mine: &Write, conflicts: &[LoggedConflict]) -> bool {
    let By::Cloud { number } = theirs.by else { return true };
    let has_it = mine.item.as_ref().is_none_or(|item| item.get("cloudOnly").and_then(Value::as_u64) == Some(number));
    has_it || conflicts.iter().any(|logged| logged.key == theirs.key && logged.base == theirs.version)
}

/// The items of the thing as boto3 sees them, tombstones as `None`.
fn items(moto: &Moto, thing: &str) -> BTreeMap<String, Option<Item>> {
    let request = json!({
        "TableName": moto.access("table"), "KeyConditionExpression": "pk = :pk", "ConsistentRead": true,
        "ExpressionAttributeValues": {":pk": {"S": format!("{thing}#Reading")}},
    });
    let answer = smol::block_on(access(moto).call("Query", &request)).unwrap();
    let items = answer["Items"].as_array().unwrap().iter().map(|item| item.as_object().unwrap());
    items.map(|item| (item["sk"]["S"].as_str().unwrap().to_owned(), document(item))).collect()
}

/// Whether the cloud has what the device has. What only others know stays in the cloud.
fn are_same(item: Option<&Item>, row: Option<&Item>) -> bool {
    let known = |item: &Item| -> Item {
        let is_known = |name: &String| name != "cloudOnly" || row.is_some_and(|row| row.contains_key(name));
        item.iter().filter(|(name, _)| is_known(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    same(&json!(item.map(known)), &json!(row))
}

/// Numbers by value: the cloud does not know how they were written.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

#[test]
fn nothing_is_lost_or_overwritten_silently_whatever_the_link_does_and_whoever_kills() {
    let runs = std::env::var("IOTO_TEST_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(RUNS);
    let (first, began, moto) = (seed(), Instant::now(), Moto::start());
    let (next, total) = (AtomicU64::new(0), Mutex::new(Figures::default()));
    // They wait most of the time, for the device's patience and late requests.
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(runs) {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, Ordering::SeqCst)).filter(|number| *number < runs) {
                    let seed = first.wrapping_add(number);
                    let figures = run(&moto, "up", seed, None).unwrap_or_else(|error| panic!("SEED={seed}: {error}"));
                    link::lock(&total).add(figures);
                }
            });
        }
    });
    let total = link::lock(&total);
    println!("{runs} runs in {:.0?}: {total:?}", began.elapsed());
    assert!(total.kills > 0 && total.edits > 0 && total.writes > 0);
}

#[test]
fn every_broken_device_is_found_out() {
    const TRIES: u64 = 12;
    let (first, moto) = (seed(), Moto::start());
    let find = &|mutant: Mutant| {
        let found = (0..TRIES).find_map(|number| {
            let error = run(&moto, "up", first.wrapping_add(number), Some(mutant)).err()?;
            Some((number + 1, error))
        });
        match &found {
            Some((runs, error)) => println!("{mutant:?} was caught in run {runs}: {error:.120}"),
            None => println!("{mutant:?} survived {TRIES} runs"),
        }
        found.is_some()
    };
    let all_are_found = thread::scope(|scope| {
        let searches = Mutant::ALL.map(|mutant| scope.spawn(move || find(mutant)));
        searches.map(|search| search.join().unwrap()).iter().all(|found| *found)
    });
    assert!(all_are_found, "see above who survived");
}
