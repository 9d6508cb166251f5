//! One run: events in simulated time, drawn from a seed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::db::Policy;
use crate::db::changelog::{Pending, Settlement};
use crate::db::inbound::Batch;
use crate::sync::answer::Answer;
use crate::sync::engine::Action;
use crate::sync::pull::{self, Page};

use super::cloud::Cloud;
use super::device::{Device, Setup};
use super::mutant::Mutant;
use super::seen::Seen;

pub(super) const KEYS: [&str; 5] = ["k0", "k1", "k2", "k3", "k4"];
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
    /// What the device wrote is in the log too, of a mutant.
    Logged,
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
    pub(super) now: Instant,
    begin: Instant,
    end: Instant,
    /// What happens next, and to which device.
    pub(super) events: BTreeMap<(Instant, u64), (usize, Event)>,
    pub(super) event_id: u64,
    pub(super) cloud: Cloud,
    pub(super) setup: Setup,
    /// The device that has its turn, …
    pub(super) device: Device,
    /// … and the other one, where there are two.
    other: Option<Device>,
    pub(super) trouble: bool,
    /// Numbers what is written, so that every value is another.
    pub(super) writes: u64,
    pub(super) seen: Seen,
    is_traced: bool,
}

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let now = Instant::now();
        let (is_both, policy) = *random.choice(MODELS.iter()).unwrap();
        let window = random.usize(1..=4);
        let delay = if random.bool() { Duration::ZERO } else { Duration::from_millis(random.u64(1..3000)) };
        let setup = Setup { is_both, policy, window, delay, mutant };
        let device = Device::new(0, &setup, &mut random, now);
        let other = (random.u8(..) < 80).then(|| Device::new(1, &setup, &mut random, now));
        let mut world = Self {
            random,
            now,
            begin: now,
            end: now + TROUBLE,
            events: BTreeMap::new(),
            event_id: 0,
            cloud: Cloud::new(policy != Policy::Device, other.is_some()),
            setup,
            device,
            other,
            trouble: true,
            writes: 0,
            seen: Seen::default(),
            is_traced: std::env::var_os("TRACE").is_some(),
        };
        if is_both {
            world.earlier();
        }
        for _ in 0..world.random.usize(0..25) {
            world.at_random(Event::Foreign(None));
        }
        for device in 0..world.devices() {
            world.turn_to(device);
            world.device.puller = world.new_puller(false);
            world.plan();
        }
        world
    }

    /// Runs to the end. An error names the invariant that broke.
    pub fn run(mut self) -> Result<Seen, String> {
        let mut left = EVENTS;
        self.each(Self::turn)?;
        while self.now < self.end {
            self.step(&mut left)?;
        }
        self.trouble = false;
        self.each(|world| {
            world.device.is_down = false;
            Ok(())
        })?;
        self.drain(&mut left, SETTLED, true)?;
        self.each(|world| world.check_rows(false))?;
        self.read_on(&mut left, false)?;
        self.read_on(&mut left, true)?;
        self.each(Self::write_all)?;
        self.drain(&mut left, UNPARKED, false)?;
        let is_alone = self.other.is_none();
        if !is_alone {
            // What one of them wrote last, the other one sees only in the whole.
            self.seen.count("two devices");
            self.read_on(&mut left, true)?;
        }
        let is_all_ours = is_alone || self.setup.is_both;
        self.each(|world| world.check_rows(is_all_ours))?;
        Ok(self.seen)
    }

    pub(super) fn devices(&self) -> usize {
        1 + usize::from(self.other.is_some())
    }

    /// The number of the life of each device.
    pub(super) fn lives(&self) -> [u64; 2] {
        let mut lives = [0; 2];
        for device in [Some(&self.device), self.other.as_ref()].into_iter().flatten() {
            lives[device.id] = device.generation;
        }
        lives
    }

    fn turn_to(&mut self, device: usize) {
        if let Some(other) = self.other.as_mut().filter(|other| other.id == device) {
            std::mem::swap(&mut self.device, other);
        }
    }

    /// Does it for each device in its turn.
    fn each(&mut self, mut act: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        (0..self.devices()).try_for_each(|device| {
            self.turn_to(device);
            act(self)
        })
    }

    /// Every row is written once more.
    fn write_all(&mut self) -> Result<(), String> {
        // Keys of rows that were put beside others may hold what is refused.
        let keys: Vec<_> = self.device.store.rows.keys().filter(|key| !key.starts_with('q')).cloned().collect();
        for key in keys.iter().map(String::as_str).chain(KEYS) {
            self.write(key, false);
        }
        self.device.engine.recorded(self.now);
        self.turn()
    }

    /// What the device will do, and what will go wrong with it.
    fn plan(&mut self) {
        for _ in 0..self.random.usize(20..70) {
            self.at_random(Event::Write(None));
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
        self.events.insert((self.now + delay, self.event_id), (self.device.id, event));
    }

    /// Runs until the logs are empty, but for refused rows if `but_refused`.
    fn drain(&mut self, left: &mut usize, limit: Duration, but_refused: bool) -> Result<(), String> {
        let until = self.now + limit;
        loop {
            let mut pending = 0;
            self.each(|world| {
                let store = &world.device.store;
                pending += store.backlog() - if but_refused { store.poisoned() } else { 0 };
                Ok(())
            })?;
            if pending == 0 {
                return Ok(());
            }
            if self.now > until {
                return Err(format!("liveness: {pending} rows are still pending after {limit:?}"));
            }
            self.step(left)?;
        }
    }

    /// Runs until the devices have read the cloud to its end once more, all being well: its changes or, if `whole`, all there is.
    fn read_on(&mut self, left: &mut usize, whole: bool) -> Result<(), String> {
        if !self.setup.is_both {
            return Ok(());
        }
        // The index comes up with the table.
        let caught_up = self.now + Duration::from_secs(11);
        while self.now < caught_up {
            self.after(Duration::from_secs(1), Event::Wake);
            self.step(left)?;
        }
        for device in 0..self.devices() {
            self.turn_to(device);
            if whole {
                self.restart_with(true);
                self.turn()?;
            }
            let (begun, until) = (self.now, self.now + SETTLED);
            while self.device.puller.last_success().is_none_or(|at| at < begun + Duration::from_secs(30)) {
                if self.now > until {
                    return Err("liveness: the cloud is not read to its end".to_owned());
                }
                self.step(left)?;
                self.turn_to(device);
            }
        }
        self.drain(left, SETTLED, true)?;
        self.each(|world| world.check_pulled(whole))
    }

    fn step(&mut self, left: &mut usize) -> Result<(), String> {
        *left = left.checked_sub(1).ok_or("liveness: the engine spins")?;
        let Some(((at, _), (device, event))) = self.events.pop_first() else {
            if self.now < self.end {
                self.now = self.end;
                return Ok(());
            }
            return Err("liveness: nothing will ever happen again".to_owned());
        };
        self.now = self.now.max(at);
        self.turn_to(device);
        if self.is_traced {
            println!("{:?} {device} {event:?}", self.now - (self.end - TROUBLE));
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
                self.device.engine.recorded(self.now);
                if self.random.u8(..) < 6 {
                    let after = self.short() / 4;
                    self.after(after, Event::Crash);
                }
            }
            Event::Foreign(key) => {
                let key = key.unwrap_or_else(|| self.any_key());
                self.somebody_writes(&key);
            }
            Event::Logged => {
                self.device.store.log_later(false);
                self.device.engine.recorded(self.now);
            }
            Event::Crash => {
                if self.random.bool() {
                    self.seen.count("crash");
                    self.restart();
                } else {
                    // The service alone begins anew, with the engine it had.
                    self.seen.count("restart");
                    self.device.generation += 1;
                    self.device.sent.clear();
                    self.device.engine.restart();
                    self.device.puller = self.new_puller(false);
                }
            }
            Event::Reset => {
                self.seen.count("reset");
                self.reset();
            }
            Event::Outage(is_down) => self.device.is_down = is_down,
            Event::Arrive { id, generation, request } => self.arrive(id, generation, request)?,
            Event::Answer { id, generation, answer } if generation == self.device.generation => {
                self.device.sent.remove(&id);
                self.device.engine.answered(id, answer, self.now);
            }
            Event::Pending { generation, rows } if generation == self.device.generation => {
                self.device.engine.pending(rows)
            }
            Event::Commit { generation, settlements } if generation == self.device.generation => {
                for settlement in &settlements {
                    self.settle(settlement)?;
                }
                let after = self.short();
                self.after(after, Event::Settled { generation });
            }
            Event::Settled { generation } if generation == self.device.generation => {
                self.device.engine.settled(self.now)
            }
            Event::Asked { generation, query } => self.asked(generation, &query),
            Event::Read { generation, id, answer } if generation == self.device.generation => {
                self.device.puller.read(id, answer, self.now);
            }
            Event::Apply { generation, batch } if generation == self.device.generation => {
                self.apply(&batch)?;
                let after = self.short();
                self.after(after, Event::Applied { generation });
            }
            Event::Applied { generation } if generation == self.device.generation => {
                self.device.puller.applied(0, self.now)
            }
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
        let generation = self.device.generation;
        self.turn_pull();
        for _ in 0..1000 {
            let Some(action) = self.device.engine.poll(self.now) else {
                let wake = self.device.engine.deadline().map(|at| at.max(self.now + Duration::from_micros(1)));
                match wake {
                    Some(at) if wake != self.device.wake => self.after(at - self.now, Event::Wake),
                    _ => {}
                }
                self.device.wake = wake;
                return Ok(());
            };
            match action {
                Action::Read { limit, exclude } => {
                    let rows = self.device.store.rows.len().max(KEYS.len());
                    if limit > 2 * self.setup.window + rows || exclude.len() > rows {
                        return Err(format!("I7 reads {limit} rows with a window of {}", self.setup.window));
                    }
                    let rows = self.device.store.pending(limit, &exclude);
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

    pub(super) fn elapsed_ms(&self) -> u64 {
        u64::try_from((self.now - self.begin).as_millis()).unwrap()
    }

    pub(super) fn loses(&mut self) -> bool {
        self.trouble && (self.device.is_down || self.random.u8(..) < 35)
    }

    pub(super) fn short(&mut self) -> Duration {
        Duration::from_micros(self.random.u64(1..30_000))
    }

    pub(super) fn latency(&mut self) -> Duration {
        Duration::from_millis(self.random.u64(1..400))
    }
}
