//! Watching: a stream of changes, by model and filter.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use serde_json::{Value, json};
use smol::future::FutureExt;

use super::filter::Filter;
use super::query::Item;
use super::schema::Schema;

/// Changes that wait for a watcher, at most. One that is slower loses some and is told so.
const WAITING: usize = 256;

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
    changes: smol::channel::Receiver<Arc<Change>>,
    woken: smol::channel::Receiver<()>,
    watcher: Arc<Watcher>,
}

struct Watcher {
    model: Option<String>,
    filter: Filter,
    lost: AtomicBool,
    sender: smol::channel::Sender<Arc<Change>>,
    wake: smol::channel::Sender<()>,
}

impl Watch {
    /// The next change; `None`: the database was closed.
    pub async fn next(&self) -> Option<Heard> {
        loop {
            // What was lost came after what still waits, so that goes first.
            if self.changes.is_empty() && self.watcher.lost.swap(false, Ordering::Relaxed) {
                return Some(Heard::Lost);
            }
            let change = async { Some(self.changes.recv().await.ok().map(Heard::Change)) };
            let woken = async {
                let _ = self.woken.recv().await;
                None
            };
            if let Some(heard) = change.or(woken).await {
                return heard;
            }
        }
    }
}

/// Those who watch. The changes of a transaction are told when it is safe, and never when it was undone.
#[derive(Clone, Default)]
pub(super) struct Watchers(Arc<Mutex<Vec<Weak<Watcher>>>>);

impl Watchers {
    /// Begins to watch; the filter was checked.
    pub(super) fn add(&self, model: Option<String>, filter: Filter) -> Watch {
        let (sender, changes) = smol::channel::bounded(WAITING);
        let (wake, woken) = smol::channel::bounded(1);
        let watcher = Arc::new(Watcher { model, filter, lost: AtomicBool::new(false), sender, wake });
        if let Ok(mut watchers) = self.0.lock() {
            watchers.retain(|watcher| watcher.strong_count() > 0);
            watchers.push(Arc::downgrade(&watcher));
        }
        Watch { changes, woken, watcher }
    }

    /// Whether somebody watches the model: otherwise nothing needs to be noted.
    pub(super) fn watch(&self, model: &str) -> bool {
        let watchers = self.0.lock();
        let fits = |watcher: &Weak<Watcher>| watcher.upgrade().is_some_and(|watcher| watcher.covers(model));
        watchers.is_ok_and(|watchers| watchers.iter().any(fits))
    }

    pub(super) fn tell(&self, changes: Vec<Change>) {
        let Ok(watchers) = self.0.lock() else { return };
        let watchers: Vec<_> = watchers.iter().filter_map(Weak::upgrade).collect();
        for change in changes.into_iter().map(Arc::new) {
            for watcher in watchers.iter().filter(|watcher| watcher.wants(&change)) {
                if watcher.sender.try_send(change.clone()).is_err() {
                    watcher.lost.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// Rows may be gone of which nobody will be told.
    pub(super) fn lost(&self) {
        let Ok(watchers) = self.0.lock() else { return };
        for watcher in watchers.iter().filter_map(Weak::upgrade) {
            watcher.lost.store(true, Ordering::Relaxed);
            let _ = watcher.wake.try_send(());
        }
    }

    /// The database is closed: all streams end.
    pub(super) fn end(&self) {
        if let Ok(mut watchers) = self.0.lock() {
            watchers.drain(..).filter_map(|watcher| watcher.upgrade()).for_each(|watcher| {
                watcher.sender.close();
            });
        }
    }
}

impl Watcher {
    fn covers(&self, model: &str) -> bool {
        self.model.as_deref().is_none_or(|wanted| wanted == model)
    }

    fn wants(&self, change: &Change) -> bool {
        let fits = |item: &Option<Item>| item.as_ref().is_some_and(|item| self.filter.matches(item));
        self.covers(&change.model) && (fits(&change.before) || fits(&change.after))
    }
}
