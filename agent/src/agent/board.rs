//! The board on which every service writes how it is, for `ioto status`, the page and the service manager.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use smol::Timer;

use crate::net;

/// What a service can tell of itself beside its state; asked for each time somebody looks, and answered at once.
type Figures = Box<dyn Fn() -> Map<String, Value> + Send + Sync>;

/// How a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// On its way up.
    Starting,
    /// At work.
    Running,
    /// Failed, to be started again after the pause.
    Failed(String, Duration),
    /// Ended, as asked.
    Stopped,
}

/// All services, in the order of their start. Clones share the same board.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Vec<Entry>>>);

struct Entry {
    name: &'static str,
    state: State,
    since: i64,
    restarts: u32,
    figures: Option<Figures>,
}

impl Board {
    /// A line for a service, and the pen for it.
    pub fn add(&self, name: &'static str) -> Report {
        let mut entries = self.lock();
        let entry = Entry { name, state: State::Starting, since: net::utc_ms(), restarts: 0, figures: None };
        entries.push(entry);
        Report { board: self.clone(), index: entries.len() - 1 }
    }

    /// How a service is.
    pub fn state(&self, name: &str) -> Option<State> {
        self.lock().iter().find(|entry| entry.name == name).map(|entry| entry.state.clone())
    }

    /// Resolves when every service is up or has failed for the first time.
    pub async fn settled(&self) {
        while self.lock().iter().any(|entry| entry.state == State::Starting) {
            // Only the start asks, and starts take milliseconds: looking again is simpler than being told.
            Timer::after(Duration::from_millis(2)).await;
        }
    }

    /// One line for people: `4 services, all running`, or which are not.
    pub fn summary(&self) -> String {
        let entries = self.lock();
        let names = |wanted: fn(&State) -> bool| {
            let found = entries.iter().filter(|entry| wanted(&entry.state));
            found.map(|entry| entry.name).collect::<Vec<_>>().join(", ")
        };
        let failed = names(|state| matches!(state, State::Failed(..)));
        let starting = names(|state| *state == State::Starting);
        let count = entries.len();
        match (failed.as_str(), starting.as_str()) {
            ("", "") => format!("{count} services running"),
            (_, "") => format!("{count} services, failed: {failed}"),
            ("", _) => format!("{count} services, starting: {starting}"),
            _ => format!("{count} services, failed: {failed}, starting: {starting}"),
        }
    }

    /// Everything, by service.
    pub fn snapshot(&self) -> Value {
        self.lock().iter().map(|entry| (entry.name.to_owned(), entry.snapshot())).collect::<Map<_, _>>().into()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn snapshot(&self) -> Value {
        let mut all = Map::new();
        let state = match &self.state {
            State::Starting => "starting",
            State::Running => "running",
            State::Failed(..) => "failed",
            State::Stopped => "stopped",
        };
        all.insert("state".into(), state.into());
        all.insert("since".into(), net::iso8601(self.since).into());
        all.insert("restarts".into(), self.restarts.into());
        if let State::Failed(error, pause) = &self.state {
            all.insert("error".into(), error.as_str().into());
            all.insert("retryIn".into(), json!(pause.as_secs_f64()));
        }
        if let Some(figures) = &self.figures {
            all.extend(figures());
        }
        all.into()
    }
}

/// A service's own line on the board.
#[derive(Clone)]
pub struct Report {
    board: Board,
    index: usize,
}

impl Report {
    /// The service is at work.
    pub fn running(&self) {
        self.set(State::Running);
    }

    /// The service failed and is started again after `pause`.
    pub fn failed(&self, error: &str, pause: Duration) {
        self.set(State::Failed(error.into(), pause));
        self.edit(|entry| entry.restarts += 1);
    }

    /// The service ended, as asked.
    pub fn stopped(&self) {
        self.set(State::Stopped);
    }

    /// What the service tells of itself from now on.
    pub fn figures(&self, figures: impl Fn() -> Map<String, Value> + Send + Sync + 'static) {
        self.edit(|entry| entry.figures = Some(Box::new(figures)));
    }

    fn set(&self, state: State) {
        self.edit(|entry| {
            entry.state = state;
            entry.since = net::utc_ms();
        });
    }

    fn edit(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.board.lock().get_mut(self.index) {
            change(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_service_shows_why_and_when_it_is_tried_again() {
        let board = Board::default();
        let (web, mqtt) = (board.add("web"), board.add("mqtt"));
        web.running();
        mqtt.failed("no route to host", Duration::from_millis(1500));
        mqtt.figures(|| Map::from_iter([("queued".to_owned(), json!(3))]));

        let snapshot = board.snapshot();
        assert_eq!(snapshot["web"]["state"], "running");
        assert_eq!(snapshot["mqtt"]["error"], "no route to host");
        assert_eq!(snapshot["mqtt"]["retryIn"], 1.5);
        assert_eq!(snapshot["mqtt"]["restarts"], 1);
        assert_eq!(snapshot["mqtt"]["queued"], 3);
        assert_eq!(board.summary(), "2 services, failed: mqtt");
        board.add("sync");
        assert_eq!(board.summary(), "3 services, failed: mqtt, starting: sync");
    }
}
