//! What was told to those who watch, numbered, and kept for a while for those who come again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::watch::Change;

/// Changes that are kept, at most, …
const CHANGES: usize = 256;
/// … and about so many bytes of them.
const BYTES: usize = 1 << 20;
/// How long changes are kept for a watcher that went away.
const KEPT: Duration = Duration::from_secs(60);

/// A change, its number, and about how many bytes it has.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) n: u64,
    pub(super) weight: usize,
    pub(super) change: Arc<Change>,
}

/// The numbers go on for as long as the database is open; the next time has another name.
pub(super) struct History {
    name: u32,
    /// The number of the last change.
    n: u64,
    /// The number of the last one that is not kept any more.
    gone: u64,
    kept: VecDeque<Told>,
    weight: usize,
    scopes: Vec<Scope>,
}

/// A model (or all) whose changes are noted because somebody watches, or did a moment ago.
struct Scope {
    model: Option<String>,
    /// The number after which all changes were noted.
    since: u64,
    watchers: usize,
    left: Instant,
}

impl Default for History {
    fn default() -> Self {
        let (n, gone, kept, weight, scopes) = (0, 0, VecDeque::new(), 0, Vec::new());
        Self { name: fastrand::u32(..), n, gone, kept, weight, scopes }
    }
}

impl History {
    /// Whether changes of the model are to be noted.
    pub(super) fn notes(&mut self, model: &str) -> bool {
        self.expire(Instant::now());
        self.scopes.iter().any(|scope| scope.model.as_deref().is_none_or(|of| of == model))
    }

    /// Gives a change its number, and keeps it for a while.
    pub(super) fn add(&mut self, change: Change) -> Told {
        let weight = 64
            + [&change.before, &change.after]
                .into_iter()
                .flatten()
                .flat_map(|item| item.iter())
                .map(field)
                .sum::<usize>();
        self.n += 1;
        let told = Told { n: self.n, weight, change: Arc::new(change) };
        self.weight += weight;
        self.kept.push_back(told.clone());
        while self.kept.len() > CHANGES || self.weight > BYTES {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.weight -= oldest.weight;
            self.gone = oldest.n;
        }
        told
    }

    /// Somebody begins to watch. What was told after `since`, if that is all known; and the number of the last change.
    pub(super) fn enter(&mut self, model: Option<&str>, since: Option<&str>) -> (Option<Vec<Told>>, u64) {
        self.expire(Instant::now());
        let scope = match self.scopes.iter().position(|scope| scope.model.as_deref() == model) {
            Some(at) => &mut self.scopes[at],
            None => {
                // Whatever happened until now was not noted: no place that was told before is good for this scope.
                self.n += 1;
                let model = model.map(str::to_owned);
                self.scopes.push(Scope { model, since: self.n, watchers: 0, left: Instant::now() });
                let last = self.scopes.len() - 1;
                &mut self.scopes[last]
            }
        };
        scope.watchers += 1;
        let least = scope.since.max(self.gone);
        let missed = match since {
            None => Some(Vec::new()),
            Some(since) => self
                .read(since)
                .filter(|n| (least..=self.n).contains(n))
                .map(|since| self.kept.iter().filter(|told| told.n > since).cloned().collect()),
        };
        (missed, self.n)
    }

    /// One of those who watched a model went away.
    pub(super) fn leave(&mut self, model: Option<&str>) {
        if let Some(scope) = self.scopes.iter_mut().find(|scope| scope.model.as_deref() == model) {
            scope.watchers = scope.watchers.saturating_sub(1);
            scope.left = Instant::now();
        }
    }

    /// Something changed that nobody knows; its number.
    pub(super) fn forget(&mut self) -> u64 {
        self.n += 1;
        self.gone = self.n;
        self.kept.clear();
        self.weight = 0;
        self.n
    }

    /// A number for those outside.
    pub(super) fn write(&self, n: u64) -> String {
        format!("{:08x}-{n}", self.name)
    }

    fn read(&self, text: &str) -> Option<u64> {
        let (name, n) = text.split_once('-')?;
        (u32::from_str_radix(name, 16).ok()? == self.name).then(|| n.parse().ok()).flatten()
    }

    fn expire(&mut self, now: Instant) {
        self.scopes.retain(|scope| scope.watchers > 0 || now.saturating_duration_since(scope.left) < KEPT);
        if self.scopes.is_empty() && !self.kept.is_empty() {
            self.gone = self.n;
            self.kept.clear();
            self.weight = 0;
        }
    }
}

fn field((name, value): (&String, &Value)) -> usize {
    name.len() + weight(value)
}

/// About how many bytes a value has in memory.
fn weight(value: &Value) -> usize {
    32 + match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(weight).sum(),
        Value::Object(members) => members.iter().map(field).sum(),
        _ => 0,
    }
}
