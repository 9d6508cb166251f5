//! The shell of the engine: carries out what it wants with the database and a transport.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use smol::channel::{Receiver, Sender};
use smol::{LocalExecutor, Timer, channel, future};

use super::answer::Answer;
use super::engine::{Action, Engine, Settings};
use super::error::Error;
use super::pull::{self, Page, Puller};
use super::state::{State, lock};
use super::transport::Transport;
use crate::config;
use crate::db::changelog::{Backlog, Pending};
use crate::db::inbound::Progress;
use crate::db::{self, Db};
use crate::net;

/// How far before the watermark changes are read again.
const OVERLAP: Duration = Duration::from_secs(2 * 60);
/// The pause between two counts of the backlog, at least, …
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// … and so many times what the last one took: the thread that counts also reads for everybody else.
const COUNT_SHARE: u32 = 20;

/// Brings the changes of a database to the cloud for as long as it runs.
pub struct Replicator<T> {
    db: Db,
    transport: T,
    pull: pull::Settings,
    shared: Shared,
}

/// What the replicator and those who ask about it share.
#[derive(Clone)]
struct Shared {
    engine: Arc<Mutex<Engine>>,
    puller: Arc<Mutex<Puller>>,
    backlog: Arc<Mutex<Backlog>>,
    hints: (Sender<()>, Receiver<()>),
}

/// What came of an action.
enum Event {
    Pending(Vec<Pending>),
    Answered(u64, Answer),
    Settled,
    Read(u64, Result<Page, String>),
    Applied(u64),
    NoRoom(String),
    Counted(Backlog),
    Recorded,
    Hint,
    Deadline,
}

impl<T: Transport> Replicator<T> {
    /// A replicator of what `db` has in its change log, in the name of `thing`.
    pub fn new(db: Db, transport: T, options: &config::Sync, thing: &str) -> Self {
        let settings = Settings {
            thing: thing.to_owned(),
            site: db.site(),
            window: options.window,
            delay: options.delay,
            policies: db.schema().models().map(|model| (model.name().to_owned(), model.conflict())).collect(),
        };
        let engine = Arc::new(Mutex::new(Engine::new(settings, fastrand::u64(..))));
        let models = db.schema().models().filter(|model| model.sync().down());
        let pull = pull::Settings {
            models: models.map(|model| model.name().to_owned()).collect(),
            has_index: !options.index.is_empty(),
            every: options.pull,
            overlap: OVERLAP,
            whole_every: options.resync,
        };
        let puller = Arc::new(Mutex::new(puller(&pull, &Progress::default())));
        Self {
            db,
            transport,
            pull,
            shared: Shared { engine, puller, backlog: Arc::default(), hints: channel::bounded(1) },
        }
    }

    /// Sees how it does.
    pub fn state(&self) -> State {
        let Shared { engine, puller, backlog, hints } = self.shared.clone();
        State::new(engine, puller, backlog, hints.0)
    }

    /// Replicates until the future is dropped, which loses nothing: what was on its way is sent again by the next run.
    /// It ends by itself only when the database fails, and says how. Runs on the executor that polls it, and must be
    /// the only listener of [`Db::changes`].
    pub async fn run(&self) -> Error {
        lock(&self.shared.engine).restart();
        match self.db.progress().await {
            Ok(progress) => *lock(&self.shared.puller) = puller(&self.pull, &progress),
            Err(error) => return error.into(),
        }
        let (sender, events) = channel::unbounded();
        let tasks = LocalExecutor::new();
        match tasks.run(self.drive(&tasks, &sender, &events)).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn drive<'a>(
        &'a self,
        tasks: &LocalExecutor<'a>,
        sender: &'a Sender<Result<Event, Error>>,
        events: &Receiver<Result<Event, Error>>,
    ) -> Result<Infallible, Error> {
        let changes = self.db.changes();
        let mut census = Census::default();
        loop {
            while let Some(action) = self.next_action() {
                tasks.spawn(self.carry_out(action, sender)).detach();
            }
            while let Some(action) = lock(&self.shared.puller).poll(Instant::now()) {
                tasks.spawn(self.carry_out_pull(action, sender)).detach();
            }
            if census.is_due(Instant::now()) {
                tasks.spawn(self.count(sender)).detach();
            }
            let deadline = lock(&self.shared.engine).deadline();
            let pull = lock(&self.shared.puller).deadline();
            let deadline = deadline.into_iter().chain(pull).chain(census.deadline()).min();
            let event = next(events, &changes, &self.shared.hints.1, deadline).await?;
            let now = Instant::now();
            let mut engine = lock(&self.shared.engine);
            match event {
                Event::Pending(rows) => engine.pending(rows),
                Event::Answered(id, answer) => {
                    log_answer(&answer);
                    engine.answered(id, answer, now);
                }
                Event::Settled => {
                    engine.settled(now);
                    census.changed();
                }
                Event::Recorded => {
                    engine.recorded(now);
                    census.changed();
                }
                Event::Read(id, page) => {
                    if let Err(reason) = &page {
                        log::info!("the cloud cannot be read: {reason}");
                    }
                    lock(&self.shared.puller).read(id, page, now);
                }
                Event::Applied(rows) => {
                    lock(&self.shared.puller).applied(rows, now);
                }
                Event::NoRoom(reason) => lock(&self.shared.puller).refused(reason, now),
                Event::Counted(backlog) => {
                    *lock(&self.shared.backlog) = backlog;
                    census.counted(now);
                }
                // What was said is with engine and puller already.
                Event::Hint | Event::Deadline => {}
            }
        }
    }

