//! What the forwarding tells of itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};

use super::spool::Usage;
use crate::net;

/// Figures since the start of the service. Clones share the same.
#[derive(Clone, Debug, Default)]
pub struct Figures(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
pub(super) struct Inner {
    /// Records that came from the sources.
    pub read: u64,
    /// Records that the sink has.
    pub sent: u64,
    /// Of these, sent again after the connection broke.
    pub again: u64,
    /// Records that had no room.
    pub dropped: u64,
    /// What is in the spool, with what the sink has and might want again.
    pub usage: Usage,
    /// Records in the spool that the sink does not have.
    pub waiting: u64,
    /// When the oldest of them was written, microseconds since 1970.
    pub oldest: Option<i64>,
    /// What is wrong with the sink.
    pub sink: Option<String>,
    /// What is wrong with sources, by name.
    pub sources: Vec<(String, String)>,
    /// The spool takes nothing more.
    pub full: bool,
}

impl Figures {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As the status shows them.
    pub fn to_json(&self) -> Map<String, Value> {
        let inner = self.lock();
        let age = inner.oldest.filter(|_| inner.waiting > 0).map(|at| (net::utc_ms() - at / 1000).max(0) / 1000);
        let failing = inner.sources.iter().map(|(name, error)| json!(format!("{name}: {error}"))).collect::<Vec<_>>();
        let all = json!({
            "sink": inner.sink.as_deref().unwrap_or("ok"),
            "read": inner.read,
            "sent": inner.sent,
            "sentAgain": inner.again,
            "dropped": inner.dropped,
            "waiting": inner.waiting,
            "oldestWaiting": age,
            "spooled": inner.usage.records,
            "spooledBytes": inner.usage.bytes,
            "full": inner.full,
            "failingSources": failing,
        });
        all.as_object().cloned().unwrap_or_default()
    }
}
