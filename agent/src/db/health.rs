//! How the database file is, shared by its reader, its writer and those who hold it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::{Map, Value, json};

use super::error::Error;
use crate::net;

/// A recovery of a damaged database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// When, milliseconds of UTC.
    pub at: i64,
    /// What was wrong.
    pub reason: String,
    /// Where the damaged file is now; `None`: it was mended in its place.
    pub aside: Option<PathBuf>,
    /// Rows that were put into the new file.
    pub rows: u64,
}

/// How the database file is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Recoveries since the database was opened, with that at its opening.
    pub recoveries: u64,
    /// The last of them.
    pub last: Option<Recovery>,
    /// Why nothing is written now: the file is damaged, and was recovered too often already.
    pub refused: Option<String>,
    /// Why fields that are encrypted cannot be opened, though there may be some: the key is missing, or another one.
    pub sealed: Option<String>,
    /// Whether writes are refused because the file has reached its bound.
    pub is_full: bool,
    /// Models that the file has rows of and the schema does not know; they are kept as they are.
    pub unknown: Vec<String>,
}

impl Health {
    /// As JSON; what is as it should be is left out.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut all = Map::new();
        if self.recoveries > 0 {
            all.insert("recoveries".into(), self.recoveries.into());
        }
        if let Some(last) = &self.last {
            let recovery = json!({
                "at": net::iso8601(last.at), "reason": last.reason, "rows": last.rows,
                "aside": last.aside.as_ref().map(|path| path.display().to_string()),
            });
            all.insert("recovery".into(), recovery);
        }
        if let Some(refused) = &self.refused {
            all.insert("damaged".into(), refused.as_str().into());
        }
        if let Some(sealed) = &self.sealed {
            all.insert("sealed".into(), sealed.as_str().into());
        }
        if self.is_full {
            all.insert("full".into(), true.into());
        }
        if !self.unknown.is_empty() {
            all.insert("unknownModels".into(), self.unknown.clone().into());
        }
        all
    }
}

/// What is known of the file by all who use it.
#[derive(Default)]
pub(super) struct Monitor {
    generation: AtomicU64,
    is_suspect: AtomicBool,
    state: Mutex<State>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Held by those who open the file for themselves: it is not renamed under them. SQLite would delete the log of the
    /// new file when it closes the old one.
    pub(super) outside: Mutex<()>,
}

#[derive(Default)]
struct State {
    health: Health,
    reason: String,
    site: String,
    changes: Option<smol::channel::Receiver<()>>,
}

impl Monitor {
    /// Who is told when the file is found to be damaged.
    pub(super) fn wakes(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Notes damage; the first of it is the reason for what is done then.
    pub(super) fn suspect(&self, error: &Error) {
        if !self.is_suspect.swap(true, Ordering::AcqRel) {
            self.lock().reason = error.to_string();
            self.wake.get().into_iter().for_each(|wake| wake());
        }
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.is_suspect.load(Ordering::Acquire)
    }

    /// What was wrong; the file is not suspected any more.
    pub(super) fn clear(&self) -> String {
        self.is_suspect.store(false, Ordering::Release);
        std::mem::take(&mut self.lock().reason)
    }

    /// The file is another one, or the same with something gone: what was read of it before says nothing any more.
    pub(super) fn begin(&self, site: &str, changes: smol::channel::Receiver<()>, unknown: Vec<String>) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        let mut state = self.lock();
        state.site = site.into();
        state.changes = Some(changes);
        state.health.unknown = unknown;
        state.health.is_full = false;
    }

    /// Counts what [`begin`](Self::begin) began.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn recovered(&self, recovery: Recovery) {
        let health = &mut self.lock().health;
        health.recoveries += 1;
        health.last = Some(recovery);
    }

    pub(super) fn refuse(&self, reason: Option<String>) {
        self.lock().health.refused = reason;
    }

    pub(super) fn filled(&self, is_full: bool) {
        self.lock().health.is_full = is_full;
    }

    pub(super) fn health(&self) -> Health {
        self.lock().health.clone()
    }

    pub(super) fn site(&self) -> String {
        self.lock().site.clone()
    }

    pub(super) fn changes(&self) -> smol::channel::Receiver<()> {
        let ended = || smol::channel::bounded(1).1;
        self.lock().changes.clone().unwrap_or_else(ended)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