    fn next_action(&self) -> Option<Action> {
        lock(&self.shared.engine).poll(Instant::now())
    }

    async fn count(&self, sender: &Sender<Result<Event, Error>>) {
        let counted = self.db.backlog().await.map(Event::Counted).map_err(Error::from);
        let _ = sender.send(counted).await;
    }

    async fn carry_out_pull(&self, action: pull::Action, sender: &Sender<Result<Event, Error>>) {
        let event = match action {
            pull::Action::Query(query) => self.ask(query).await,
            pull::Action::Apply(batch) => match self.db.apply(batch).await {
                // What is sent goes on meanwhile, which may make room.
                Err(error @ db::Error::NoRoom { .. }) => Ok(Event::NoRoom(error.to_string())),
                applied => applied.map(Event::Applied).map_err(Error::from),
            },
        };
        let _ = sender.send(event).await;
    }

    async fn ask(&self, query: pull::Query) -> Result<Event, Error> {
        if matches!(query.scope, pull::Scope::Model(_)) {
            self.db.watch_range().await?;
        }
        Ok(Event::Read(query.id, self.transport.pull(&query).await))
    }

    async fn carry_out(&self, action: Action, sender: &Sender<Result<Event, Error>>) {
        let event = match action {
            Action::Read { limit, exclude } => {
                self.db.pending(limit, &exclude).await.map(Event::Pending).map_err(Error::from)
            }
            Action::Push(push) => {
                let id = push.id;
                Ok(Event::Answered(id, self.transport.push(push).await))
            }
            Action::Settle(settlements) => {
                self.db.settle(settlements).await.map(|()| Event::Settled).map_err(Error::from)
            }
        };
        // The receiver lives as long as the executor of this task.
        let _ = sender.send(event).await;
    }
}

fn puller(settings: &pull::Settings, progress: &Progress) -> Puller {
    Puller::new(settings.clone(), progress, Instant::now(), net::utc_ms(), fastrand::u64(..))
}

/// When to count the backlog: at once at the beginning, and soon after a change. One count at a time, for a million rows
/// take long.
#[derive(Default)]
struct Census {
    /// Nothing changed since the last count began.
    is_fresh: bool,
    /// When the count began that is going on.
    begun: Option<Instant>,
    not_before: Option<Instant>,
}

impl Census {
    fn changed(&mut self) {
        self.is_fresh = false;
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = !self.is_fresh && self.begun.is_none() && self.not_before.is_none_or(|after| after <= now);
        if is_due {
            self.is_fresh = true;
            self.begun = Some(now);
        }
        is_due
    }

    fn counted(&mut self, now: Instant) {
        let took = self.begun.take().map_or(Duration::ZERO, |begun| now.saturating_duration_since(begun));
        self.not_before = Some(now + COUNT_EVERY.max(took * COUNT_SHARE));
    }

    fn deadline(&self) -> Option<Instant> {
        self.not_before.filter(|_| !self.is_fresh && self.begun.is_none())
    }
}

/// The next event. What is not taken yet is bounded by the window: a row is not sent again before its answer was.
async fn next(
    events: &Receiver<Result<Event, Error>>,
    changes: &Receiver<()>,
    hints: &Receiver<()>,
    deadline: Option<Instant>,
) -> Result<Event, Error> {
    let answer = async { events.recv().await.unwrap_or(Err(crate::db::Error::Closed.into())) };
    let change = async { changes.recv().await.map(|()| Event::Recorded).map_err(|_| crate::db::Error::Closed.into()) };
    let hint = async {
        match hints.recv().await {
            Ok(()) => Ok(Event::Hint),
            Err(_) => future::pending().await,
        }
    };
    let timer = async {
        match deadline {
            Some(deadline) => Timer::at(deadline).await,
            None => future::pending().await,
        };
        Ok(Event::Deadline)
    };
    future::or(answer, future::or(change, future::or(hint, timer))).await
}

