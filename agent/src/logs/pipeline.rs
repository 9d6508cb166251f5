//! From the sources over the spool to the sink.
//!
//! Each source has a task that reads it and puts what came into the spool, in batches; one task takes the batches out again
//! and sends them. They meet only at the spool, so a slow sink or a failing source holds up nobody but itself. All of them run
//! on the executor of the caller; the spool's file is written on the pool for blocking work.

mod intake;
mod outlet;

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smol::LocalExecutor;
use smol::channel::{Receiver, Sender, bounded};

use super::Source;
use super::figures::Figures;
use super::marker::Marker;
use super::notice::Notice;
use super::sink::Sink;
use super::spool::{self, Progress, Spool};
use crate::config::Logs;

/// A source: its name, and how it is opened behind a position.
pub struct Input {
    name: String,
    open: Open,
}

type Open = Box<dyn Fn(Option<&str>) -> Box<dyn Source>>;

impl Input {
    /// Records and position are kept under `name`.
    pub fn new(name: impl Into<String>, open: impl Fn(Option<&str>) -> Box<dyn Source> + 'static) -> Self {
        Self { name: name.into(), open: Box::new(open) }
    }
}

/// Where the files are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The spool.
    pub spool: PathBuf,
    /// The file that says how far the sink is; in the run directory.
    pub marker: PathBuf,
}

impl Places {
    /// In the state directory and the run directory.
    pub fn new(state: &Path, run: &Path) -> Self {
        Self { spool: state.join("logs/spool.db"), marker: run.join("logs.position") }
    }
}

/// What the tasks share.
struct Shared {
    spool: Arc<Mutex<Spool>>,
    id: String,
    progress: Cell<Progress>,
    /// What of it the spool knows.
    noted: Cell<Progress>,
    figures: Figures,
    limit: u64,
    drops: bool,
    linger: Duration,
    /// What may not have been read is sent again.
    resends: bool,
    /// A batch came.
    came: (Sender<()>, Receiver<()>),
    /// The spool writes to a disk without room.
    disk: RefCell<Notice>,
    full: RefCell<Notice>,
}

impl Shared {
    /// Runs an operation on the spool, beside the executor.
    async fn spool<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Spool) -> Result<T, spool::Error> + Send + 'static,
    ) -> Result<T, spool::Error> {
        let spool = self.spool.clone();
        let run = move || {
            let mut spool = spool.lock().unwrap_or_else(PoisonError::into_inner);
            (operation(&mut spool), spool.usage())
        };
        let (result, usage) = smol::unblock(run).await;
        self.figures.lock().usage = usage;
        result
    }
}

/// The stop as the tasks see it: it resolves when they shall end.
pub trait Ending: Clone + 'static {
    /// Resolves when the end is wished.
    fn wished(&self) -> impl Future<Output = ()>;
}

/// Forwards until the end is wished. An error means that the spool can not be used; what is in it stays.
pub async fn forward(
    settings: &Logs,
    places: &Places,
    inputs: Vec<Input>,
    sink: Box<dyn Sink>,
    figures: Figures,
    ending: impl Ending,
) -> Result<(), spool::Error> {
    let path = places.spool.clone();
    let (opened, accepted, last) = smol::unblock(move || {
        let spool = Spool::open(&path)?;
        let (accepted, last) = (spool.accepted()?, spool.last()?);
        Ok::<_, spool::Error>((spool, accepted, last))
    })
    .await?;
    let marker = open_marker(&places.marker, opened.id());
    let marked = marker.as_ref().and_then(Marker::read).filter(|marked| marked.accepted.n <= last + 1);
    // The marker is newer than what the spool says, also where that is more: after a connection broke it goes back at once. And
    // what was acknowledged just before a kill is sent again.
    let accepted = marked.map_or(accepted, |marked| marked.sure);
    figures.lock().usage = opened.usage();
    let progress = Progress { done: accepted.n - 1, accepted };
    let shared = Shared {
        id: opened.id().to_owned(),
        spool: Arc::new(Mutex::new(opened)),
        progress: Cell::new(progress),
        noted: Cell::new(progress),
        figures,
        limit: settings.spool.size,
        drops: settings.spool.drop,
        linger: settings.linger,
        resends: settings.resend > 0,
        came: bounded(1),
        disk: RefCell::default(),
        full: RefCell::default(),
    };
    let result = run(&shared, inputs, sink, marker, ending).await;
    // To close the file takes the disk's time too.
    smol::unblock(move || drop(shared.spool)).await;
    if let Err(error @ spool::Error::Damaged(_)) = &result {
        spool::set_aside(&places.spool, error)?;
    }
    result
}

async fn run(
    shared: &Shared,
    inputs: Vec<Input>,
    sink: Box<dyn Sink>,
    marker: Option<Marker>,
    ending: impl Ending,
) -> Result<(), spool::Error> {
    let executor = LocalExecutor::new();
    let intakes: Vec<_> = inputs
        .into_iter()
        .map(|input| {
            let ending = ending.clone();
            executor.spawn(async move { intake::run(shared, &input, &ending).await })
        })
        .collect();
    let tasks = async {
        let intakes = async {
            for intake in intakes {
                intake.await?;
            }
            Ok(())
        };
        let outlet = outlet::run(shared, sink, marker, &ending);
        smol::future::try_zip(intakes, outlet).await.map(|_| ())
    };
    executor.run(tasks).await
}

/// Without a marker the agent works on, and repeats more after it was killed.
fn open_marker(path: &Path, spool: &str) -> Option<Marker> {
    let opened: io::Result<_> = Marker::open(path, spool);
    opened.map_err(|error| log::warn!("{}: {error}; after a kill more records are sent again", path.display())).ok()
}
