//! The device: the real program, changed over its web API and killed, and what its rows must be by that.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::thread;
use std::time::Duration;

use ioto::db::Item;
use ioto_tests::{Agent, Client, Response, eventually};
use serde_json::{Value, json};

use crate::history::{By, Write};
use crate::link::Link;
use crate::run::Mode;
use crate::same;

/// What a row can be.
#[derive(Clone, Debug)]
pub struct State {
    /// The change that made it so; 0: none.
    pub change: u64,
    /// As the device said, or would have; `None`: there is no row.
    pub item: Option<Item>,
    /// What the change set, where the device said nothing.
    unanswered: Option<Item>,
}

/// Changes rows, and remembers what was acknowledged.
pub struct Device {
    pub agent: Agent,
    pub changes: u64,
    /// By key: one state, or two after a change that was not answered.
    ledger: BTreeMap<String, Vec<State>>,
    /// When a row was seen to be absent: its key, and how many writes the cloud had by then.
    absences: Vec<(String, usize)>,
    /// Changes in whose place an edit of the cloud came, although no write of the device says that it was made on top of them.
    pub lost: Vec<(String, Vec<State>)>,
    mode: Mode,
    random: fastrand::Rng,
}

impl Device {
    pub fn new(agent: Agent, mode: Mode, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let (ledger, absences, lost) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { agent, changes: 0, ledger, absences, lost, mode, random }
    }

    /// Changes rows; with `kill`, the program is killed at a random moment of that.
    pub fn work(&mut self, link: &Link, kill: bool, between: &mut dyn FnMut()) -> Result<(), String> {
        let (mut client, count) = (self.agent.client(), self.random.usize(3..20));
        for _ in 0..count {
            between();
            thread::sleep(Duration::from_millis(self.random.u64(..40)));
            if !self.change(link, &mut client)? {
                return Err("the agent closed a connection although nobody killed it".into());
            }
        }
        if !kill {
            return Ok(());
        }
        let moment = Duration::from_micros(self.random.u64(..60_000));
        let Self { agent, mode, changes, ledger, absences, random, .. } = self;
        let address = agent.address();
        thread::scope(|scope| {
            let killer = scope.spawn(|| {
                thread::sleep(moment);
                agent.kill();
            });
            let mut worker = Worker { link, mode: *mode, changes, ledger, absences, random };
            let mut client = Client::connect(address).ok();
            while let Some(client) = &mut client {
                if !worker.change(client)? {
                    break;
                }
            }
            killer.join().expect("to kill does not panic");
            Ok::<_, String>(())
        })?;
        self.agent.start();
        Ok(())
    }

    /// Whether a row was absent after so many writes of the cloud, and before so many.
    pub fn was_absent(&self, key: &str, after: usize, before: usize) -> bool {
        self.absences.iter().any(|(absent, writes)| absent == key && (after + 1..=before).contains(writes))
    }

    fn change(&mut self, link: &Link, client: &mut Client) -> Result<bool, String> {
        let Self { mode, changes, ledger, absences, random, .. } = self;
        Worker { link, mode: *mode, changes, ledger, absences, random }.change(client)
    }

    /// What a row is, if the ledger and the cloud's writes allow it: the last acknowledged change, or a later one that
    /// was not answered, or an edit of the cloud that was made on top of one of these.
    fn check(&mut self, key: &str, row: Option<&Item>, writes: &[Write]) -> Result<State, String> {
        let possible = self.ledger.entry(key.to_owned()).or_insert_with(|| vec![State::none()]);
        let is_merged = |state: &&State| self.mode.merges() && state.is_merged_with(key, row, writes);
        let found = possible.iter().rev().find(|state| state.fits(row));
        let found = found.or_else(|| possible.iter().rev().find(is_merged));
        let state = match found {
            Some(state) => State { item: row.cloned(), unanswered: None, ..state.clone() },
            // What was put beside another row is no change of its own.
            None if key.contains('~') => State { change: 0, item: row.cloned(), unanswered: None },
            None => match replaced(key, row, possible, writes) {
                Some(change) => State { change, item: row.cloned(), unanswered: None },
                None if self.mode.takes_edits() && is_edit(key, row, writes) => {
                    self.lost.push((key.to_owned(), possible.clone()));
                    State { change: 0, item: row.cloned(), unanswered: None }
                }
                None => {
                    let cloud: Vec<_> = writes.iter().filter(|write| write.key == key).collect();
                    return Err(format!(
                        "I2 {key} is {row:?} on the device, and should be one of {possible:?}; the cloud had {cloud:#?}"
                    ));
                }
            },
        };
        *possible = vec![state.clone()];
        Ok(state)
    }