fn log_answer(answer: &Answer) {
    match answer {
        Answer::Refused(reason) => log::warn!("the cloud refuses a row, which is tried again later: {reason}"),
        Answer::Throttled(reason) => log::info!("the cloud throttles: {reason}"),
        Answer::Failed(reason) => log::info!("the cloud is not reached: {reason}"),
        Answer::Stored | Answer::Differs(_) => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::{Cell, RefCell};

    use serde_json::{Value, json};

    use super::*;
    use crate::db::Schema;
    use crate::sync::engine::Push;
    use crate::sync::item::{self, Writer};
    use crate::sync::simulation::Cloud;
    use crate::sync::state::Status;

    const SCHEMA: &str = r#"{
        "version": "1",
        "process": {"M": {"sync": "up"}},
        "models": {"M": {"id": {"type": "string"}, "value": {"type": "string"}, "note": {"type": "string"}}}
    }"#;

    /// A database and a simulated table.
    struct Bench {
        directory: std::path::PathBuf,
        db: Db,
        cloud: RefCell<Cloud>,
        is_down: Cell<bool>,
        busy: Cell<usize>,
        busiest: Cell<usize>,
    }

    impl Bench {
        fn new() -> Self {
            let directory = std::env::temp_dir().join(format!("ioto-sync-{:016x}", fastrand::u64(..)));
            std::fs::create_dir(&directory).unwrap();
            let options = config::Database { path: directory.join("device.db"), ..Default::default() };
            let db = Db::open(&options, Schema::parse(SCHEMA, "schema").unwrap()).unwrap();
            let cloud = RefCell::new(Cloud::default());
            Self { directory, db, cloud, is_down: Cell::new(false), busy: Cell::new(0), busiest: Cell::new(0) }
        }

        async fn create(&self, key: &str, value: &str) {
            let item = json!({"id": key, "value": value}).as_object().unwrap().clone();
            self.db.create("M", item).await.unwrap();
        }

        /// Replicates until the status is as wanted, with the backlog of this very moment in it.
        async fn until(&self, replicator: &Replicator<&Self>, wanted: impl Fn(&Status) -> bool) -> Status {
            let state = replicator.state();
            let seen = async {
                for _ in 0..2000 {
                    let backlog = self.db.backlog().await.unwrap();
                    let status = Status { backlog: backlog.rows, conflicts: backlog.conflicts, ..state.status() };
                    if wanted(&status) {
                        return status;
                    }
                    Timer::after(Duration::from_millis(5)).await;
                }
                panic!("it stays at {:?}", state.status());
            };
            future::or(seen, async { panic!("{}", replicator.run().await) }).await
        }

        fn value(&self, key: &str) -> Value {
            json!(self.cloud.borrow().current(key).unwrap().item)["value"].clone()
        }
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }

    impl Transport for &Bench {
        async fn pull(&self, query: &pull::Query) -> Result<Page, String> {
            Ok(self.cloud.borrow().query(&query.scope, 2, query.start.as_ref(), 0))
        }

        async fn push(&self, push: Push) -> Answer {
            self.busy.set(self.busy.get() + 1);
            self.busiest.set(self.busiest.get().max(self.busy.get()));
            Timer::after(Duration::from_millis(3)).await;
            self.busy.set(self.busy.get() - 1);
            if self.is_down.get() {
                return Answer::Failed("no route to host".to_owned());
            }
            let writer = Writer { thing: "thing".into(), site: self.db.site(), schema: "1".into() };
            let fields = ["id", "value", "note"].map(str::to_owned);
            match item::update("table", &writer, &push, &fields) {
                Ok(request) => self.cloud.borrow_mut().update(&request, "thing", |_| true).unwrap(),
                Err(reason) => Answer::Refused(reason),
            }
        }
    }

    fn replicator(bench: &Bench, window: usize) -> Replicator<&Bench> {
        Replicator::new(bench.db.clone(), bench, &config::Sync { window, ..Default::default() }, "thing")
    }

    #[test]
    fn rows_reach_the_cloud_and_several_are_on_their_way_at_a_time() {
        let bench = Bench::new();
        smol::block_on(async {
            let replicator = replicator(&bench, 4);
            for n in 0..10 {
                bench.create(&format!("k{n}"), "early").await;
            }
            let state = bench.until(&replicator, |state| state.pushed == 10 && state.backlog == 0).await;
            assert!(state.last_success.is_some() && state.error.is_none());
            assert_eq!(bench.busiest.get(), 4);

            let write = async {
                Timer::after(Duration::from_millis(100)).await;
                bench.create("late", "x").await;
                future::pending::<Status>().await
            };
            future::or(bench.until(&replicator, |state| state.pushed == 11 && state.backlog == 0), write).await;
            bench.db.remove("M", "k3").await.unwrap();
            bench.until(&replicator, |state| state.backlog == 0).await;
            assert_eq!(bench.cloud.borrow().current("k3").unwrap().item, None);
            assert_eq!(bench.value("late"), "x");
        });
    }

    #[test]
    fn an_outage_is_seen_in_the_state_and_ends_with_everything_in_the_cloud() {
        let bench = Bench::new();
        smol::block_on(async {
            let replicator = replicator(&bench, 4);
            bench.is_down.set(true);
            for n in 0..5 {
                bench.create(&format!("k{n}"), "x").await;
            }
            let state = bench.until(&replicator, |state| state.down).await;
            assert_eq!((state.backlog, state.pushed), (5, 0));
            assert_eq!(state.error.as_deref(), Some("no route to host"));
            let counted = bench.until(&replicator, |_| replicator.state().status().backlog == 5).await;
            assert!(counted.oldest.is_some());
            let figures = replicator.state().figures();
            assert_eq!((&figures["down"], &figures["backlog"]), (&json!(true), &json!(5)));
            bench.is_down.set(false);
            let state = bench.until(&replicator, |state| state.backlog == 0).await;
            assert!(!state.down && state.error.is_none());
        });
    }

    #[test]
    fn a_conflict_is_won_by_the_device_and_kept_in_the_log() {
        let bench = Bench::new();
        smol::block_on(async {
            let replicator = replicator(&bench, 4);
            bench.create("k", "mine").await;
            bench.until(&replicator, |state| state.backlog == 0).await;
            bench.cloud.borrow_mut().edit("k", "theirs", "2026-01-01T00:00:00.000Z", &mut fastrand::Rng::with_seed(3));
            let changes = json!({"value": "mine again"}).as_object().unwrap().clone();
            bench.db.update("M", "k", changes).await.unwrap();
            let state = bench.until(&replicator, |state| state.backlog == 0).await;
            assert_eq!(state.conflicts, 1);
            assert_eq!(bench.value("k"), "mine again");
            let logged = bench.db.conflicts(10).await.unwrap().remove(0);
            assert_eq!(json!(logged.conflict.mine)["value"], "mine again");
            assert_eq!(json!(logged.conflict.theirs)["value"], "theirs");
        });
    }

    #[test]
    fn a_replication_that_is_dropped_at_any_time_goes_on_where_it_was() {
        let bench = Bench::new();
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        smol::block_on(async {
            let mut kept = replicator(&bench, 3);
            for n in 0..40 {
                bench.create(&format!("k{n}"), "x").await;
            }
            for _ in 0..30 {
                if random.bool() {
                    kept = replicator(&bench, 3);
                }
                let stop = async {
                    Timer::after(Duration::from_micros(random.u64(..8000))).await;
                };
                future::or(stop, async { panic!("{}", kept.run().await) }).await;
            }
            bench.until(&kept, |state| state.backlog == 0).await;
            let cloud = bench.cloud.borrow();
            assert!((0..40).all(|n| cloud.current(&format!("k{n}")).is_some()));
            assert_eq!(cloud.stored.len(), 40, "each is stored once");
        });
    }

    #[test]
    fn the_backlog_is_counted_at_once_then_after_changes_and_rarely_where_it_takes_long() {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let mut census = Census::default();
        assert!(census.is_due(at(0)));
        census.changed();
        assert!(!census.is_due(at(5000)) && census.deadline().is_none(), "one count at a time");
        census.counted(at(1));
        assert_eq!(census.deadline(), Some(at(1001)));
        assert!(!census.is_due(at(1000)) && census.is_due(at(1001)));
        census.counted(at(1301));
        assert!(census.deadline().is_none(), "nothing changed");
        census.changed();
        assert_eq!(census.deadline(), Some(at(1301 + 300 * 20)), "counting takes a twentieth of the time at most");
    }

    #[test]
    fn a_database_that_closes_ends_it() {
        let bench = Bench::new();
        smol::block_on(async {
            let replicator = replicator(&bench, 3);
            let close = async {
                Timer::after(Duration::from_millis(20)).await;
                bench.db.close().await;
                future::pending().await
            };
            let ended = future::or(replicator.run(), close).await;
            assert!(ended.to_string().starts_with("replication stopped"));
        });
    }
}
