//! Keeps the sessions in memory, and in a store where there is one.
//!
//! Requests look at the memory alone. The store is read before the first of them, and again from time to time as long as that
//! fails: a store that is broken or not up yet costs the sessions of before, and never the server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::authority::locked;
use super::session_store::SessionStore;
use super::sessions::{Key, Sessions};
use crate::config::Sessions as Settings;

/// After a failure the store is left alone for so long, if nobody waits for it.
const PAUSE: Duration = Duration::from_secs(2);

/// The sessions of a server.
pub struct Keeper {
    sessions: Mutex<Sessions>,
    store: Option<Arc<dyn SessionStore>>,
    is_loaded: AtomicBool,
    /// One at a time speaks to the store, so that what is written later is newer. Holds when it failed last.
    turn: smol::lock::Mutex<Option<Instant>>,
}

impl Keeper {
    pub fn new(settings: Settings, store: Option<Arc<dyn SessionStore>>) -> Self {
        let sessions = Mutex::new(Sessions::new(settings, store.is_some()));
        let is_loaded = AtomicBool::new(store.is_none());
        Self { sessions, store, is_loaded, turn: smol::lock::Mutex::default() }
    }

    /// All sessions. Not to be held while anything waits.
    pub fn sessions(&self) -> MutexGuard<'_, Sessions> {
        locked(&self.sessions)
    }

    /// Reads what the store has, once.
    pub async fn load(&self) {
        if self.is_loaded.load(Ordering::Acquire) {
            return;
        }
        let Some(store) = &self.store else { return };
        let mut failed = self.turn.lock().await;
        let rests = failed.is_some_and(|at| at.elapsed() < PAUSE);
        if rests || self.is_loaded.load(Ordering::Acquire) {
            return;
        }
        match store.load().await {
            Ok(kept) => {
                self.sessions().restore(kept, Instant::now());
                self.is_loaded.store(true, Ordering::Release);
                *failed = None;
            }
            Err(error) => {
                log::warn!("the sessions of before cannot be read, it is tried again: {error}");
                *failed = Some(Instant::now());
            }
        }
    }

    /// Has the store keep what changed, also what could wait.
    ///
    /// # Errors
    /// Why it could not. It is tried again with the next change.
    pub async fn save(&self) -> Result<(), String> {
        self.write(true).await
    }

    /// Has the store keep a session that was used for long since that was done last.
    pub async fn touch(&self, key: &Key) {
        if self.store.is_some() && self.sessions().is_due(key, Instant::now()) {
            let _ = self.write(false).await;
        }
    }

    async fn write(&self, all: bool) -> Result<(), String> {
        let Some(store) = &self.store else { return Ok(()) };
        let mut failed = self.turn.lock().await;
        if !all && failed.is_some_and(|at| at.elapsed() < PAUSE) {
            return Ok(());
        }
        let changes = self.sessions().changes(Instant::now(), all);
        if changes.kept.is_empty() && changes.removed.is_empty() {
            return Ok(());
        }
        let kept = changes.kept.iter().map(|(key, text)| (key.to_vec(), text.clone())).collect();
        let removed = changes.removed.iter().map(|key| key.to_vec()).collect();
        match store.write(kept, removed).await {
            Ok(()) => {
                self.sessions().are_kept(&changes);
                *failed = None;
                Ok(())
            }
            Err(error) => {
                log::warn!("sessions cannot be kept, a restart would lose them: {error}");
                *failed = Some(Instant::now());
                Err(error)
            }
        }
    }
}