    /// All rows that it has.
    fn rows(&self) -> BTreeMap<String, Item> {
        // After a start the database may take a moment.
        let page = eventually("the rows can be asked for", Duration::from_secs(20), || {
            let page = self.agent.client().get("/api/db/Reading?limit=500").ok()?;
            (page.status == 200).then(|| page.json())
        });
        let rows = page["items"].as_array().expect("a page has items").iter();
        let rows = rows.map(|row| row.as_object().expect("a row is an object").clone());
        rows.map(|row| (row["id"].as_str().expect("a row has an id").to_owned(), row)).collect()
    }

    /// Compares all rows with the ledger.
    pub fn check_all(&mut self, link: &Link) -> Result<BTreeMap<String, State>, String> {
        let rows = self.rows();
        // What the cloud did is among the writes before it is on the device.
        let writes = link.cloud().writes.clone();
        let keys: BTreeSet<String> = rows.keys().chain(self.ledger.keys()).cloned().collect();
        keys.into_iter().map(|key| Ok((key.clone(), self.check(&key, rows.get(&key), &writes)?))).collect()
    }
}

impl State {
    /// There never was a row.
    pub fn none() -> Self {
        Self { change: 0, item: None, unanswered: None }
    }

    /// Whether the row is this one with an edit of the cloud put into it: what only the device sets is as it had it, and all else is
    /// of one edit. That may have brought back what the device set before, and did not know to be there.
    fn is_merged_with(&self, key: &str, row: Option<&Item>, writes: &[Write]) -> bool {
        let (Some(mine), Some(row)) = (self.unanswered.as_ref().or(self.item.as_ref()), row) else { return false };
        let has = |item: &Item, name: &str, value: &Value| same(item.get(name).unwrap_or(&Value::Null), value);
        let is_edited = |name: &String| name == "name" || name == "cloudOnly";
        let is_kept = mine.iter().all(|(name, value)| is_edited(name) || value.is_null() || has(row, name, value));
        let edits = writes.iter().filter(|write| write.key == key && matches!(write.by, By::Cloud { .. }));
        let mut edits = edits.filter_map(|write| write.item.as_ref());
        let is_of = |edit: &Item| row.iter().all(|(name, value)| has(mine, name, value) || has(edit, name, value));
        is_kept && edits.any(is_of)
    }

    fn fits(&self, row: Option<&Item>) -> bool {
        match (&self.unanswered, row) {
            // It may have been made on top of an edit of the cloud, whose other fields are then there as well.
            (Some(fields), Some(row)) => {
                fields.iter().all(|(name, value)| same(row.get(name).unwrap_or(&Value::Null), value))
            }
            (Some(_), None) => false,
            // What the cloud alone knows stays there with a write of the device, and a read of the whole brings it.
            (None, Some(row)) if self.item.as_ref().is_some_and(|item| !item.contains_key("cloudOnly")) => {
                let mut row = row.clone();
                row.remove("cloudOnly");
                same(&json!(self.item), &json!(row))
            }
            (None, row) => same(&json!(self.item), &json!(row)),
        }
    }
}

/// The change on top of which the cloud made the row what it is.
fn replaced(key: &str, row: Option<&Item>, possible: &[State], writes: &[Write]) -> Option<u64> {
    let of_key: Vec<&Write> = writes.iter().filter(|write| write.key == key).collect();
    of_key.iter().enumerate().find_map(|(at, write)| {
        let is_it = matches!(write.by, By::Cloud { .. }) && same(&json!(write.item), &json!(row));
        let before = of_key[..at].iter().rev().find(|before| matches!(before.by, By::Device { .. }))?;
        let by = possible.iter().find(|state| is_it && made_by(before, state))?;
        Some(by.change)
    })
}

