//! From the spool to the sink.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::{FutureExt, poll_once, yield_now};

use super::{Ending, Shared};
use crate::logs::marker::{Marked, Marker};
use crate::logs::notice::Notice;
use crate::logs::pack::{digest, unpack};
use crate::logs::sink::{Entry, Failure, Sink};
use crate::logs::spool::{Error, Place, Progress, Row};
use crate::net::Backoff;

/// Bytes of records that are taken from the spool at a time.
const CHUNK: usize = 64 * 1024;
/// Before the next attempt to reach the sink.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A connection that lasted so long was a good one.
const STABLE: Duration = Duration::from_secs(10);
/// How long the progress is not written into the spool when no batch comes with which it could be.
const NOTE: Duration = Duration::from_secs(5);
/// What a receiver's kernel acknowledged, the receiver has read after this time, unless it hangs. After a kill records are sent
/// again from there, should the receiver have died too.
const DOUBT: Duration = Duration::from_millis(250);
/// Acknowledgements are told apart by so much.
const TICK: Duration = Duration::from_millis(10);
/// For what is underway when the end is wished.
const GRACE: Duration = Duration::from_secs(1);

/// Sends until the end is wished.
pub(super) async fn run(
    shared: &Shared,
    sink: Box<dyn Sink>,
    marker: Option<Marker>,
    ending: &impl Ending,
) -> Result<(), Error> {
    let place = shared.progress.get().accepted;
    let waiting = shared.spool(move |spool| spool.waiting(place)).await?;
    shared.figures.lock().waiting += waiting;
    let mut outlet = Outlet {
        shared,
        sink,
        way: Way { marker, place, sure: place, recent: VecDeque::new(), kept: VecDeque::new(), accepted: 0 },
        backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
        notice: Notice::default(),
        since: None,
        noted: Instant::now(),
    };
    while poll_once(ending.wished()).await.is_none() {
        let entries = outlet.take().await?;
        match entries.is_empty() {
            true => outlet.idle(ending).await?,
            false => outlet.send(&entries, ending).await?,
        }
        // Sources and others get their turn.
        yield_now().await;
    }
    let unconfirmed = match outlet.sink.close().await {
        true => {
            outlet.way.confirm(shared);
            0
        }
        false => outlet.sink.unconfirmed(),
    };
    outlet.way.forget(shared, unconfirmed);
    outlet.note().await
}

struct Outlet<'a> {
    shared: &'a Shared,
    sink: Box<dyn Sink>,
    way: Way,
    backoff: Backoff,
    notice: Notice,
    /// Since when the sink takes what it is sent.
    since: Option<Instant>,
    noted: Instant,
}

