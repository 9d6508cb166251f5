//! From one source into the spool.

use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::FutureExt;

use super::{Ending, Input, Shared};
use crate::logs::notice::Notice;
use crate::logs::pack::Packer;
use crate::logs::spool::{Error, Progress, Spool};
use crate::logs::{Batch, Source};
use crate::net::Backoff;

/// Bytes of a batch, after which it does not wait for more. Each is a transaction.
const BATCH: usize = 64 * 1024;
/// Before a source is opened again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A source that lasted so long failed for a new reason.
const STABLE: Duration = Duration::from_secs(60);
/// How often a full spool is asked for room, and a full disk.
const ROOM: Duration = Duration::from_millis(100);
const DISK: Duration = Duration::from_secs(2);

/// Reads the source until the end is wished.
pub(super) async fn run(shared: &Shared, input: &Input, ending: &impl Ending) -> Result<(), Error> {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut notice = Notice::default();
    loop {
        let name = input.name.clone();
        let position = shared.spool(move |spool| spool.position(&name)).await?;
        let mut source = (input.open)(position.as_deref());
        let opened = Instant::now();
        let mut intake = Intake { shared, input, notice: &mut notice, pending: Pending::default() };
        let Some(error) = intake.pump(source.as_mut(), ending).await? else { return Ok(()) };
        if opened.elapsed() >= STABLE {
            backoff.reset();
        }
        intake.failed(&error);
        let pause = Timer::after(backoff.next());
        let is_over = async {
            pause.await;
            false
        };
        if (wished(ending)).or(is_over).await {
            return Ok(());
        }
    }
}

struct Intake<'a> {
    shared: &'a Shared,
    input: &'a Input,
    notice: &'a mut Notice,
    pending: Pending,
}

/// Records that were read and are not in the spool yet.
#[derive(Default)]
struct Pending {
    packer: Packer,
    position: Option<String>,
    since: Option<Instant>,
}

enum Event {
    Came(std::io::Result<Batch>),
    Due,
    Wished,
}

