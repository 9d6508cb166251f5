//! Watching: a stream of changes, by model and filter.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde_json::{Value, json};
use smol::future::FutureExt;

use super::error::Error;
use super::filter::Filter;
use super::history::{History, Told};
use super::query::Item;
use super::schema::Schema;

/// Changes that wait for a watcher, at most. One that is slower loses some and is told so.
const WAITING: usize = 256;
/// The same in bytes of their items, about.
const WAITING_BYTES: usize = 1 << 20;

/// A change of an item, told after it is safe on the disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The model of the item.
    pub model: String,
    /// The item's key.
    pub key: String,
    /// What the item was; `None`: it is new.
    pub before: Option<Item>,
    /// What it is now; `None`: it was removed.
    pub after: Option<Item>,
}

impl Change {
    /// `created`, `updated` or `removed`.
    pub fn kind(&self) -> &'static str {
        match (&self.before, &self.after) {
            (None, _) => "created",
            (Some(_), Some(_)) => "updated",
            (Some(_), None) => "removed",
        }
    }

    /// As JSON: `{"change", "model", "id", "before", "item"}`. Hidden fields are left out.
    pub fn to_json(&self, schema: &Schema) -> Value {
        let mut json = json!({"change": self.kind(), "model": self.model, "id": self.key});
        for (name, item) in [("before", &self.before), ("item", &self.after)] {
            if let (Some(item), Some(model)) = (item, schema.model(&self.model)) {
                json[name] = model.visible(item.clone()).into();
            }
        }
        json
    }
}

/// What a [`Watch`] hears.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// An item that fits changed: it fitted before, or fits now.
    Change(Arc<Change>),
    /// There were more changes than the watcher could take: some are missing here, find anew.
    Lost,
}

/// A stream of changes. Dropping it ends it.
pub struct Watch {
    /// What was told while this watcher was away.
    missed: Mutex<VecDeque<Told>>,
    changes: smol::channel::Receiver<Told>,
    woken: smol::channel::Receiver<()>,
    watcher: Arc<Watcher>,
    watchers: Watchers,
    /// The number of the last change that was heard, or may have been heard if it fitted.
    at: AtomicU64,
}

struct Watcher {
    model: Option<String>,
    filter: Filter,
    lost: AtomicBool,
    /// The number of the last change that was lost.
    lost_at: AtomicU64,
    /// Bytes that wait.
    waiting: AtomicUsize,
    sender: smol::channel::Sender<Told>,
    wake: smol::channel::Sender<()>,
}

impl Watch {
    /// The next change; `None`: the database was closed.
    pub async fn next(&self) -> Option<Heard> {
        if let Some(told) = self.missed.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
            return Some(self.hear(told));
        }
        loop {
            // What was lost came after what still waits, so that goes first.
            if self.changes.is_empty() && self.watcher.lost.swap(false, Ordering::AcqRel) {
                self.at.fetch_max(self.watcher.lost_at.load(Ordering::Acquire), Ordering::Relaxed);
                return Some(Heard::Lost);
            }
            let change = async { Some(self.changes.recv().await.ok()) };
            let woken = async {
                let _ = self.woken.recv().await;
                None
            };
            if let Some(told) = change.or(woken).await {
                let told = told?;
                self.watcher.waiting.fetch_sub(told.weight, Ordering::Relaxed);
                return Some(self.hear(told));
            }
        }
    }

    /// Up to where changes were heard: who watches again with this, within a minute or so, hears what came after it, or that
    /// some of that is lost.
    pub fn position(&self) -> String {
        self.watchers.lock().history.write(self.at.load(Ordering::Relaxed))
    }

    fn hear(&self, told: Told) -> Heard {
        self.at.fetch_max(told.n, Ordering::Relaxed);
        Heard::Change(told.change)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watchers.lock().history.leave(self.watcher.model.as_deref());
    }
}

