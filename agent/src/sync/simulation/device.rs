//! A device of a run: its database, its engine, what they send, and what comes of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::db::Policy;
use crate::db::changelog::Settlement;
use crate::db::inbound::Progress;
use crate::net::base64;
use crate::sync::answer::Answer;
use crate::sync::engine::{Engine, Push, Settings};
use crate::sync::item::{self, Writer};
use crate::sync::pull::{self, Puller};

use super::cloud::{self, Foreign, identity};
use super::mutant::Mutant;
use super::store::Store;
use super::world::{Event, FIELDS, KEYS, World};

/// How the devices of a run are set up.
#[derive(Clone, Copy)]
pub(super) struct Setup {
    /// Whether the model replicates in both directions, …
    pub is_both: bool,
    /// … and who wins then.
    pub policy: Policy,
    pub window: usize,
    pub delay: Duration,
    pub mutant: Option<Mutant>,
}

impl Setup {
    fn engine(&self, site: &str, seed: u64) -> Engine {
        let Self { policy, window, delay, mutant, .. } = *self;
        let (thing, site, policies) = ("thing".to_owned(), site.to_owned(), HashMap::from([("M".to_owned(), policy)]));
        let mut engine = Engine::new(
            Settings { thing, site, window, batch: 1, journals: HashSet::new(), gather: delay / 100, delay, policies },
            seed,
        );
        engine.rules.mutant = mutant;
        engine
    }

    fn store(&self, random: &mut fastrand::Rng) -> Store {
        Store::new(format!("site{}", random.u32(..)), self.is_both, self.mutant)
    }
}

/// One of the devices, which have one name.
pub(super) struct Device {
    pub id: usize,
    pub store: Store,
    pub engine: Engine,
    pub puller: Puller,
    /// Counts its starts: what an earlier life waited for does not come back.
    pub generation: u64,
    /// Rows on their way in this life, by request.
    pub sent: BTreeMap<u64, String>,
    /// Versions of others that it recorded as conflicts or took.
    known: HashSet<String>,
    /// Whether the network is away.
    pub is_down: bool,
    /// When the last [`Event::Wake`] is due, for what it sends …
    pub wake: Option<Instant>,
    /// … and what it reads.
    pub pull_wake: Option<Instant>,
}

impl Device {
    /// A device that is not to read yet.
    pub fn new(id: usize, setup: &Setup, random: &mut fastrand::Rng, now: Instant) -> Self {
        let store = setup.store(random);
        let engine = setup.engine(&store.site, random.u64(..));
        let zero = Duration::ZERO;
        let none =
            pull::Settings { models: Vec::new(), has_index: true, every: zero, overlap: zero, whole_every: zero };
        Self {
            id,
            store,
            engine,
            puller: Puller::new(none, &Progress::default(), now, 0, 0),
            generation: 0,
            sent: BTreeMap::new(),
            known: HashSet::new(),
            is_down: false,
            wake: None,
            pull_wake: None,
        }
    }

    pub fn knows(&mut self, version: &Foreign) {
        self.known.insert(identity(version));
    }
}

impl World {
    pub(super) fn push(&mut self, push: Push) -> Result<(), String> {
        self.seen.count("push");
        if self.device.sent.values().any(|key| *key == push.row.key) {
            return Err(format!("I7 two requests for {} at a time", push.row.key));
        }
        self.device.sent.insert(push.id, push.row.key.clone());
        if self.device.sent.len() > self.setup.window {
            return Err(format!("I7 {} requests with a window of {}", self.device.sent.len(), self.setup.window));
        }
        let writer = Writer { thing: "thing".into(), site: self.device.store.site.clone(), schema: "1".into() };
        let request = item::update("table", &writer, &push, &FIELDS.map(str::to_owned));
        let request = request.expect("the key and the document are small");
        if self.event_id % 8 == 0 {
            cloud::check_use(&request);
        }
        let request = match self.setup.mutant {
            Some(mutant) => mutant.spoil(request),
            None => request,
        };
        let generation = self.device.generation;
        if self.trouble && self.random.u8(..) < 25 {
            let meanwhile = self.latency();
            self.after(meanwhile, Event::Write(Some(push.row.key.clone())));
        }

        // The first delivery is the one that is answered; a repeated one comes at any time later.
        let arrives = self.latency();
        if self.trouble && self.random.u8(..) < 30 {
            self.seen.count("repeated");
            let late = arrives + Duration::from_millis(self.random.u64(1..30_000));
            self.after(late, Event::Arrive { id: 0, generation, request: request.clone() });
        }
        if self.loses() {
            self.seen.count("lost");
            // Lost, or only very late.
            if self.random.bool() {
                let late = Duration::from_millis(self.random.u64(2_000..30_000));
                self.after(late, Event::Arrive { id: 0, generation, request });
            }
            let answer = Answer::Failed("no answer".to_owned());
            let after = if self.random.bool() { Duration::from_secs(2) } else { self.short() };
            self.after(after, Event::Answer { id: push.id, generation, answer });
        } else if self.trouble && self.random.u8(..) < 12 {
            self.seen.count("throttled");
            let answer = Answer::Throttled("ThrottlingException".to_owned());
            self.after(arrives, Event::Answer { id: push.id, generation, answer });
        } else {
            self.after(arrives, Event::Arrive { id: push.id, generation, request });
        }
        Ok(())
    }

