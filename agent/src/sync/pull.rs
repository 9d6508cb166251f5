//! Reading from the cloud: which question to ask it next, and when. No I/O: pages and time in, actions out.
//!
//! Cloud writers put the thing's name and their time into the keys of an index (see [`item`](super::item)), and the device
//! takes these away when it writes: so the index has what others changed, and nothing of our own. Its changes are read from a
//! watermark on, again with an overlap: the index is behind the table, not by the same for all. Now and then, and at first, a
//! model is read as a whole from the table itself, which finds what no index has: what was deleted for good.
//!
//! What is on its way is forgotten without harm: what was applied is kept with the watermark, in one transaction.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::hint::Hint;
use super::news::{AGAIN, News};
use super::pace::jitter;
use crate::db::inbound::{Batch, Incoming, Progress, Range};
use crate::net;

/// After a failure it waits up to this long at first, then twice as long each time, …
const BASE: Duration = Duration::from_secs(1);
/// … up to this.
const CAP: Duration = Duration::from_secs(5 * 60);

/// How the puller works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The models that come from the cloud.
    pub models: Vec<String>,
    /// Whether there is an index of changes; without one, every round reads the models as a whole.
    pub has_index: bool,
    /// How often to ask when nothing says that there is news.
    pub every: Duration,
    /// How far before the watermark the changes are read again: longer than an index is ever behind, and than the clocks of
    /// cloud writers differ.
    pub overlap: Duration,
    /// How often a model is read as a whole.
    pub whole_every: Duration,
}

/// A question to the cloud.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Names this question; the page comes back under it.
    pub id: u64,
    /// What is asked for.
    pub scope: Scope,
    /// Where the page before this ended.
    pub start: Option<Value>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The newest entry of the index alone.
    Newest,
    /// The entries of the index from this time on, oldest first; all when there is none.
    Changes(Option<String>),
    /// The items of a model in the order of their keys, as they are at this moment.
    Model(String),
}

/// A page of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// What was read.
    pub items: Vec<Incoming>,
    /// The latest time of the page's entries, where they come from the index.
    pub latest: Option<String>,
    /// Where the next page begins; nothing after the last one.
    pub next: Option<Value>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ask, and hand the page to [`Puller::read`]. Before a question for a model call
    /// [`Db::watch_range`](crate::db::Db::watch_range).
    Query(Query),
    /// Apply this in one transaction, then call [`Puller::applied`].
    Apply(Batch),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Rest,
    Newest,
    Model { after: Option<String> },
    Changes,
}

/// A page that is being applied, and up to where the changes are known with it.
struct Applying {
    page: Page,
    watermark: Option<String>,
}

/// Decides what to read.
pub struct Puller {
    settings: Settings,
    random: fastrand::Rng,
    step: Step,
    /// Where the next page begins.
    start: Option<Value>,
    /// Models to be read as a whole, …
    whole: VecDeque<String>,
    /// … because it is time to.
    is_planned: bool,
    watermark: Option<String>,
    /// The latest time that was read.
    newest: Option<String>,
    /// When the first question for the changes of this round went out.
    begun: Option<Instant>,
    /// The question that is on its way, or whose page is being applied.
    asked: Option<u64>,
    /// What is applied: whether it ends the step, and where the next one begins.
    applying: Option<Applying>,
    ready: Option<Batch>,
    next_id: u64,
    /// What hints said.
    news: News,
    due: Instant,
    /// Nothing is asked, whatever is due.
    is_held: bool,
    /// When the last question went out.
    asked_at: Option<Instant>,
    /// When all models are read as a whole again.
    whole_due: Instant,
    setbacks: u32,
    /// Pages that could not be applied since one was.
    refusals: u32,
    /// Rows that were changed since it was made.
    pulled: u64,
    /// When the last round ended.
    last_success: Option<Instant>,
    error: Option<String>,
    #[cfg(test)]
    pub(super) mutant: Option<super::simulation::Mutant>,
}