/// Whether the cloud made the row what it is.
fn is_edit(key: &str, row: Option<&Item>, writes: &[Write]) -> bool {
    let mut edits = writes.iter().filter(|write| write.key == key && matches!(write.by, By::Cloud { .. }));
    edits.any(|write| same(&json!(write.item), &json!(row)))
}

/// Whether this write of the device brought the change that made this state.
pub fn made_by(write: &Write, state: &State) -> bool {
    let value = |item: &Item| item.get("value").and_then(Value::as_f64);
    match &write.item {
        Some(item) => value(item) == Some(state.change as f64 / 8.0),
        None => state.item.is_none() || state.unanswered.is_none(),
    }
}

/// Borrows of a [`Device`] what changes need, so that it can be killed meanwhile.
struct Worker<'a> {
    link: &'a Link,
    mode: Mode,
    changes: &'a mut u64,
    ledger: &'a mut BTreeMap<String, Vec<State>>,
    absences: &'a mut Vec<(String, usize)>,
    random: &'a mut fastrand::Rng,
}

impl Worker<'_> {
    /// One random change. False: there was no answer.
    fn change(&mut self, client: &mut Client) -> Result<bool, String> {
        let key = match self.mode.is_journal {
            true => format!("j{}", *self.changes + 1),
            false => format!("r{}", self.random.u8(..12)),
        };
        let path = format!("/api/db/Reading/{key}");
        let Ok(found) = client.get(&path) else { return Ok(false) };
        if found.status == 404 {
            self.absences.push((key.clone(), self.link.cloud().writes.len()));
        }
        if !self.mode.writes() {
            let refused = client.post("/api/db/Reading", &json!({"id": key, "name": "not here"}));
            return match refused.map(|answer| answer.status) {
                Ok(400..500) => Ok(true),
                Ok(status) => Err(format!("a change of what comes down was answered {status}")),
                Err(_) => Ok(false),
            };
        }
        *self.changes += 1;
        let number = *self.changes;
        let mut fields = json!({"name": format!("n{number}"), "value": number as f64 / 8.0});
        match self.random.u8(..4) {
            0 => fields["note"] = json!({"list": [1, "two", null, true], "deep": {"é": "ü"}}),
            1 => fields["ttl"] = json!("later"),
            2 if found.status == 200 => fields["note"] = Value::Null,
            _ => {}
        }
        let is_removal = found.status == 200 && self.random.u8(..5) == 0;
        let answer = match found.status {
            200 if is_removal => client.request("DELETE", &path, &[], b""),
            200 => {
                let json = [("Content-Type", "application/json")];
                client.request("PATCH", &path, &json, fields.to_string().as_bytes())
            }
            404 => {
                fields["id"] = json!(key);
                client.post("/api/db/Reading", &fields)
            }
            status => return Err(format!("{key} cannot be read: {status} {}", found.text())),
        };
        let states = self.ledger.entry(key.clone()).or_default();
        if states.is_empty() {
            states.push(State::none());
        }
        let fields = fields.as_object().cloned();
        match answer {
            Ok(answer) => settle(states, number, &answer).map_err(|error| format!("{key}: {error}"))?,
            Err(_) if is_removal => states.push(State { change: number, item: None, unanswered: None }),
            Err(_) => states.push(State { change: number, item: fields.clone(), unanswered: fields }),
        }
        Ok(states.last().is_some_and(|state| state.unanswered.is_none()) && is_alive(client))
    }
}

/// Takes the answer to a change for what the row is.
fn settle(states: &mut Vec<State>, change: u64, answer: &Response) -> Result<(), String> {
    let item = match answer.status {
        200 | 201 => answer.json().as_object().cloned(),
        204 => None,
        // An edit of the cloud made or removed the row between our look and our change.
        404 | 409 => return Ok(()),
        status => return Err(format!("the change was answered {status} {}", answer.text())),
    };
    *states = vec![State { change, item, unanswered: None }];
    Ok(())
}

/// Whether the connection stands; after a removal without an answer nothing else says so.
fn is_alive(client: &mut Client) -> bool {
    let alive: io::Result<Response> = client.get("/api/db");
    alive.is_ok()
}
