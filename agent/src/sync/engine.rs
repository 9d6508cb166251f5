//! The replication engine: which rows are on their way to the cloud and what to do about them. No I/O: rows, answers
//! and time in, actions out.
//!
//! A row goes read → push → settle, and is not read again before that is over, so there is at most one request a row.
//! What the engine knows is lost with it without harm: a row leaves the change log only when it is settled, and a push
//! that is repeated is recognised by the cloud (see [`item`](super::item)).

mod report;
mod request;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::report::{Parked, Report};
pub use self::request::Push;
use super::answer::{Answer, Over, Rules};
use super::pace::{Pace, jitter};
use crate::db::Policy;
use crate::db::changelog::{Outcome, Pending, Settlement};

/// Rows that may wait for another try at a time. When more are refused, the engine rests until one of them is due: so
/// many refusals are no matter of single rows any more, and the memory for them stays bounded.
const WAITING: usize = 1024;
/// Changes of a row that were sent without an answer, of which the engine knows what they were.
const UNKNOWN: usize = 8;
/// A row that was written by others is sent again at once so many times; then it waits between the tries.
const AT_ONCE: u32 = 3;
/// A row that was not stored, though others were, waits up to this long at first, then twice as long each time, …
const ROW_BASE: Duration = Duration::from_secs(1);
/// … up to this.
const ROW_CAP: Duration = Duration::from_secs(5 * 60);
/// A row that was refused waits up to this long at first, then twice as long each time, …
const PARK_BASE: Duration = Duration::from_secs(60);
/// … up to this. It needs a new firmware or schema, or the owner, so there is no hurry.
const PARK_CAP: Duration = Duration::from_secs(60 * 60);

/// A refused row is looked at this often, if anything changed: it may have been put right, and then it is sent at once.
const LOOK: Duration = Duration::from_secs(60);
/// So many of them at a time.
const LOOKED_AT: usize = 16;

/// How the engine works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The thing's name: a write of this name is our own.
    pub thing: String,
    /// Id of the database file.
    pub site: String,
    /// Requests on the way at a time, at least 1.
    pub window: usize,
    /// Rows of journals that one request can have, at least 1; it has one of other models.
    pub batch: usize,
    /// The models that are journals.
    pub journals: HashSet<String>,
    /// How long an answer waits for others while there are requests on the way, so that one write into the database settles
    /// them all. So many rows as are on the way are then read ahead.
    pub gather: Duration,
    /// How long a change waits for a later one of the same row.
    pub delay: Duration,
    /// Who wins conflicts, by model; the device where nothing is said.
    pub policies: HashMap<String, Policy>,
}

/// What to do next.
#[derive(Clone, Debug)]
pub enum Action {
    /// Read the oldest rows of the change log and hand them to [`Engine::pending`].
    Read {
        /// At most so many.
        limit: usize,
        /// Not these (model, key).
        exclude: HashSet<(String, String)>,
    },
    /// Send these rows with one request and hand each one's answer to [`Engine::answered`]. There are several only of journals: new
    /// rows that nobody else writes, which need no condition.
    Push(Vec<Push>),
    /// Write this into the database in one transaction, then call [`Engine::settled`].
    Settle(Vec<Settlement>),
}

type Key = (String, String);

/// A row that must not be read, or that the engine remembers something about.
#[derive(Default)]
struct Row {
    stage: Stage,
    /// How often in turn the cloud was not reached with it, …
    failures: u32,
    /// … or said what is in its way there, …
    detours: u32,
    /// … or refused it as it is.
    refusals: u32,
    /// What the next push will find, if the row's base does not say it.
    next: Option<Over>,
    /// The change that was refused, and why.
    refused: Option<(u64, String)>,
    /// What was sent and not heard of again, where the model is merged: one of these may be in the cloud.
    unknown: Vec<Arc<Pending>>,
}

impl Row {
    /// Whether the engine knows something about it that is not in the change log.
    fn is_known(&self) -> bool {
        self.failures + self.detours + self.refusals > 0
    }

    fn is_parked(&self) -> bool {
        self.refused.is_some() && matches!(self.stage, Stage::Waiting(_))
    }
}

#[derive(Default)]
enum Stage {
    /// May be read.
    #[default]
    Free,
    /// Read, and not settled.
    Busy,
    /// Not to be read before this.
    Waiting(Instant),
}