impl Intake<'_> {
    /// Reads until the source fails, which is returned, or the end is wished.
    async fn pump(&mut self, source: &mut dyn Source, ending: &impl Ending) -> Result<Option<std::io::Error>, Error> {
        loop {
            match self.next(source, ending).await {
                Event::Came(Ok(batch)) => self.take(batch),
                Event::Came(Err(error)) => {
                    let is_over = self.keep(ending).await?;
                    return Ok(Some(error).filter(|_| !is_over));
                }
                Event::Due => {}
                Event::Wished => {
                    self.keep(ending).await?;
                    return Ok(None);
                }
            }
            let is_due = self.due().is_some_and(|due| due <= Instant::now());
            if (is_due || self.pending.packer.len() >= BATCH) && self.keep(ending).await? {
                return Ok(None);
            }
        }
    }

    async fn next(&self, source: &mut dyn Source, ending: &impl Ending) -> Event {
        let due = self.due();
        let coming = async { Event::Came(source.next().await) };
        let is_due = async {
            match due {
                Some(due) => drop(Timer::at(due).await),
                None => std::future::pending().await,
            }
            Event::Due
        };
        let wished = async {
            ending.wished().await;
            Event::Wished
        };
        // The end comes first: a source that never runs dry must not keep us.
        wished.or(coming).or(is_due).await
    }

    fn due(&self) -> Option<Instant> {
        self.pending.since.map(|since| since + self.shared.linger)
    }

    fn take(&mut self, batch: Batch) {
        self.notice.good(|| format!("{} is read again", self.input.name));
        {
            let mut figures = self.shared.figures.lock();
            figures.read += batch.records.len() as u64;
            figures.sources.retain(|(name, _)| *name != self.input.name);
        }
        batch.records.into_iter().for_each(|record| self.pending.packer.push(record));
        self.pending.position = Some(batch.position);
        self.pending.since.get_or_insert_with(Instant::now);
    }

    /// Puts what is pending into the spool; waits for room while there is none. Whether the end was wished meanwhile: then
    /// what is pending is forgotten, and read again another time.
    async fn keep(&mut self, ending: &impl Ending) -> Result<bool, Error> {
        let Some(position) = self.pending.position.take() else { return Ok(false) };
        let (records, count) = std::mem::take(&mut self.pending).packer.finish();
        let mut job = Job { name: self.input.name.clone(), records, count, position };
        loop {
            let (limit, drops, progress) = (self.shared.limit, self.shared.drops, self.shared.progress.get());
            let tried = self.shared.spool(move |spool| match job.append(spool, limit, drops, progress) {
                Err(error) if is_passing(&error) => Ok((job, Outcome::Disk(error))),
                outcome => outcome.map(|outcome| (job, outcome)),
            });
            let (returned, outcome) = tried.await?;
            job = returned;
            let pause = match outcome {
                Outcome::Kept { dropped } => {
                    self.shared.noted.set(progress);
                    self.kept(u64::from(job.count), dropped);
                    return Ok(false);
                }
                Outcome::NoRoom => {
                    self.full();
                    ROOM
                }
                Outcome::Disk(error) => {
                    self.shared.disk.borrow_mut().bad(|| format!("{error}; the sources wait meanwhile"));
                    DISK
                }
            };
            let waited = async {
                Timer::after(pause).await;
                false
            };
            if wished(ending).or(waited).await {
                return Ok(true);
            }
        }
    }

    fn kept(&self, count: u64, dropped: u64) {
        let usage = {
            let mut figures = self.shared.figures.lock();
            figures.waiting = (figures.waiting + count).saturating_sub(dropped);
            figures.dropped += dropped;
            figures.full &= figures.usage.bytes > self.shared.limit / 2;
            figures.usage
        };
        let mut full = self.shared.full.borrow_mut();
        if dropped > 0 {
            full.bad(|| {
                let limit = self.shared.limit;
                format!(
                    "the spool of the logs is full at {limit} bytes: the oldest records are dropped ({dropped} for now)"
                )
            });
        } else if usage.bytes <= self.shared.limit / 2 {
            full.good(|| {
                format!("the spool of the logs has room again, {} of {} bytes", usage.bytes, self.shared.limit)
            });
        }
        self.shared.disk.borrow_mut().good(|| "the spool of the logs can be written again".to_owned());
        let _ = self.shared.came.0.try_send(());
    }

    fn full(&self) {
        let usage = {
            let mut figures = self.shared.figures.lock();
            figures.full = true;
            figures.usage
        };
        self.shared.full.borrow_mut().bad(|| {
            format!(
                "the spool of the logs is full: {} records, {} of {} bytes; the sources wait until the sink takes some",
                usage.records, usage.bytes, self.shared.limit
            )
        });
    }

    fn failed(&mut self, error: &std::io::Error) {
        let name = &self.input.name;
        self.notice.bad(|| format!("{name} can not be read and is tried on: {error}"));
        let mut figures = self.shared.figures.lock();
        figures.sources.retain(|(other, _)| other != name);
        figures.sources.push((name.clone(), error.to_string()));
    }
}

/// A batch on its way into the spool.
struct Job {
    name: String,
    records: Vec<u8>,
    count: u32,
    position: String,
}

enum Outcome {
    Kept { dropped: u64 },
    NoRoom,
    Disk(Error),
}

impl Job {
    fn append(&self, spool: &mut Spool, limit: u64, drops: bool, progress: Progress) -> Result<Outcome, Error> {
        let size = self.records.len() as u64;
        let mut dropped = 0;
        if spool.usage().bytes + size > limit {
            match drops {
                true => dropped = spool.make_room(size, limit, progress)?,
                // What is done with makes room too.
                false => spool.note(progress)?,
            }
        }
        if spool.usage().records > 0 && spool.usage().bytes + size > limit {
            return Ok(Outcome::NoRoom);
        }
        spool.append(&self.name, (&self.records, self.count), &self.position, progress)?;
        Ok(Outcome::Kept { dropped })
    }
}

/// Whether it may pass by itself: the disk is full or cannot be written for now.
fn is_passing(error: &Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, SystemIoFailure};
    match error {
        Error::Full(_) => true,
        Error::Store(source) => matches!(source.sqlite_error_code(), Some(SystemIoFailure | CannotOpen)),
        _ => false,
    }
}

async fn wished(ending: &impl Ending) -> bool {
    ending.wished().await;
    true
}
