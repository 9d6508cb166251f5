//! Power cuts: what the agent wrote to its disk is recorded once, and cut at many random instants. Whatever the cut leaves, the
//! database opens, has all that was acknowledged and nothing else, and its change log says exactly what was changed.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ioto::config::Database;
use ioto::db::{Db, Item, Query, Schema};
use ioto_tests::disk::{Fate, Record, Recording, image};
use ioto_tests::{Agent, Scratch, seed};
use serde_json::json;

const CUTS: usize = 200;
const WRITERS: usize = 4;
const KEYS: usize = 40;
/// The database, in the state directory.
const FILE: &str = "db/device.db";
const SCHEMA: &str =
    "{models: {Note: {id: {type: 'string'}, n: {type: 'number', required: true}, text: {type: 'string'}}},
    process: {Note: {sync: 'up'}}}";

/// A row's content, by its number; `None`: there is no row.
type Content = Option<u64>;

/// What may be on the disk for a key.
#[derive(Clone, Debug, Default)]
struct Known {
    acknowledged: Content,
    /// A request that was sent and not answered.
    begun: Option<Content>,
    /// Whether it was acknowledged at any time that there is a row.
    ever: bool,
}

#[test]
fn two_hundred_power_cuts_lose_nothing_acknowledged_and_keep_rows_and_change_log_together() {
    fastrand::seed(seed());
    let records = record();
    let faults = cut(&records, CUTS, Fate::any);
    assert!(faults.is_empty(), "{} of {CUTS} cuts: {:#?}", faults.len(), &faults[..faults.len().min(5)]);
}

/// What the test above would not find otherwise: that the agent trusts to luck.
#[test]
fn a_disk_that_does_not_do_what_a_sync_asks_is_found_out() {
    fastrand::seed(seed());
    let mut records = record();
    // The first ones make the files.
    let begin = records.iter().position(|record| matches!(record, Record::Note(_))).expect("there are notes");
    let mut at = 0;
    records.retain(|record| {
        at += 1;
        at <= begin || !matches!(record, Record::Synced(_))
    });
    let faults = cut(&records, 20, || Fate::Lost);
    assert!(faults.len() > 15, "only {} of 20 cuts were found", faults.len());
}

/// Runs the agent with writers that create, change and remove rows for some seconds, and kills it.
fn record() -> Vec<Record> {
    let mut agent = Agent::new();
    agent.schema(SCHEMA).configure("offline", "{services: {sync: false}}");
    let recording = Recording::of(&mut agent);
    agent.start();
    let seeds: Vec<u64> = (0..WRITERS).map(|_| fastrand::u64(..)).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for (writer, &seed) in seeds.iter().enumerate() {
            let (agent, recording, is_over) = (&agent, &recording, &is_over);
            scope.spawn(move || write(writer, seed, agent, recording, is_over));
        }
        thread::sleep(Duration::from_secs(4));
        is_over.store(true, Ordering::Relaxed);
    });
    agent.kill();
    recording.records()
}

fn write(writer: usize, seed: u64, agent: &Agent, recording: &Recording, is_over: &AtomicBool) {
    let mut client = agent.client();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut rows: Vec<Content> = vec![None; KEYS];
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        let key = random.usize(..KEYS);
        let (name, row) = (format!("{writer}-{key}"), &mut rows[key]);
        number += 1;
        let is_removed = row.is_some() && random.u8(..4) == 0;
        let content = Some(number).filter(|_| !is_removed);
        let body = json!({"id": name, "n": number, "text": "x".repeat(random.usize(..3000))});
        recording.note(&format!("begin {name} {}", content.unwrap_or(0)));
        let path = format!("/api/db/Note/{name}");
        let response = match (&row, content) {
            (None, _) => client.post("/api/db/Note", &body),
            (Some(_), None) => client.request("DELETE", &path, &[], b""),
            (Some(_), Some(_)) => {
                let body = json!({"n": number, "text": body["text"]}).to_string();
                client.request("PATCH", &path, &[("Content-Type", "application/json")], body.as_bytes())
            }
        };
        let response = response.expect("an answer");
        assert!(response.status < 300, "{} to {name}: {}", response.status, response.text());
        recording.note(&format!("done {name}"));
        *row = content;
        if response.header("connection") == Some("close") {
            client = agent.client();
        }
    }
}