/// The replication engine.
pub struct Engine {
    pub(super) rules: Rules,
    gather: Duration,
    delay: Duration,
    pace: Pace,
    random: fastrand::Rng,
    rows: HashMap<Key, Row>,
    /// Rows that were read and not sent yet.
    ready: VecDeque<Pending>,
    sent: HashMap<u64, Push>,
    /// Requests on the way, with how many of their rows are not answered.
    requests: HashMap<u64, usize>,
    batch: usize,
    journals: HashSet<String>,
    next_id: u64,
    next_request: u64,
    /// Nothing is sent or read, whatever waits.
    is_held: bool,
    judged: Vec<Settlement>,
    /// When the first of these came.
    judged_at: Option<Instant>,
    settling: Vec<Key>,
    is_reading: bool,
    /// The change log may hold rows that were not read.
    unread: bool,
    /// No reading before this, so that later changes of the same rows come along.
    read_after: Option<Instant>,
    /// Something changed since the last look at the refused rows, …
    changed: bool,
    /// … and not before this is the next one.
    look_after: Option<Instant>,
    /// Refused rows that the read on its way may bring.
    looked_at: HashSet<Key>,
    pushed: u64,
    last_success: Option<Instant>,
    error: Option<String>,
}

impl Engine {
    /// An engine that begins with whatever the change log holds. `seed` makes its waits random.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let rules = Rules {
            thing: settings.thing,
            site: settings.site,
            policies: settings.policies,
            #[cfg(test)]
            mutant: None,
        };
        Self {
            rules,
            gather: settings.gather,
            delay: settings.delay,
            pace: Pace::new(settings.window),
            random: fastrand::Rng::with_seed(seed),
            rows: HashMap::new(),
            ready: VecDeque::new(),
            sent: HashMap::new(),
            requests: HashMap::new(),
            batch: if settings.journals.is_empty() { 1 } else { settings.batch.max(1) },
            journals: settings.journals,
            next_id: 0,
            next_request: 0,
            is_held: false,
            judged: Vec::new(),
            judged_at: None,
            settling: Vec::new(),
            is_reading: false,
            unread: true,
            read_after: None,
            changed: false,
            look_after: None,
            looked_at: HashSet::new(),
            pushed: 0,
            last_success: None,
            error: None,
        }
    }

    /// Begins anew: what was on its way is forgotten, what is known about refused rows and the past is kept.
    pub fn restart(&mut self) {
        self.rows.retain(|_, row| matches!(row.stage, Stage::Waiting(_)));
        self.ready.clear();
        self.sent.clear();
        self.requests.clear();
        self.judged.clear();
        self.judged_at = None;
        self.settling.clear();
        self.is_reading = false;
        self.unread = true;
        // A look at the refused rows may have been on its way.
        self.changed = true;
    }

    /// Something was recorded in the change log.
    pub fn recorded(&mut self, now: Instant) {
        if !self.unread && !self.delay.is_zero() {
            self.read_after = Some(now + self.delay);
        }
        self.unread = true;
        self.changed = true;
    }

    /// The rows that an [`Action::Read`] asked for, oldest change first.
    pub fn pending(&mut self, rows: Vec<Pending>) {
        self.is_reading = false;
        // Only an empty answer says that nothing is left but what was excluded: large rows come in small numbers.
        self.unread |= !rows.is_empty();
        let is_read = |(model, key): &Key| rows.iter().any(|row| row.model == *model && row.key == *key);
        // Older rows may have taken the place of those that were looked at.
        self.changed |= !rows.is_empty() && !std::mem::take(&mut self.looked_at).iter().all(is_read);
        if !rows.is_empty() {
            // There is a backlog: what was recorded meanwhile does not hold it up.
            self.read_after = None;
        }
        for row in rows {
            let known = self.rows.entry((row.model.clone(), row.key.clone())).or_default();
            match (&known.stage, &known.refused) {
                (Stage::Waiting(_), Some((n, _))) if *n == row.n => {}
                (Stage::Waiting(_), Some(_)) => {
                    let unknown = std::mem::take(&mut known.unknown);
                    *known = Row { stage: Stage::Busy, next: known.next, unknown, ..Row::default() };
                }
                _ => known.stage = Stage::Busy,
            }
            if matches!(known.stage, Stage::Busy) {
                self.ready.push_back(row);
            }
        }
    }

    /// What the cloud said about the push `id`. One that is not known (any more) changes nothing.
    pub fn answered(&mut self, id: u64, answer: Answer, now: Instant) {
        let Some(push) = self.sent.remove(&id) else { return };
        let request = push.request;
        if let Some(left) = self.requests.get_mut(&request) {
            *left -= 1;
            if *left == 0 {
                self.requests.remove(&request);
            }
        }
        match answer {
            Answer::Stored => {
                self.pace.stored(request);
                let verdict = self.rules.stored(&push);
                self.judge(push, verdict, now);
            }
            Answer::Differs(current) => {
                self.pace.reached();
                let verdict = self.rules.differs(&push, current.map(|current| *current));
                self.judge(push, verdict, now);
            }
            Answer::Refused(reason) => {
                self.pace.reached();
                self.park(&push, reason, now);
            }
            Answer::Alone(reason) => {
                self.pace.reached();
                let row = self.rows.entry((push.row.model.clone(), push.row.key.clone())).or_default();
                row.detours += 1;
                row.stage = Stage::Free;
                self.unread = true;
                self.error = Some(reason);
            }
            Answer::Throttled(reason) => {
                self.pace.throttled(request, self.next_request, now, &mut self.random);
                self.put_off(&push, reason, now);
            }
            Answer::Failed(reason) => {
                #[cfg(test)]
                if self.rules.mutant == Some(super::simulation::Mutant::Guess) {
                    let verdict = self.rules.stored(&push);
                    return self.judge(push, verdict, now);
                }
                if self.rules.policy(&push.row.model) == Policy::Merge {
                    let row = self.rows.entry((push.row.model.clone(), push.row.key.clone())).or_default();
                    row.unknown.retain(|sent| sent.n != push.row.n);
                    row.unknown.truncate(UNKNOWN - 1);
                    row.unknown.insert(0, Arc::clone(&push.row));
                }
                self.pace.failed(request, self.next_request, now, &mut self.random);
                self.put_off(&push, reason, now);
            }
        }
    }

    /// The last [`Action::Settle`] is durable.
    pub fn settled(&mut self, now: Instant) {
        let may_wait = !self.delay.is_zero() && self.waiting() < WAITING / 2;
        for key in std::mem::take(&mut self.settling) {
            let Some(row) = self.rows.get_mut(&key) else { continue };
            match row.detours {
                0 if !may_wait => drop(self.rows.remove(&key)),
                // Once sent, a row that changes all the time waits for its next changes.
                0 => row.stage = Stage::Waiting(now + self.delay),
                1..=AT_ONCE => row.stage = Stage::Free,
                many => row.stage = Stage::Waiting(now + jitter(ROW_BASE, ROW_CAP, many - AT_ONCE, &mut self.random)),
            }
        }
        // A row may have changed on its way, and was not read then.
        self.unread = true;
    }

    /// There is reason to believe that the cloud is back: what waits for that is tried now.
    pub fn try_now(&mut self) {
        self.pace.try_now(self.requests.len());
        for row in self.rows.values_mut() {
            if matches!(row.stage, Stage::Waiting(_)) && row.refused.is_none() {
                row.stage = Stage::Free;
                self.unread = true;
            }
        }
    }

    /// Whether nothing is sent or read any more; what was sent is settled all the same.
    pub fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// The next thing to do, until `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        self.release(now);
        if self.settles_at().is_some_and(|at| at <= now) {
            self.judged_at = None;
            let settlements = std::mem::take(&mut self.judged);
            self.settling = settlements.iter().map(|settled| (settled.model.clone(), settled.key.clone())).collect();
            return Some(Action::Settle(settlements));
        }
        if self.is_held || self.pace.is_paused(now) {
            self.give_back();
            return None;
        }
        if self.requests.len() < self.pace.window() {
            if let Some(row) = self.ready.pop_front() {
                return Some(Action::Push(self.load(row)));
            }
        }
        if self.can_read() && self.read_after.is_none_or(|after| after <= now) {
            let mut exclude = self.busy();
            let limit = self.room() + self.look(&mut exclude, now);
            self.unread = false;
            self.is_reading = true;
            self.read_after = None;
            return Some(Action::Read { limit, exclude });
        }
        None
    }

    /// When to call [`poll`](Self::poll) again although nothing happened.
    pub fn deadline(&self) -> Option<Instant> {
        let waiting = self.rows.values().filter_map(|row| match row.stage {
            Stage::Waiting(until) => Some(until),
            Stage::Free | Stage::Busy => None,
        });
        let may_read = !self.is_held && self.can_read();
        let reading = may_read.then(|| self.pace.paused_until().max(self.read_after)).flatten();
        let settles = self.settles_at();
        let look = if self.changed && !self.unread && self.has_parked() { self.look_after } else { None };
        waiting.chain(reading).chain(settles).chain(look).min()
    }

    /// The cloud decided: what that means waits for the next settlement.
    fn judge(&mut self, push: Push, mut verdict: super::answer::Verdict, now: Instant) {
        let row = self.rows.entry((push.row.model.clone(), push.row.key.clone())).or_default();
        row.refused = None;
        row.next = verdict.next;
        if let Outcome::Merge { counter, .. } = verdict.settlement.outcome {
            let theirs = row.unknown.iter().find(|sent| sent.n == counter);
            verdict.settlement.known = theirs.and_then(|sent| sent.item.clone());
        }
        row.unknown.clear();
        if verdict.is_final() {
            (row.failures, row.detours, row.refusals) = (0, 0, 0);
            self.pushed += 1;
            self.last_success = Some(now);
            self.error = None;
        } else {
            // However often the cloud was not reached before: it is now.
            (row.failures, row.refusals) = (0, 0);
            row.detours += 1;
        }
        self.judged.push(verdict.settlement);
        self.judged_at.get_or_insert(now);
    }

    /// When what was answered is to be settled: soon, and at once where nothing more is on the way or much was answered.
    fn settles_at(&self) -> Option<Instant> {
        let judged_at = self.judged_at.filter(|_| self.settling.is_empty() && !self.judged.is_empty())?;
        let is_much = self.judged.len() * 2 >= self.pace.window() * self.batch;
        let wait = if self.sent.is_empty() || is_much { Duration::ZERO } else { self.gather };
        Some(judged_at + wait)
    }

    /// The row cannot be stored as it is.
    fn park(&mut self, push: &Push, reason: String, now: Instant) {
        let row = self.rows.entry((push.row.model.clone(), push.row.key.clone())).or_default();
        row.failures = 0;
        row.refusals += 1;
        row.stage = Stage::Waiting(now + jitter(PARK_BASE, PARK_CAP, row.refusals, &mut self.random));
        #[cfg(test)]
        if self.rules.mutant == Some(super::simulation::Mutant::HeadOfLine) {
            row.stage = Stage::Free;
            self.unread = true;
            self.pace.failed(push.request, self.next_request, now, &mut self.random);
        }
        row.refused = Some((push.row.n, reason.clone()));
        // It may have been put right while it was on its way.
        self.changed = true;
        self.error = Some(format!("{} {}: {reason}", push.row.model, push.row.key));
    }

    /// The row was not stored, for a reason that may pass. Other rows get their turn first, for it may still be the
    /// row.
    fn put_off(&mut self, push: &Push, reason: String, now: Instant) {
        let row = self.rows.entry((push.row.model.clone(), push.row.key.clone())).or_default();
        row.failures += 1;
        row.stage = Stage::Waiting(now + jitter(ROW_BASE, ROW_CAP, row.failures, &mut self.random));
        self.error = Some(reason);
        self.give_back();
    }

    /// What was read and not sent is read again later, as it is then.
    fn give_back(&mut self) {
        for row in self.ready.drain(..) {
            if let Some(row) = self.rows.get_mut(&(row.model, row.key)) {
                row.stage = Stage::Free;
            }
            self.unread = true;
        }
    }

    /// Lets rows go whose wait is over.
    fn release(&mut self, now: Instant) {
        let mut released = false;
        for row in self.rows.values_mut() {
            if matches!(row.stage, Stage::Waiting(until) if until <= now) {
                row.stage = Stage::Free;
                released = true;
            }
        }
        let look = self.changed && self.look_after.is_none_or(|after| after <= now) && self.has_parked();
        self.unread |= released || look;
        if released {
            let many = self.rows.len() > 2 * WAITING;
            self.rows.retain(|_, row| !matches!(row.stage, Stage::Free) || row.is_known() && !many);
        }
    }

    fn can_read(&self) -> bool {
        // Journals are read in large parts: what is on its way is passed over each time.
        let least = if self.batch > 1 { (self.pace.window() * self.batch / 2).max(1) } else { 1 };
        self.unread && !self.is_reading && self.room() >= least && self.waiting() < WAITING
    }

    /// Lets some refused rows be read if it is time to. Returns how many.
    fn look(&mut self, exclude: &mut HashSet<Key>, now: Instant) -> usize {
        if !self.changed || self.look_after.is_some_and(|after| now < after) {
            return 0;
        }
        self.changed = false;
        self.look_after = Some(now + LOOK);
        let parked = self.rows.iter().filter(|(_, row)| row.is_parked()).take(LOOKED_AT);
        self.looked_at = parked.filter_map(|(key, _)| exclude.take(key)).collect();
        self.looked_at.len()
    }

    fn has_parked(&self) -> bool {
        self.rows.values().any(Row::is_parked)
    }

    fn waiting(&self) -> usize {
        self.rows.values().filter(|row| matches!(row.stage, Stage::Waiting(_))).count()
    }

    /// How many more rows may be on the way, from the reading to the settlement.
    fn room(&self) -> usize {
        let busy = self.ready.len() + self.sent.len() + self.judged.len() + self.settling.len();
        let ahead = if self.gather.is_zero() { 1 } else { 2 };
        (self.pace.window() * self.batch * ahead).saturating_sub(busy)
    }

    fn busy(&self) -> HashSet<Key> {
        #[cfg(test)]
        if self.rules.mutant == Some(super::simulation::Mutant::Twice) {
            return HashSet::new();
        }
        let busy = self.rows.iter().filter(|(_, row)| !matches!(row.stage, Stage::Free));
        busy.map(|(key, _)| key.clone()).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