    pub(super) fn arrive(&mut self, id: u64, generation: u64, request: Value) -> Result<(), String> {
        self.cloud.shown_from = self.shown_from();
        let known = &self.device.known;
        let is_known = |version: &Foreign| known.contains(&identity(version));
        let answer = self.cloud.update(&request, "thing", is_known)?;
        match answer {
            Answer::Stored => self.seen.count("stored"),
            Answer::Refused(_) => self.seen.count("refused"),
            _ if self.trouble && self.random.u8(..) < 60 => {
                let key = request["Key"]["sk"]["S"].as_str().map(str::to_owned);
                let meanwhile = self.latency();
                self.after(meanwhile, Event::Write(key));
            }
            _ => {}
        }
        if id == 0 {
            return Ok(());
        }
        if self.loses() {
            self.seen.count("lost");
            if self.random.u8(..) < 60 {
                let key = request["Key"]["sk"]["S"].as_str().map(str::to_owned);
                let meanwhile = self.latency();
                self.after(meanwhile, Event::Foreign(key));
            }
            let answer = Answer::Failed("no answer".to_owned());
            self.after(Duration::from_secs(2), Event::Answer { id, generation, answer });
        } else {
            let after = self.latency();
            self.after(after, Event::Answer { id, generation, answer });
        }
        Ok(())
    }

    pub(super) fn settle(&mut self, settled: &Settlement) -> Result<(), String> {
        let key = &settled.key;
        if let Some(conflict) = &settled.conflict {
            self.seen.count("conflict");
            self.check_conflict(settled, conflict)?;
            self.device.knows(&(key.clone(), settled.base, conflict.theirs.clone()));
        }
        let Some(removed) = self.device.store.settle(settled) else { return Ok(()) };
        if removed.taken {
            self.seen.count("taken");
            let item = self.device.store.rows[key].item.clone();
            self.device.knows(&(key.clone(), settled.base, item));
        }
        let op = base64::encode(&removed.op);
        if settled.conflict.is_none() && !removed.was_same && !self.cloud.stored.contains(&op) {
            return Err(format!("I2 a change of {key} left the log and never reached the cloud"));
        }
        Ok(())
    }

    pub(super) fn write(&mut self, key: &str, any: bool) {
        self.writes += 1;
        let value = format!("d{}", self.writes);
        let mut item = json!({"value": value, "_hidden": self.writes});
        if self.random.bool() {
            item["note"] = json!({"list": [1, 2.5, null, "x"], "of": value});
        }
        if self.random.bool() {
            item["pk"] = json!(value);
        }
        if any && self.random.u8(..) < 12 {
            item["poison"] = json!("poison");
        }
        let item = if any && self.random.u8(..) < 25 { None } else { item.as_object().cloned() };
        let now = self.device_ms();
        self.device.store.write(key, item, now, &mut self.random);
        if self.setup.mutant == Some(Mutant::LogLater) {
            let after = self.short();
            self.after(after, Event::Logged);
        }
    }

    pub(super) fn any_key(&mut self) -> String {
        KEYS[self.random.usize(..KEYS.len())].to_owned()
    }

    /// Its file is lost, with all that the cloud does not have.
    pub(super) fn reset(&mut self) {
        self.device.store = self.setup.store(&mut self.random);
        self.restart();
    }

    pub(super) fn restart(&mut self) {
        self.restart_with(false);
    }

    pub(super) fn restart_with(&mut self, is_whole_due: bool) {
        self.device.generation += 1;
        self.device.sent.clear();
        self.device.store.log_later(true);
        let seed = self.random.u64(..);
        self.device.engine = self.setup.engine(&self.device.store.site, seed);
        self.device.puller = self.new_puller(is_whole_due);
    }
}
