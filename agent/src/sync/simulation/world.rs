//! One run: events in simulated time, drawn from a seed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::db::Item;
use crate::db::Policy;
use crate::db::changelog::{Pending, Settlement};
use crate::db::inbound::{Batch, Progress};
use crate::net::base64;
use crate::sync::answer::Answer;
use crate::sync::engine::{Action, Engine, Push, Settings};
use crate::sync::item::{self, Writer};
use crate::sync::pull::{self, Page, Puller};

use super::cloud::{self, Cloud, Foreign, identity};
use super::mutant::Mutant;
use super::seen::Seen;
use super::store::Store;

const KEYS: [&str; 5] = ["k0", "k1", "k2", "k3", "k4"];
pub(super) const FIELDS: [&str; 5] = ["value", "note", "pk", "_hidden", "poison"];
/// Whether the model replicates in both directions, and who wins then.
const MODELS: [(bool, Policy); 6] = [
    (false, Policy::Device),
    (true, Policy::Device),
    (true, Policy::Cloud),
    (true, Policy::Lww),
    (true, Policy::Merge),
    (true, Policy::Both),
];
/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(90);
/// How long it may take, all being well, until everything but refused rows is in the cloud.
const SETTLED: Duration = Duration::from_secs(20 * 60);
/// The same with rows that were refused and then put right: they are tried again about every hour.
const UNPARKED: Duration = Duration::from_secs(3 * 60 * 60);
/// A run has a few hundred events; one with so many spins.
const EVENTS: usize = 20_000;

#[derive(Debug)]
pub(super) enum Event {
    /// The device writes this row, or any.
    Write(Option<String>),
    /// Somebody else writes this item, or any.
    Foreign(Option<String>),
    Crash,
    Reset,
    Outage(bool),
    /// The request reaches the cloud.
    Arrive {
        id: u64,
        generation: u64,
        request: Value,
    },
    Answer {
        id: u64,
        generation: u64,
        answer: Answer,
    },
    Pending {
        generation: u64,
        rows: Vec<Pending>,
    },
    Commit {
        generation: u64,
        settlements: Vec<Settlement>,
    },
    Settled {
        generation: u64,
    },
    /// The question reaches the cloud.
    Asked {
        generation: u64,
        query: pull::Query,
    },
    Read {
        generation: u64,
        id: u64,
        answer: Result<Page, String>,
    },
    /// What was read is committed.
    Apply {
        generation: u64,
        batch: Batch,
    },
    Applied {
        generation: u64,
    },
    Wake,
}