impl Puller {
    /// A puller that goes on from `progress`. `now_ms` is the time of day: a clock that is wrong makes it read more, or later.
    pub fn new(settings: Settings, progress: &Progress, now: Instant, now_ms: i64, seed: u64) -> Self {
        let every = i64::try_from(settings.whole_every.as_millis()).unwrap_or(i64::MAX);
        let is_recent = |model: &String| {
            let read = progress.whole.get(model).copied();
            read.is_some_and(|read| read <= now_ms && now_ms - read < every)
        };
        let whole: VecDeque<_> =
            settings.models.iter().filter(|model| !settings.has_index || !is_recent(model)).cloned().collect();
        let whole_due = now + settings.whole_every;
        Self {
            settings,
            random: fastrand::Rng::with_seed(seed),
            step: Step::Rest,
            start: None,
            is_planned: !whole.is_empty(),
            whole,
            watermark: progress.watermark.clone(),
            newest: progress.watermark.clone(),
            begun: None,
            asked: None,
            applying: None,
            ready: None,
            next_id: 0,
            news: News::default(),
            due: now,
            is_held: false,
            asked_at: None,
            whole_due,
            setbacks: 0,
            refusals: 0,
            pulled: 0,
            last_success: None,
            error: None,
            #[cfg(test)]
            mutant: None,
        }
    }

    /// Somebody says that there is something new.
    pub fn hint(&mut self, hint: &Hint, now: Instant) {
        self.news.hint(hint, &self.settings.models);
        self.hasten(now);
    }

    /// The way to the cloud is open again, as far as is known: hints may have been missed, and what was asked on the old way
    /// may never be answered.
    pub fn connected(&mut self, now: Instant) {
        self.news.anything();
        let is_unanswered = self.asked.is_some() && self.ready.is_none() && self.applying.is_none();
        if is_unanswered {
            self.asked = None;
        }
        if is_unanswered || self.setbacks > 0 {
            self.due = now;
        }
        self.hasten(now);
    }

    /// Whether the cloud did not answer when it was asked last.
    pub fn is_failing(&self) -> bool {
        self.setbacks > 0
    }

    /// What was said may be reason to ask sooner than planned; where the cloud does not answer, not much sooner.
    fn hasten(&mut self, now: Instant) {
        if self.setbacks > 0 {
            self.due = self.due.min(self.asked_at.map_or(now, |asked| now.max(asked + AGAIN)));
        } else if self.step == Step::Rest {
            self.due = self.due.min(self.news.due(now).unwrap_or(self.due));
        }
    }

    /// A page, or why there is none.
    pub fn read(&mut self, id: u64, page: Result<Page, String>, now: Instant) {
        if self.asked != Some(id) {
            return;
        }
        match page {
            Ok(page) => {
                self.setbacks = 0;
                if self.refusals == 0 {
                    self.error = None;
                }
                let batch = self.batch(&page, now);
                self.applying = Some(Applying { page, watermark: batch.watermark.clone() });
                self.ready = Some(batch);
            }
            Err(reason) => {
                self.asked = None;
                self.setbacks = self.setbacks.saturating_add(1);
                self.error = Some(reason);
                self.due = now + jitter(BASE, CAP, self.setbacks, &mut self.random);
            }
        }
    }

    /// There was no room for the last [`Action::Apply`]: the page is read again, later and later.
    pub fn refused(&mut self, reason: String, now: Instant) {
        self.asked = None;
        self.applying = None;
        self.refusals = self.refusals.saturating_add(1);
        self.error = Some(reason);
        self.due = now + jitter(BASE, CAP, self.refusals, &mut self.random);
    }

    /// The last [`Action::Apply`] is durable, and changed so many rows.
    pub fn applied(&mut self, rows: u64, now: Instant) {
        let Some(Applying { page, watermark }) = self.applying.take() else { return };
        self.asked = None;
        self.refusals = 0;
        self.error = None;
        self.pulled += rows;
        self.watermark = self.watermark.take().max(watermark);
        self.newest = self.newest.take().max(page.latest);
        let last = page.items.last().map(|item| item.key.clone());
        self.start = page.next;
        let goes_on = self.start.is_some();
        self.step = match (std::mem::replace(&mut self.step, Step::Rest), goes_on) {
            (Step::Newest, _) => {
                self.start = None;
                Step::Model { after: None }
            }
            (Step::Model { after }, true) => Step::Model { after: last.or(after) },
            (Step::Model { .. }, false) => {
                self.whole.pop_front();
                match (self.whole.is_empty(), self.settings.has_index) {
                    (false, _) => Step::Model { after: None },
                    (true, true) => Step::Changes,
                    (true, false) => self.rest(now),
                }
            }
            (Step::Changes, true) => Step::Changes,
            (Step::Changes | Step::Rest, _) => self.rest(now),
        };
    }