/// Those who watch. The changes of a transaction are told when it is safe, and never when it was undone.
#[derive(Clone)]
pub(super) struct Watchers(Arc<Mutex<Audience>>);

struct Audience {
    most: usize,
    watchers: Vec<Weak<Watcher>>,
    history: History,
}

impl Watchers {
    /// So many at a time.
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Audience { most, watchers: Vec::new(), history: History::default() })))
    }

    /// Begins to watch, from where somebody stopped before if that is said; the filter was checked.
    pub(super) fn add(&self, model: Option<String>, filter: Filter, since: Option<&str>) -> Result<Watch, Error> {
        let (sender, changes) = smol::channel::bounded(WAITING);
        let (wake, woken) = smol::channel::bounded(1);
        let mut audience = self.lock();
        audience.watchers.retain(|watcher| watcher.strong_count() > 0);
        if audience.watchers.len() >= audience.most {
            return Err(Error::Watched { most: audience.most });
        }
        let (missed, now) = audience.history.enter(model.as_deref(), since);
        let lost = AtomicBool::new(missed.is_none());
        let (lost_at, waiting) = (AtomicU64::new(now), AtomicUsize::new(0));
        let watcher = Arc::new(Watcher { model, filter, lost, lost_at, waiting, sender, wake });
        audience.watchers.push(Arc::downgrade(&watcher));
        let missed = missed.into_iter().flatten().filter(|told| watcher.wants(&told.change)).collect::<VecDeque<_>>();
        // Until all of it is heard, who comes again has to begin with the first.
        let at = AtomicU64::new(missed.front().map_or(now, |first| first.n - 1));
        Ok(Watch { missed: Mutex::new(missed), changes, woken, watcher, watchers: self.clone(), at })
    }

    /// Whether somebody watches the model, or may come again: otherwise nothing needs to be noted.
    pub(super) fn watch(&self, model: &str) -> bool {
        self.lock().history.notes(model)
    }

    pub(super) fn tell(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let mut audience = self.lock();
        let watchers: Vec<_> = audience.watchers.iter().filter_map(Weak::upgrade).collect();
        for change in changes {
            let told = audience.history.add(change);
            watchers.iter().filter(|watcher| watcher.wants(&told.change)).for_each(|watcher| watcher.tell(&told));
        }
    }

    /// Rows may be gone of which nobody will be told.
    pub(super) fn lost(&self) {
        let mut audience = self.lock();
        let n = audience.history.forget();
        for watcher in audience.watchers.iter().filter_map(Weak::upgrade) {
            watcher.lose(n);
        }
    }

    /// The database is closed: all streams end.
    pub(super) fn end(&self) {
        self.lock().watchers.drain(..).filter_map(|watcher| watcher.upgrade()).for_each(|watcher| {
            watcher.sender.close();
        });
    }

    fn lock(&self) -> MutexGuard<'_, Audience> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    fn wants(&self, change: &Change) -> bool {
        let covers = self.model.as_deref().is_none_or(|wanted| wanted == change.model);
        let fits = |item: &Option<Item>| item.as_ref().is_some_and(|item| self.filter.matches(item));
        covers && (fits(&change.before) || fits(&change.after))
    }

    /// Once some are lost, no more are told until that was heard: who comes again would miss the lost ones.
    fn tell(&self, told: &Told) {
        let has_room = self.sender.is_empty() || self.waiting.load(Ordering::Relaxed) + told.weight <= WAITING_BYTES;
        let is_lost = self.lost.load(Ordering::Acquire);
        self.waiting.fetch_add(told.weight, Ordering::Relaxed);
        if is_lost || !has_room || self.sender.try_send(told.clone()).is_err() {
            self.waiting.fetch_sub(told.weight, Ordering::Relaxed);
            self.lose(told.n);
        }
    }

    fn lose(&self, n: u64) {
        self.lost_at.fetch_max(n, Ordering::AcqRel);
        self.lost.store(true, Ordering::Release);
        let _ = self.wake.try_send(());
    }
}
