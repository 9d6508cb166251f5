//! How the replication does, for `ioto status` and whoever asks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use smol::channel::Sender;

use super::engine::{Engine, Parked};
use super::hint::Hint;
use super::pull::Puller;
use crate::config::UNLIMITED;
use crate::db::changelog::Backlog;
use crate::db::inbound::Usage;
use crate::net;

/// Sees how a [`Replicator`](super::Replicator) does, from any thread, without waiting. Clones see the same.
#[derive(Clone)]
pub struct State {
    shared: Shared,
    hints: Sender<()>,
}

/// What a replicator and those who ask about it share.
#[derive(Clone)]
pub(super) struct Shared {
    pub engine: Arc<Mutex<Engine>>,
    pub puller: Arc<Mutex<Puller>>,
    pub backlog: Arc<Mutex<Backlog>>,
    pub usage: Arc<Mutex<Usage>>,
    /// `sync.budget`
    pub budget: u64,
}

/// How the replication does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Rows that the cloud does not have yet, or not as they are; as counted a second ago, or longer where they are very many.
    pub backlog: u64,
    /// How long the oldest of their changes has been waiting, by the device's clock.
    pub oldest: Option<Duration>,
    /// When the cloud took a change for the last time since the start, in milliseconds of UTC.
    pub last_success: Option<i64>,
    /// Changes that the cloud took since the start.
    pub pushed: u64,
    /// Rows that changed because the cloud did, since the start.
    pub pulled: u64,
    /// When the cloud was last read up to its end, in milliseconds of UTC.
    pub last_pull: Option<i64>,
    /// Requests that wait for their answer.
    pub sent: usize,
    /// Conflicts in the log.
    pub conflicts: u64,
    /// Whether the cloud is out of reach.
    pub down: bool,
    /// The last thing that went wrong; nothing once the cloud has taken a change after it.
    pub error: Option<String>,
    /// Rows that the cloud refuses.
    pub parked: usize,
    /// Some of them, and why.
    pub examples: Vec<Parked>,
    /// Bytes that were sent and received in the 24 hours that count for `sync.budget`, …
    pub traffic: u64,
    /// … which is this, if there is a bound, …
    pub budget: Option<u64>,
    /// … and spent: nothing is sent or read until they are over.
    pub held: bool,
}

impl State {
    pub(super) fn new(shared: Shared, hints: Sender<()>) -> Self {
        Self { shared, hints }
    }

    /// Takes a hint that something is new in the cloud: it is asked at once, or half a second after it was asked last. However
    /// many hints come, they are one question.
    pub fn hint(&self, hint: &Hint) {
        lock(&self.shared.puller).hint(hint, Instant::now());
        self.wake();
    }

    /// Says that the device is connected again: the cloud is asked for what was hinted at meanwhile, and again 5 s later, and
    /// what waits because the cloud was out of reach is tried now.
    pub fn connected(&self) {
        let now = Instant::now();
        lock(&self.shared.puller).connected(now);
        lock(&self.shared.engine).try_now();
        self.wake();
    }

    /// Says that the network may have come up: where the cloud was out of reach, what waits for it is tried now.
    pub fn network_came_up(&self) {
        if lock(&self.shared.engine).report().down || lock(&self.shared.puller).is_failing() {
            self.connected();
        }
    }

    fn wake(&self) {
        // One that is not taken yet says the same.
        let _ = self.hints.try_send(());
    }

    /// How it does at this moment.
    pub fn status(&self) -> Status {
        let backlog = *lock(&self.shared.backlog);
        let (traffic, budget) =
            (lock(&self.shared.usage).bytes, Some(self.shared.budget).filter(|budget| *budget < UNLIMITED));
        let report = lock(&self.shared.engine).report();
        let (pulled, last_pull, pull_error) = {
            let puller = lock(&self.shared.puller);
            (puller.pulled(), puller.last_success(), puller.error().map(str::to_owned))
        };
        let now = net::utc_ms();
        let since = |recorded: i64| Duration::from_millis(u64::try_from(now - recorded).unwrap_or(0));
        let at = |then: Instant| now.saturating_sub_unsigned(u64::try_from(then.elapsed().as_millis()).unwrap_or(0));
        Status {
            backlog: backlog.rows,
            oldest: backlog.oldest.map(since),
            last_success: report.last_success.map(at),
            pushed: report.pushed,
            pulled,
            last_pull: last_pull.map(at),
            sent: report.sent,
            conflicts: backlog.conflicts,
            down: report.down,
            error: report.error.or(pull_error),
            parked: report.parked,
            examples: report.examples,
            traffic,
            budget,
            held: budget.is_some_and(|budget| traffic >= budget),
        }
    }

    /// The same as JSON, times as ISO 8601 and durations in seconds.
    pub fn figures(&self) -> Map<String, Value> {
        let status = self.status();
        let parked = status
            .examples
            .iter()
            .map(|row| json!({"model": row.model, "key": row.key, "reason": row.reason, "tries": row.tries}));
        let figures = json!({
            "backlog": status.backlog,
            "oldest": status.oldest.map(|age| age.as_secs()),
            "lastSuccess": status.last_success.map(net::iso8601),
            "pushed": status.pushed,
            "pulled": status.pulled,
            "lastPull": status.last_pull.map(net::iso8601),
            "sent": status.sent,
            "conflicts": status.conflicts,
            "down": status.down,
            "lastError": status.error,
            "parked": status.parked,
            "examples": parked.collect::<Vec<_>>(),
            "traffic": status.traffic,
            "budget": status.budget,
            "held": status.held,
        });
        figures.as_object().cloned().unwrap_or_default()
    }
}

/// What is locked here is sound after every call, so a panic elsewhere does not spoil it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