    /// Whether nothing is asked any more; what was read is applied all the same.
    pub fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// The next thing to do, until `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        if let Some(batch) = self.ready.take() {
            return Some(Action::Apply(batch));
        }
        if self.is_held || self.asked.is_some() || self.settings.models.is_empty() || now < self.due {
            return None;
        }
        if self.step == Step::Rest {
            self.begin(now);
        }
        self.next_id += 1;
        self.asked = Some(self.next_id);
        self.asked_at = Some(now);
        if self.step == Step::Changes && self.start.is_none() {
            self.begun = Some(now);
        }
        let scope = match &self.step {
            Step::Newest => Scope::Newest,
            Step::Model { .. } => Scope::Model(self.whole.front().cloned().unwrap_or_default()),
            Step::Changes | Step::Rest => Scope::Changes(self.since()),
        };
        Some(Action::Query(Query { id: self.next_id, scope, start: self.start.clone() }))
    }

    /// When to call [`poll`](Self::poll) again although nothing happened.
    pub fn deadline(&self) -> Option<Instant> {
        (!self.is_held && self.asked.is_none() && !self.settings.models.is_empty()).then_some(self.due)
    }

    /// Rows that were changed.
    pub fn pulled(&self) -> u64 {
        self.pulled
    }

    /// When a round ended for the last time.
    pub fn last_success(&self) -> Option<Instant> {
        self.last_success
    }

    /// Why the last question was not answered; nothing once one was.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    fn begin(&mut self, now: Instant) {
        let hinted = self.news.begin(now);
        self.start = None;
        if self.whole.is_empty() && (!self.settings.has_index || now >= self.whole_due) {
            self.whole_due = now + self.settings.whole_every;
            self.whole = self.settings.models.iter().cloned().collect();
            self.is_planned = true;
        } else {
            self.is_planned &= !self.whole.is_empty();
            let unknown = hinted.into_iter().filter(|model| !self.whole.contains(model)).collect::<Vec<_>>();
            self.whole.extend(unknown);
        }
        self.step = match (self.whole.is_empty(), self.settings.has_index && self.watermark.is_none()) {
            (true, _) => Step::Changes,
            // What changes while the models are read is behind this mark.
            (false, true) => Step::Newest,
            (false, false) => Step::Model { after: None },
        };
    }

    fn rest(&mut self, now: Instant) -> Step {
        self.last_success = Some(now);
        // A fleet that was switched on at one time does not ask at one time.
        let wait = self.settings.every.mul_f64(0.75 + self.random.f64() / 2.0);
        // Without an index the models were read themselves, which are not behind.
        let has = |time: &String| !self.settings.has_index || self.newest.as_ref() >= Some(time);
        self.news.ended(has, now);
        self.due = (now + wait).min(self.news.due(now).unwrap_or(now + wait));
        Step::Rest
    }

    /// What a page does to the database.
    fn batch(&self, page: &Page, now: Instant) -> Batch {
        match &self.step {
            Step::Model { after } => {
                let is_whole = page.next.is_none();
                let to = if is_whole { None } else { page.items.last().map(|item| item.key.clone()).or(after.clone()) };
                let model = self.whole.front().cloned().unwrap_or_default();
                // A page without items that is not the last says nothing about any key.
                let range = (is_whole || to.is_some()).then(|| Range { model, after: after.clone(), to });
                let is_planned = self.is_planned;
                Batch { items: page.items.clone(), range, watermark: None, is_whole, is_planned }
            }
            // The newest entry is not applied: it is older ones that count.
            Step::Newest => Batch { watermark: page.latest.clone(), ..Batch::default() },
            Step::Changes | Step::Rest => {
                let mark = page.latest.clone().map(|latest| self.mark(latest, now));
                let watermark = mark.filter(|mark| Some(mark) > self.watermark.as_ref());
                Batch { items: page.items.clone(), watermark, ..Batch::default() }
            }
        }
    }

    /// Up to where the changes are known when a page ends at `latest`. While earlier pages were read, changes from before may have
    /// come into the index behind the reader: the time that those took is read again.
    fn mark(&self, latest: String, now: Instant) -> String {
        let took = match (&self.start, self.begun) {
            (Some(_), Some(begun)) => now.saturating_duration_since(begun),
            _ => Duration::ZERO,
        };
        back(latest, took)
    }

    /// From where on the changes are read.
    fn since(&self) -> Option<String> {
        let watermark = self.watermark.clone()?;
        #[cfg(test)]
        if self.mutant == Some(super::simulation::Mutant::NoOverlap) {
            return Some(watermark);
        }
        Some(back(watermark, self.settings.overlap))
    }
}

/// So long before a time. One that is none stays the text that it is.
fn back(time: String, by: Duration) -> String {
    let by = i64::try_from(by.as_millis()).unwrap_or(0);
    match net::parse_iso8601(&time) {
        Some(ms) if by > 0 => net::iso8601(ms.saturating_sub(by)),
        _ => time,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "pull_tests.rs"]
mod tests;