impl Outlet<'_> {
    /// The next entries, oldest first.
    async fn take(&mut self) -> Result<Vec<Entry>, Error> {
        let from = self.way.place.n;
        let rows = self.shared.spool(move |spool| spool.read(from, CHUNK)).await?;
        let mut entries = Vec::new();
        if let Some(first) = rows.first() {
            self.way.start(first.n);
        }
        for row in rows {
            let skip = self.way.meet(&row) as usize;
            let Some(records) = unpack(&row.records, row.count) else {
                return Err(Error::Damaged("a batch holds no records".into()));
            };
            let source: Rc<str> = row.source.into();
            entries.extend(records.into_iter().enumerate().skip(skip).map(|(index, record)| {
                let seq = row.first + index as u64;
                let boot = record.boot.as_deref().unwrap_or_default();
                // The count alone is not enough: after a power cut it may be given to another record of a source that
                // does not keep what it said.
                let sum = digest([record.text.as_bytes(), boot.as_bytes()]);
                let id = format!("{}-{}-{seq}-{sum:08x}", self.shared.id, row.number);
                Entry { id, source: source.clone(), seq, record }
            }));
        }
        self.shared.figures.lock().oldest = entries.first().map(|entry| entry.record.at);
        Ok(entries)
    }

    async fn send(&mut self, entries: &[Entry], ending: &impl Ending) -> Result<(), Error> {
        let (shared, way) = (self.shared, &mut self.way);
        let mut accepted = |count| way.advance(shared, count);
        let sending = async { Some(self.sink.send(entries, &mut accepted).await) };
        let too_late = async {
            ending.wished().await;
            Timer::after(GRACE).await;
            None
        };
        match sending.or(too_late).await {
            None => {}
            Some(Ok(())) => self.sent(),
            Some(Err(failure)) => self.failed(&failure, ending).await,
        }
        self.way.forget(shared, self.sink.unconfirmed());
        if shared.figures.lock().full || self.noted.elapsed() >= NOTE {
            self.note().await?;
        }
        Ok(())
    }

    fn sent(&mut self) {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= STABLE {
            self.backoff.reset();
        }
        self.shared.figures.lock().sink = None;
        self.notice.good(|| "the sink of the logs takes records again".to_owned());
    }

    /// Takes back what has to be sent again, and waits before the next attempt.
    async fn failed(&mut self, failure: &Failure, ending: &impl Ending) {
        self.way.rewind(self.shared, failure.again);
        self.since = None;
        let waiting = {
            let mut figures = self.shared.figures.lock();
            figures.sink = Some(failure.to_string());
            figures.waiting
        };
        self.notice.bad(|| {
            let again = match failure.again {
                0 => String::new(),
                again => format!(", {again} of them again because it may not have read them"),
            };
            format!("the sink of the logs: {failure}; {waiting} records wait{again}")
        });
        let pause = Timer::after(self.backoff.next());
        let over = async {
            pause.await;
        };
        ending.wished().or(over).await;
    }

    /// Waits for records with nothing to send.
    async fn idle(&mut self, ending: &impl Ending) -> Result<(), Error> {
        enum Event {
            Ended(Failure),
            Other,
        }
        let shared = self.shared;
        let needs_note = shared.noted.get() != shared.progress.get() || !self.way.recent.is_empty();
        let due = self.noted + NOTE;
        let event = {
            let ended = async { Event::Ended(self.sink.ended().await) };
            let came = async {
                let _ = shared.came.1.recv().await;
                Event::Other
            };
            let time = async {
                match needs_note {
                    true => drop(Timer::at(due).await),
                    false => std::future::pending().await,
                }
                Event::Other
            };
            let wished = async {
                ending.wished().await;
                Event::Other
            };
            wished.or(came).or(ended).or(time).await
        };
        match event {
            // With nothing to send that is no trouble.
            Event::Ended(failure) if failure.again == 0 => {
                self.since = None;
                self.way.confirm(shared);
                self.way.forget(shared, 0);
            }
            Event::Ended(failure) => self.failed(&failure, ending).await,
            Event::Other => {}
        }
        if needs_note && due <= Instant::now() {
            self.note().await?;
        }
        Ok(())
    }

    /// Writes the progress into the spool. A disk without room is no reason to end: the marker has it too.
    async fn note(&mut self) -> Result<(), Error> {
        self.way.mark(self.shared);
        let progress = self.shared.progress.get();
        self.noted = Instant::now();
        match self.shared.spool(move |spool| spool.note(progress)).await {
            Ok(()) => self.shared.noted.set(progress),
            Err(Error::Full | Error::Store(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// How far the sink is on its way through the spool.
struct Way {
    marker: Option<Marker>,
    place: Place,
    /// What is before it was read by the other side, as far as can be known.
    sure: Place,
    /// When it was acknowledged up to where, since then.
    recent: VecDeque<(Instant, Place)>,
    /// Number and records of the batches that are kept: what may be wanted again, and what is being sent.
    kept: VecDeque<(i64, u32)>,
    /// Records of these that are before the place.
    accepted: u64,
}

impl Way {
    /// Reading begins with this batch: those before it were dropped.
    fn start(&mut self, first: i64) {
        let place = self.place;
        if first <= place.n {
            return;
        }
        for (n, count) in self.kept.iter_mut().filter(|(n, _)| (place.n..first).contains(n)) {
            *count = if *n == place.n { place.index.min(*count) } else { 0 };
        }
        self.place = Place { n: first, index: 0 };
    }

    /// A batch was read. How many of its records the sink has already.
    fn meet(&mut self, row: &Row) -> u32 {
        let has = if row.n == self.place.n { self.place.index.min(row.count) } else { 0 };
        if self.kept.back().is_none_or(|(last, _)| *last < row.n) {
            self.kept.push_back((row.n, row.count));
            self.accepted += u64::from(has);
        }
        has
    }

    /// The sink has so many more.
    fn advance(&mut self, shared: &Shared, count: usize) {
        let mut left = u32::try_from(count).unwrap_or(u32::MAX);
        let rows = self.kept.iter().filter(|(n, _)| *n >= self.place.n).copied();
        let mut place = self.place;
        for (n, count) in rows {
            if n > place.n {
                place = Place { n, index: 0 };
            }
            let step = left.min(count.saturating_sub(place.index));
            place.index += step;
            left -= step;
            if place.index < count {
                break;
            }
            place = Place { n: n + 1, index: 0 };
        }
        self.place = place;
        match self.recent.back_mut() {
            _ if !shared.resends => self.sure = place,
            Some((since, last)) if since.elapsed() < TICK => *last = place,
            _ => self.recent.push_back((Instant::now(), place)),
        }
        self.accepted += count as u64;
        {
            let mut figures = shared.figures.lock();
            figures.sent += count as u64;
            figures.waiting = figures.waiting.saturating_sub(count as u64);
        }
        self.mark(shared);
    }

    /// The last so many are sent again.
    fn rewind(&mut self, shared: &Shared, again: usize) {
        let (place, taken) = self.before(again);
        self.place = place;
        self.accepted = self.accepted.saturating_sub(taken);
        {
            let mut figures = shared.figures.lock();
            figures.again += taken;
            figures.waiting += taken;
        }
        self.confirm(shared);
    }

    /// The place of so many records before ours, and how many there are of them.
    fn before(&self, count: usize) -> (Place, u64) {
        let wanted = u32::try_from(count).unwrap_or(u32::MAX);
        let (mut left, mut place) = (wanted, self.place);
        for (n, count) in self.kept.iter().rev() {
            if left > 0 && *n < place.n {
                place = Place { n: *n, index: *count };
            }
            let step = if *n == place.n { left.min(place.index) } else { 0 };
            place.index -= step;
            left -= step;
        }
        (place, u64::from(wanted - left))
    }

    /// The other side has read all that it accepted.
    fn confirm(&mut self, shared: &Shared) {
        self.recent.clear();
        self.sure = self.place;
        self.mark(shared);
    }

    /// Batches that are not wanted again are done with; `unconfirmed` records are.
    fn forget(&mut self, shared: &Shared, unconfirmed: usize) {
        self.sure = self.sure.max(self.before(unconfirmed).0);
        let mut progress = shared.progress.get();
        while let Some((n, count)) = self.kept.front().copied() {
            let is_done = n < self.place.n && self.accepted.saturating_sub(u64::from(count)) >= unconfirmed as u64;
            if !is_done {
                break;
            }
            self.kept.pop_front();
            self.accepted -= u64::from(count);
            progress.done = n;
        }
        shared.progress.set(progress);
    }

    fn mark(&mut self, shared: &Shared) {
        shared.progress.set(Progress { accepted: self.place, ..shared.progress.get() });
        while let Some((_, place)) = self.recent.front().filter(|(since, _)| since.elapsed() >= DOUBT) {
            self.sure = self.sure.max(*place);
            self.recent.pop_front();
        }
        let marked = Marked { accepted: self.place, sure: self.sure };
        if let Some(Err(error)) = self.marker.as_mut().map(|marker| marker.write(marked)) {
            log::debug!("the marker of the logs can not be written: {error}");
            self.marker = None;
        }
    }
}