/// Cuts at random places, and returns what is wrong after each that leaves something wrong.
fn cut(records: &[Record], cuts: usize, fate: fn() -> Fate) -> Vec<String> {
    let begin = records.iter().position(|record| matches!(record, Record::Note(_))).expect("there are notes");
    let notes =
        records.iter().filter(|record| matches!(record, Record::Note(text) if text.starts_with("done"))).count();
    let syncs = records[begin..].iter().filter(|record| matches!(record, Record::Synced(_))).count();
    let made = records.iter().find_map(|record| match record {
        Record::Made(inode, name) if name == FILE => Some(*inode),
        _ => None,
    });
    let copied = |record: &&Record| matches!(record, Record::Written { inode, .. } if Some(*inode) == made);
    let copied = records[begin..].iter().filter(copied).count();
    println!(
        "{} records, {notes} acknowledged writes, {syncs} syncs, {copied} pages copied from the log",
        records.len()
    );
    assert!(notes > 100 && copied > 10, "not enough happened to be worth a cut");
    let mut faults = Vec::new();
    for _ in 0..cuts {
        let (at, fate) = (fastrand::usize(begin..=records.len()), fate());
        let scratch = Scratch::new();
        image(&records[..at], fate, scratch.path());
        if let Err(fault) = check(scratch.path(), &known(&records[..at])) {
            faults.push(format!("cut at record {at}, {fate:?}: {fault}"));
        }
    }
    faults
}

/// What is known of each key, from the notes in front of the cut.
fn known(records: &[Record]) -> BTreeMap<String, Known> {
    let mut all: BTreeMap<String, Known> = BTreeMap::new();
    for record in records {
        let Record::Note(note) = record else { continue };
        let words: Vec<&str> = note.split(' ').collect();
        let known = all.entry(words[1].to_owned()).or_default();
        match words[0] {
            "begin" => known.begun = Some(words[2].parse().ok().filter(|number| *number > 0)),
            _ => {
                known.acknowledged = known.begun.take().expect("it was begun");
                known.ever |= known.acknowledged.is_some();
            }
        }
    }
    all
}

fn check(state: &Path, known: &BTreeMap<String, Known>) -> Result<(), String> {
    let options = Database { path: state.join(FILE), ..Database::default() };
    let schema = Schema::parse(SCHEMA, "schema.json5").map_err(|error| error.to_string())?;
    let db = Db::open(&options, schema).map_err(|error| format!("it does not open: {error}"))?;
    if state.join(format!("{FILE}.corrupt-1")).exists() {
        return Err("it was taken for damaged".into());
    }
    let result = smol::block_on(compare(&db, known));
    smol::block_on(db.close());
    result
}

async fn compare(db: &Db, known: &BTreeMap<String, Known>) -> Result<(), String> {
    let page = db.find("Note", Query::new().limit(1000)).await.map_err(|error| error.to_string())?;
    let number = |item: &Item| item["n"].as_f64().unwrap_or_default() as u64;
    let rows: BTreeMap<String, &Item> =
        page.items.iter().map(|item| (item["id"].as_str().unwrap_or_default().to_owned(), item)).collect();
    let pending = db.pending(1000, &HashSet::new()).await.map_err(|error| error.to_string())?;
    let pending: BTreeMap<&str, _> = pending.iter().map(|change| (change.key.as_str(), change)).collect();
    for (key, known) in known {
        let content = rows.get(key).map(|item| number(item));
        if content != known.acknowledged && Some(content) != known.begun {
            return Err(format!("{key} is {content:?}, but {known:?}"));
        }
        // A row that was never there has no change; every other has one, whether it is there or was removed.
        let change = pending.get(key.as_str());
        let has_changed = known.ever || content.is_some();
        if change.is_some() != has_changed
            || change.is_some_and(|change| change.item.as_ref() != rows.get(key).copied())
        {
            return Err(format!("{key} is {content:?}, {known:?}, but the change log has {change:?}"));
        }
    }
    match rows.keys().map(String::as_str).chain(pending.keys().copied()).find(|key| !known.contains_key(*key)) {
        Some(key) => Err(format!("{key} was never written")),
        None => Ok(()),
    }
}