pub struct World {
    pub(super) random: fastrand::Rng,
    pub(super) mutant: Option<Mutant>,
    pub(super) now: Instant,
    begin: Instant,
    end: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    event_id: u64,
    pub(super) cloud: Cloud,
    pub(super) store: Store,
    pub(super) engine: Engine,
    pub(super) puller: Puller,
    /// Whether the model replicates in both directions, and who wins then.
    pub(super) is_both: bool,
    policy: Policy,
    window: usize,
    delay: Duration,
    /// When the last [`Event::Wake`] is due.
    wake: Option<Instant>,
    pub(super) pull_wake: Option<Instant>,
    /// Counts the starts of the device: what an earlier life waited for does not come back.
    pub(super) generation: u64,
    /// Rows on their way in this life, by request.
    sent: BTreeMap<u64, String>,
    is_down: bool,
    pub(super) trouble: bool,
    /// Versions of others that the device recorded as conflicts or took.
    pub(super) known: HashSet<String>,
    /// Numbers what is written, so that every value is another.
    writes: u64,
    pub(super) seen: Seen,
    is_traced: bool,
}

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let now = Instant::now();
        let (is_both, policy) = *random.choice(MODELS.iter()).unwrap();
        let store = Store::new(site(&mut random), is_both, mutant);
        let window = random.usize(1..=4);
        let delay = if random.bool() { Duration::ZERO } else { Duration::from_millis(random.u64(1..3000)) };
        let engine = engine(&store.site, policy, window, delay, mutant, random.u64(..));
        let none =
            pull::Settings { models: Vec::new(), has_index: true, every: delay, overlap: delay, whole_every: delay };
        let puller = Puller::new(none, &Progress::default(), now, 0, 0);
        let mut world = Self {
            random,
            mutant,
            now,
            begin: now,
            end: now + TROUBLE,
            events: BTreeMap::new(),
            event_id: 0,
            cloud: Cloud::default(),
            store,
            engine,
            puller,
            is_both,
            policy,
            window,
            delay,
            wake: None,
            pull_wake: None,
            generation: 0,
            sent: BTreeMap::new(),
            is_down: false,
            trouble: true,
            known: HashSet::new(),
            writes: 0,
            seen: Seen::default(),
            is_traced: std::env::var_os("TRACE").is_some(),
        };
        world.puller = world.new_puller(false);
        if is_both {
            world.earlier();
        }
        world.plan();
        world
    }

    /// Runs to the end. An error names the invariant that broke.
    pub fn run(mut self) -> Result<Seen, String> {
        self.turn()?;
        let mut left = EVENTS;
        while self.now < self.end {
            self.step(&mut left)?;
        }
        self.trouble = false;
        self.is_down = false;
        self.drain(&mut left, SETTLED, true)?;
        self.check_rows(false)?;
        self.read_on(&mut left, false)?;
        self.read_on(&mut left, true)?;
        // Keys of rows that were put beside others may hold what is refused.
        let keys: Vec<_> = self.store.rows.keys().filter(|key| !key.starts_with('q')).cloned().collect();
        for key in keys.iter().map(String::as_str).chain(KEYS) {
            self.write(key, false);
        }
        self.engine.recorded(self.now);
        self.turn()?;
        self.drain(&mut left, UNPARKED, false)?;
        self.check_rows(true)?;
        Ok(self.seen)
    }

    /// What will go wrong, and when.
    fn plan(&mut self) {
        for _ in 0..self.random.usize(20..70) {
            self.at_random(Event::Write(None));
        }
        for _ in 0..self.random.usize(0..25) {
            self.at_random(Event::Foreign(None));
        }
        for _ in 0..self.random.usize(0..5) {
            self.at_random(Event::Crash);
        }
        if self.random.u8(..) < 60 {
            self.at_random(Event::Reset);
        }
        for _ in 0..self.random.usize(0..3) {
            self.at_random(Event::Outage(true));
            self.at_random(Event::Outage(false));
        }
    }

    pub(super) fn at_random(&mut self, event: Event) {
        let after = TROUBLE.mul_f64(self.random.f64());
        self.after(after, event);
    }

    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.event_id += 1;
        self.events.insert((self.now + delay, self.event_id), event);
    }

    /// Runs until the log is empty, but for refused rows if `but_refused`.
    fn drain(&mut self, left: &mut usize, limit: Duration, but_refused: bool) -> Result<(), String> {
        let until = self.now + limit;
        loop {
            let poisoned =
                self.store.rows.iter().filter(|(key, row)| self.store.is_pending(key) && is_poison(&row.item));
            if self.store.backlog() == if but_refused { poisoned.count() } else { 0 } {
                return Ok(());
            }
            if self.now > until {
                return Err(format!("liveness: {} rows are still pending after {limit:?}", self.store.backlog()));
            }
            self.step(left)?;
        }
    }

    /// Runs until the cloud was read to its end once more, all being well: its changes or, if `whole`, all there is.
    fn read_on(&mut self, left: &mut usize, whole: bool) -> Result<(), String> {
        if !self.is_both {
            return Ok(());
        }
        // The index comes up with the table.
        let caught_up = self.now + Duration::from_secs(11);
        while self.now < caught_up {
            self.after(Duration::from_secs(1), Event::Wake);
            self.step(left)?;
        }
        if whole {
            self.restart_with(true);
        }
        let (begun, until) = (self.now, self.now + SETTLED);
        while self.puller.last_success().is_none_or(|at| at < begun + Duration::from_secs(30)) {
            if self.now > until {
                return Err("liveness: the cloud is not read to its end".to_owned());
            }
            self.step(left)?;
        }
        self.drain(left, SETTLED, true)?;
        self.check_pulled(whole)
    }

    fn step(&mut self, left: &mut usize) -> Result<(), String> {
        *left = left.checked_sub(1).ok_or("liveness: the engine spins")?;
        let Some(((at, _), event)) = self.events.pop_first() else {
            if self.now < self.end {
                self.now = self.end;
                return Ok(());
            }
            return Err("liveness: nothing will ever happen again".to_owned());
        };
        self.now = self.now.max(at);
        if self.is_traced {
            println!("{:?} {event:?}", self.now - (self.end - TROUBLE));
        }
        self.happen(event)?;
        self.turn()
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Write(_) | Event::Foreign(_) if !self.trouble => {}
            Event::Write(key) => {
                let key = key.unwrap_or_else(|| self.any_key());
                self.write(&key, true);
                self.engine.recorded(self.now);
            }
            Event::Foreign(key) => {
                let key = key.unwrap_or_else(|| self.any_key());
                self.somebody_writes(&key);
            }
            Event::Crash => {
                if self.random.bool() {
                    self.seen.count("crash");
                    self.restart();
                } else {
                    // The service alone begins anew, with the engine it had.
                    self.seen.count("restart");
                    self.generation += 1;
                    self.sent.clear();
                    self.engine.restart();
                    self.puller = self.new_puller(false);
                }
            }
            Event::Reset => {
                self.seen.count("reset");
                self.store = Store::new(site(&mut self.random), self.is_both, self.mutant);
                self.restart();
            }
            Event::Outage(is_down) => self.is_down = is_down,
            Event::Arrive { id, generation, request } => self.arrive(id, generation, request)?,
            Event::Answer { id, generation, answer } if generation == self.generation => {
                self.sent.remove(&id);
                self.engine.answered(id, answer, self.now);
            }
            Event::Pending { generation, rows } if generation == self.generation => self.engine.pending(rows),
            Event::Commit { generation, settlements } if generation == self.generation => {
                for settlement in &settlements {
                    self.settle(settlement)?;
                }
                let after = self.short();
                self.after(after, Event::Settled { generation });
            }
            Event::Settled { generation } if generation == self.generation => self.engine.settled(self.now),
            Event::Asked { generation, query } => self.asked(generation, &query),
            Event::Read { generation, id, answer } if generation == self.generation => {
                self.puller.read(id, answer, self.now);
            }
            Event::Apply { generation, batch } if generation == self.generation => {
                self.apply(&batch)?;
                let after = self.short();
                self.after(after, Event::Applied { generation });
            }
            Event::Applied { generation } if generation == self.generation => self.puller.applied(0, self.now),
            // Meant for an earlier life.
            Event::Answer { .. }
            | Event::Pending { .. }
            | Event::Commit { .. }
            | Event::Settled { .. }
            | Event::Read { .. }
            | Event::Apply { .. }
            | Event::Applied { .. }
            | Event::Wake => {}
        }
        Ok(())
    }

    /// Does what the engine wants.
    fn turn(&mut self) -> Result<(), String> {
        let generation = self.generation;
        self.turn_pull();
        for _ in 0..1000 {
            let Some(action) = self.engine.poll(self.now) else {
                let wake = self.engine.deadline().map(|at| at.max(self.now + Duration::from_micros(1)));
                match wake {
                    Some(at) if wake != self.wake => self.after(at - self.now, Event::Wake),
                    _ => {}
                }
                self.wake = wake;
                return Ok(());
            };
            match action {
                Action::Read { limit, exclude } => {
                    let rows = self.store.rows.len().max(KEYS.len());
                    if limit > 2 * self.window + rows || exclude.len() > rows {
                        return Err(format!("I7 reads {limit} rows with a window of {}", self.window));
                    }
                    let rows = self.store.pending(limit, &exclude);
                    let after = self.short();
                    self.after(after, Event::Pending { generation, rows });
                }
                Action::Push(pushes) => pushes.into_iter().try_for_each(|push| self.push(push))?,
                Action::Settle(settlements) => {
                    let after = self.short();
                    self.after(after, Event::Commit { generation, settlements });
                }
            }
        }
        Err("liveness: poll never ends".to_owned())
    }

    fn push(&mut self, push: Push) -> Result<(), String> {
        self.seen.count("push");
        if self.sent.values().any(|key| *key == push.row.key) {
            return Err(format!("I7 two requests for {} at a time", push.row.key));
        }
        self.sent.insert(push.id, push.row.key.clone());
        if self.sent.len() > self.window {
            return Err(format!("I7 {} requests with a window of {}", self.sent.len(), self.window));
        }
        let writer = Writer { thing: "thing".into(), site: self.store.site.clone(), schema: "1".into() };
        let request = item::update("table", &writer, &push, &FIELDS.map(str::to_owned));
        let request = request.expect("the key and the document are small");
        if self.event_id % 8 == 0 {
            cloud::check_use(&request);
        }
        let request = match self.mutant {
            Some(mutant) => mutant.spoil(request),
            None => request,
        };
        let generation = self.generation;
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

    fn arrive(&mut self, id: u64, generation: u64, request: Value) -> Result<(), String> {
        self.cloud.shown_from = self.shown_from();
        let known = &self.known;
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

    fn settle(&mut self, settled: &Settlement) -> Result<(), String> {
        let key = &settled.key;
        if let Some(conflict) = &settled.conflict {
            self.seen.count("conflict");
            self.check_conflict(settled, conflict)?;
            self.known.insert(identity(&(key.clone(), settled.base, conflict.theirs.clone())));
        }
        let Some(removed) = self.store.settle(settled) else { return Ok(()) };
        if removed.taken {
            self.seen.count("taken");
            self.known.insert(identity(&(key.clone(), settled.base, self.store.rows[key].item.clone())));
        }
        let op = base64::encode(&removed.op);
        if settled.conflict.is_none() && !removed.was_same && !self.cloud.stored.contains(&op) {
            return Err(format!("I2 a change of {key} left the log and never reached the cloud"));
        }
        Ok(())
    }

    fn write(&mut self, key: &str, any: bool) {
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
        self.store.write(key, item, now, &mut self.random);
    }

    fn any_key(&mut self) -> String {
        KEYS[self.random.usize(..KEYS.len())].to_owned()
    }

    fn somebody_writes(&mut self, key: &str) {
        self.writes += 1;
        let value = format!("c{}", self.writes);
        let stamp = self.stamp();
        self.cloud.shown_from = self.shown_from();
        match self.random.u8(..) {
            ..20 => {
                self.seen.count("deleted");
                self.cloud.delete(key);
                self.forget_requests(key);
            }
            20..30 => {
                self.seen.count("unversioned");
                self.cloud.put(key, &value);
                self.forget_requests(key);
            }
            _ => self.cloud.edit(key, &value, &stamp, &mut self.random),
        }
    }

    /// No request lives so long that an item is deleted, made anew and changed meanwhile.
    fn forget_requests(&mut self, key: &str) {
        self.events.retain(|_, event| match event {
            Event::Arrive { id, generation, request } if *id == 0 || *generation < self.generation => {
                request["Key"]["sk"]["S"] != key
            }
            _ => true,
        });
    }

    fn restart(&mut self) {
        self.restart_with(false);
    }

    fn restart_with(&mut self, is_whole_due: bool) {
        self.generation += 1;
        self.sent.clear();
        let seed = self.random.u64(..);
        self.engine = engine(&self.store.site, self.policy, self.window, self.delay, self.mutant, seed);
        self.puller = self.new_puller(is_whole_due);
    }

    pub(super) fn elapsed_ms(&self) -> u64 {
        u64::try_from((self.now - self.begin).as_millis()).unwrap()
    }

    pub(super) fn loses(&mut self) -> bool {
        self.trouble && (self.is_down || self.random.u8(..) < 35)
    }

    pub(super) fn short(&mut self) -> Duration {
        Duration::from_micros(self.random.u64(1..30_000))
    }

    pub(super) fn latency(&mut self) -> Duration {
        Duration::from_millis(self.random.u64(1..400))
    }
}

fn engine(site: &str, policy: Policy, window: usize, delay: Duration, mutant: Option<Mutant>, seed: u64) -> Engine {
    let (thing, site, policies) = ("thing".to_owned(), site.to_owned(), HashMap::from([("M".to_owned(), policy)]));
    let mut engine = Engine::new(
        Settings { thing, site, window, batch: 1, journals: HashSet::new(), gather: delay / 100, delay, policies },
        seed,
    );
    engine.rules.mutant = mutant;
    engine
}

fn site(random: &mut fastrand::Rng) -> String {
    format!("site{}", random.u32(..))
}

fn is_poison(item: &Option<Item>) -> bool {
    item.as_ref().is_some_and(|item| item.contains_key("poison"))
}
