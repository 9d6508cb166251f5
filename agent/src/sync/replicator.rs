//! The shell of the engine: carries out what it wants with the database and a transport.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use smol::channel::{Receiver, Sender};
use smol::{LocalExecutor, channel, future};

use super::answer::Answer;
use super::budget::Budget;
use super::census::Census;
use super::engine::{Action, Engine, Push, Settings};
use super::error::Error;
use super::pull::{self, Page, Puller};
use super::state::{Shared, State, lock};
use super::transport::{BATCH, Transport};
use crate::config;
use crate::db::changelog::{Backlog, Pending};
use crate::db::inbound::{Progress, Usage};
use crate::db::{self, Db};
use crate::net::{self, Alarm};

/// How far before the watermark changes are read again.
const OVERLAP: Duration = Duration::from_secs(2 * 60);
/// Answers wait so long to be settled together.
const GATHER: Duration = Duration::from_millis(50);

/// Brings the changes of a database to the cloud for as long as it runs.
pub struct Replicator<T> {
    db: Db,
    transport: T,
    pull: pull::Settings,
    shared: Shared,
    hints: (Sender<()>, Receiver<()>),
}

/// What comes back from a task.
type Done = Result<Event, Error>;

/// What came of an action.
enum Event {
    Pending(Vec<Pending>),
    Answered(Vec<(u64, Answer)>),
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
        let journals = db.schema().models().filter(|model| model.process().mode == db::Mode::Journal);
        let settings = Settings {
            thing: thing.to_owned(),
            site: db.site(),
            window: options.window,
            batch: if options.transport == config::SyncTransport::Mqtt { 1 } else { BATCH },
            journals: journals.map(|model| model.name().to_owned()).collect(),
            gather: GATHER,
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
            shared: Shared { engine, puller, backlog: Arc::default(), usage: Arc::default(), budget: options.budget },
            hints: channel::bounded(1),
        }
    }

    /// Sees how it does.
    pub fn state(&self) -> State {
        State::new(self.shared.clone(), self.hints.0.clone())
    }

    /// Replicates until the future is dropped, which loses nothing: what was on its way is sent again by the next run.
    /// It ends by itself only when the database fails, and says how. Runs on the executor that polls it, and must be
    /// the only listener of [`Db::changes`].
    pub async fn run(&self) -> Error {
        lock(&self.shared.engine).restart();
        let progress = match self.db.progress().await {
            Ok(progress) => progress,
            Err(error) => return error.into(),
        };
        *lock(&self.shared.puller) = puller(&self.pull, &progress);
        let seen = self.transport.traffic();
        let mut budget = Budget::new(self.shared.budget, progress.usage, seen, Instant::now(), net::utc_ms());
        let (sender, events) = channel::unbounded();
        let tasks = LocalExecutor::new();
        match tasks.run(self.drive(&tasks, &mut budget, (&sender, &events))).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn drive<'a>(
        &'a self,
        tasks: &LocalExecutor<'a>,
        budget: &mut Budget,
        (sender, events): (&'a Sender<Done>, &Receiver<Done>),
    ) -> Result<Infallible, Error> {
        let changes = self.db.changes();
        let (mut census, mut alarm) = (Census::default(), Alarm::default());
        loop {
            if let Some(usage) = self.observe(budget) {
                tasks.spawn(self.keep(usage)).detach();
            }
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
            let deadline = deadline.into_iter().chain(pull).chain(census.deadline()).chain(budget.deadline()).min();
            let late = poll_fn(|cx| deadline.map_or(Poll::Pending, |deadline| alarm.poll(cx, deadline)));
            let event = next(events, &changes, &self.hints.1, late).await?;
            let now = Instant::now();
            let mut engine = lock(&self.shared.engine);
            match event {
                Event::Pending(rows) => engine.pending(rows),
                Event::Answered(answers) => {
                    for (id, answer) in answers {
                        log_answer(&answer);
                        engine.answered(id, answer, now);
                    }
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

    /// Counts what the transport did, and holds everything up while the budget is spent. Returns what is to be kept.
    fn observe(&self, budget: &mut Budget) -> Option<Usage> {
        let was_spent = budget.is_spent();
        let kept = budget.count(self.transport.traffic(), Instant::now(), net::utc_ms());
        match (was_spent, budget.is_spent()) {
            (false, true) => log::warn!("sync.budget is spent: replication waits for the end of its 24 hours"),
            (true, false) => log::info!("sync.budget is there again"),
            _ => {}
        }
        lock(&self.shared.engine).hold(budget.is_spent());
        lock(&self.shared.puller).hold(budget.is_spent());
        *lock(&self.shared.usage) = budget.usage();
        kept
    }

    fn next_action(&self) -> Option<Action> {
        lock(&self.shared.engine).poll(Instant::now())
    }

    async fn count(&self, sender: &Sender<Done>) {
        let counted = self.db.backlog().await.map(Event::Counted).map_err(Error::from);
        let _ = sender.send(counted).await;
    }

    async fn carry_out_pull(&self, action: pull::Action, sender: &Sender<Done>) {
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

    async fn ask(&self, query: pull::Query) -> Done {
        if matches!(query.scope, pull::Scope::Model(_)) {
            self.db.watch_range().await?;
        }
        Ok(Event::Read(query.id, self.transport.pull(&query).await))
    }

    async fn push(&self, mut pushes: Vec<Push>) -> Vec<(u64, Answer)> {
        let ids: Vec<u64> = pushes.iter().map(|push| push.id).collect();
        let answers = match (pushes.len(), pushes.pop()) {
            (1, Some(push)) => vec![self.transport.push(push).await],
            (_, last) => {
                pushes.extend(last);
                self.transport.push_batch(pushes).await
            }
        };
        ids.into_iter().zip(answers).collect()
    }

    /// Keeps what was used. Where that fails, the next start forgets a part of it, which does no harm.
    async fn keep(&self, usage: Usage) {
        if let Err(error) = self.db.keep_usage(usage).await {
            log::debug!("what was used of sync.budget is not kept: {error}");
        }
    }

    async fn carry_out(&self, action: Action, sender: &Sender<Done>) {
        let event = match action {
            Action::Read { limit, exclude } => {
                self.db.pending(limit, &exclude).await.map(Event::Pending).map_err(Error::from)
            }
            Action::Push(pushes) => Ok(Event::Answered(self.push(pushes).await)),
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

/// The next event. What is not taken yet is bounded by the window: a row is not sent again before its answer was.
async fn next(
    events: &Receiver<Done>,
    changes: &Receiver<()>,
    hints: &Receiver<()>,
    late: impl Future<Output = ()>,
) -> Done {
    let answer = async { events.recv().await.unwrap_or(Err(crate::db::Error::Closed.into())) };
    let change = async { changes.recv().await.map(|()| Event::Recorded).map_err(|_| crate::db::Error::Closed.into()) };
    let hint = async {
        match hints.recv().await {
            Ok(()) => Ok(Event::Hint),
            Err(_) => future::pending().await,
        }
    };
    let late = async {
        late.await;
        Ok(Event::Deadline)
    };
    future::or(answer, future::or(change, future::or(hint, late))).await
}

fn log_answer(answer: &Answer) {
    match answer {
        Answer::Refused(reason) => log::warn!("the cloud refuses a row, which is tried again later: {reason}"),
        Answer::Alone(reason) => log::info!("the cloud refuses one of many rows, which are sent one by one: {reason}"),
        Answer::Throttled(reason) => log::info!("the cloud throttles: {reason}"),
        Answer::Failed(reason) => log::info!("the cloud is not reached: {reason}"),
        Answer::Stored | Answer::Differs(_) => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "replicator_tests.rs"]
mod tests;
