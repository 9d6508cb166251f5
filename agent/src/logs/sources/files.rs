//! Files that programs append lines to, over rotation of every kind.
//!
//! A file is known by its device and inode together with prints of its first bytes and of the last line that was read; so a
//! renamed file is read to its end, one that was cut and is written anew is read from its start, and an inode that is used
//! again is another file. What `logrotate` left behind while nobody read is looked for among the rotated names: the file
//! itself, a copy of it (`copytruncate`), and those that came and went since. Only what is nowhere any more is lost, and
//! that is said.

mod left;
mod names;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use smol::Timer;

use super::super::{Batch, Next, Record, Source};
use super::filter::Filter;
use super::multiline::{Joined, Rule};
use super::position::{self, Id, Place};
use super::prefix;
use super::tail::{self, Look, Tail};
use super::text::{said, text};
use super::watch::Watch;
use super::{GATHER, MOST_BYTES, QUIET};
use crate::config::{FilesSource, LogFilter, LogStart};
use crate::net;

/// Names are looked at so often at least, for file systems that do not tell.
const SCAN: Duration = Duration::from_secs(5);
/// Without inotify.
const SCAN_BLIND: Duration = Duration::from_secs(1);
/// A rotated file is read so long after it grew last: its writer may still have it open.
const GRACE: Duration = Duration::from_secs(5);
/// Rotated files that are remembered as read, of each path.
const REMEMBERED: usize = 6;
/// Read from a file at once.
const PIECE: usize = 16 * 1024;
/// Entries of a directory that are looked at.
const MOST_ENTRIES: usize = 10_000;

/// Files.
pub(super) struct Files {
    name: String,
    settings: FilesSource,
    rule: Rule,
    intake: Intake,
    /// Those that are read; of one path, older ones first.
    tails: Vec<Tail>,
    /// Rotated ones that were read to their end.
    read: Vec<Place>,
    /// Where they were left; taken at the first look.
    left: Option<Vec<Place>>,
    is_new: bool,
    is_started: bool,
    watch: Option<Watch>,
    watched: BTreeSet<PathBuf>,
    scanned: Option<Instant>,
    warned: HashSet<PathBuf>,
    gathered: Option<Instant>,
    is_behind: bool,
    pub(super) grace: Duration,
    pub(super) gather: Duration,
    buffer: Vec<u8>,
    placed: Instant,
    has_moved: bool,
}

/// What becomes of the lines.
struct Intake {
    filter: Filter,
    max_size: usize,
    records: Vec<Record>,
    bytes: usize,
}

impl Files {
    pub fn new(
        name: &str,
        settings: &FilesSource,
        max_size: usize,
        filter: &LogFilter,
        position: Option<&str>,
    ) -> Self {
        let watch = Watch::new();
        if let Err(error) = &watch {
            log::warn!("files are looked at every second, since the system tells nothing of them: {error}");
        }
        let mut intake = Intake { filter: Filter::new(filter), max_size, records: Vec::new(), bytes: 0 };
        let left = position.map(position::read);
        if left == Some(None) {
            intake.records.push(said(format!(
                "the position of {name} is of another version: its files are read from their start"
            )));
        }
        Self {
            name: name.to_owned(),
            settings: settings.clone(),
            rule: Rule::new(settings, max_size),
            intake,
            tails: Vec::new(),
            read: Vec::new(),
            left: left.flatten(),
            is_new: position.is_none(),
            is_started: false,
            watch: watch.ok(),
            watched: BTreeSet::new(),
            scanned: None,
            warned: HashSet::new(),
            gathered: None,
            is_behind: true,
            grace: GRACE,
            gather: GATHER,
            buffer: vec![0; PIECE],
            placed: Instant::now(),
            has_moved: false,
        }
    }

    #[cfg(test)]
    pub(super) fn state(&self) -> String {
        let tails: Vec<_> = self.tails.iter().map(|t| (t.place(), t.rotated, t.is_at_end, t.is_clean())).collect();
        format!("LIVE {tails:?} READ {:?}", self.read)
    }

    async fn batch(&mut self) -> io::Result<Batch> {
        loop {
            match self.is_behind {
                true => smol::future::yield_now().await,
                false => self.wait().await?,
            }
            // From here to the return nothing waits, so nothing that was read can be dropped.
            self.turn();
            let is_first = !std::mem::replace(&mut self.is_started, true) && std::mem::take(&mut self.is_new);
            let is_due = self.has_moved && self.placed.elapsed() > QUIET;
            if !self.intake.records.is_empty() || is_due || is_first {
                self.placed = Instant::now();
                self.has_moved = false;
                self.intake.bytes = 0;
                let records = std::mem::take(&mut self.intake.records);
                let places = self.read.iter().cloned().chain(self.tails.iter().map(Tail::place));
                return Ok(Batch { records, position: position::write(places) });
            }
        }
    }

    /// Waits until something happens, and then a moment for more of it.
    async fn wait(&mut self) -> io::Result<()> {
        if self.gathered.is_none() {
            let pause = if self.watch.is_some() { SCAN } else { SCAN_BLIND };
            let scan = self.scanned.map_or_else(Instant::now, |scanned| scanned + pause.min(self.grace));
            let joined = self.tails.iter().filter_map(|tail| tail.deadline(&self.rule)).min();
            let ended = self.tails.iter().filter_map(|tail| tail.end(self.grace)).min();
            let until = [Some(scan), joined, ended].into_iter().flatten().min().unwrap_or(scan);
            let late = async {
                Timer::at(until).await;
                Ok(false)
            };
            let is_told = match &self.watch {
                Some(watch) => smol::future::or(async { watch.changed().await.map(|()| true) }, late).await?,
                None => late.await?,
            };
            if !is_told {
                return Ok(());
            }
            self.gathered = Some(Instant::now() + self.gather);
        }
        if let Some(until) = self.gathered {
            Timer::at(until).await;
            self.gathered = None;
        }
        Ok(())
    }

    /// Looks at names when it is time, and reads what is there, within the bounds of a batch.
    fn turn(&mut self) {
        let told = self.watch.as_ref().is_some_and(Watch::take);
        let pause = if self.watch.is_some() { SCAN } else { SCAN_BLIND };
        if told || self.scanned.is_none_or(|scanned| scanned.elapsed() >= pause.min(self.grace)) {
            self.scanned = Some(Instant::now());
            self.scan();
        }
        self.is_behind = false;
        let share = (MOST_BYTES / self.tails.len().max(1)).max(PIECE);
        let mut index = 0;
        while let Some(tail) = self.tails.get(index) {
            let path = &tail.path;
            // The lines of an older file come first.
            let waits = self.tails.iter().take(index).any(|older| older.path == *path && !older.is_at_end);
            match waits {
                true => self.is_behind = true,
                false => index = self.follow(index, share),
            }
            index += 1;
        }
        self.end_rotated();
    }

    /// Reads on in one file; its index, which changes when others are put before it.
    fn follow(&mut self, index: usize, share: usize) -> usize {
        let Some(tail) = self.tails.get_mut(index) else { return index };
        match tail.look() {
            Ok(Look::Same) => {}
            Ok(Look::Other) => return self.was_cut(index),
            Err(error) => {
                warn_once(&mut self.warned, &tail.path, &format!("cannot be read: {error}"));
                tail.is_at_end = true;
                let (path, intake) = (tail.path.clone(), &mut self.intake);
                tail.flush(&mut |joined| intake.take(&path, joined, net::utc_ms()));
                return index;
            }
        }
        let before = tail.place().done;
        let path = tail.path.clone();
        let now = net::utc_ms();
        let intake = &mut self.intake;
        let mut take = |joined| intake.take(&path, joined, now);
        if let Err(error) = tail.read(&self.rule, share, &mut self.buffer, &mut take) {
            warn_once(&mut self.warned, &tail.path, &format!("cannot be read: {error}"));
            tail.is_at_end = true;
        }
        let is_late = tail.deadline(&self.rule).is_some_and(|deadline| deadline <= Instant::now());
        if is_late || (tail.rotated.is_some() && tail.is_at_end) {
            tail.flush(&mut take);
        }
        self.has_moved |= tail.place().done != before;
        self.is_behind |= !tail.is_at_end;
        index
    }

    /// Gives rotated files up that have been at their end for long enough.
    fn end_rotated(&mut self) {
        let (mut index, now) = (0, Instant::now());
        while let Some(tail) = self.tails.get_mut(index) {
            let is_over = tail.is_at_end && tail.end(self.grace).is_some_and(|end| end <= now);
            if !is_over {
                index += 1;
                continue;
            }
            let (path, intake) = (tail.path.clone(), &mut self.intake);
            tail.flush_all(&self.rule, &mut |joined| intake.take(&path, joined, net::utc_ms()));
            let tail = self.tails.remove(index);
            if let (Some(watch), Some(number)) = (&self.watch, tail.watch) {
                watch.forget(number);
            }
            self.remember(Place { is_over: true, ..tail.place() });
            self.has_moved = true;
        }
    }

    fn remember(&mut self, place: Place) {
        self.read.retain(|other| other.id != place.id);
        if place.done == 0 {
            return;
        }
        if self.read.iter().filter(|other| other.path == place.path).count() >= REMEMBERED {
            if let Some(oldest) = self.read.iter().position(|other| other.path == place.path) {
                self.read.remove(oldest);
            }
        }
        self.read.push(place);
    }

    /// Finds the files there are.
    fn scan(&mut self) {
        self.watch_directories();
        let found = self.paths();
        let left = self.left.clone().unwrap_or_default();
        for (index, place) in left.iter().enumerate() {
            if self.is_wanted(&place.path) {
                let is_last = !left.iter().skip(index + 1).any(|later| later.path == place.path);
                self.resume(place.clone(), is_last);
            }
        }
        self.left = None;
        self.mark_rotated();
        self.find_copies();
        for (path, is_named) in found {
            let opened = match tail::open(&path, is_named) {
                Ok(Some(opened)) => opened,
                Ok(None) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let advice = match error.kind() {
                        io::ErrorKind::PermissionDenied => {
                            ": the agent's user needs to read it, perhaps as member of the group `adm`"
                        }
                        _ => "",
                    };
                    warn_once(&mut self.warned, &path, &format!("cannot be opened: {error}{advice}"));
                    continue;
                }
            };
            self.warned.remove(&path);
            self.discover(&path, opened);
        }
    }

    /// A file has this name.
    fn discover(&mut self, path: &Path, (file, id, modified): (std::fs::File, Id, i64)) {
        if let Some(tail) = self.tails.iter_mut().find(|tail| tail.id == id) {
            // Another name for it, when it has lost the one it had.
            if tail.rotated.is_some() {
                tail.path = path.to_owned();
                tail.rotated = None;
            }
            return;
        }
        let current = self.tails.iter().filter(|tail| tail.rotated.is_none()).count();
        if current >= self.settings.max_files {
            let text = format!("is not read: there are {current} files already, as many as maxFiles allows");
            warn_once(&mut self.warned, path, &text);
            return;
        }
        let tail = Tail::new(path, file, id, modified);
        let tail = match self.is_new && self.settings.start != LogStart::Start {
            true => tail.at_end(self.intake.max_size),
            false => Ok(tail),
        };
        match tail {
            Ok(tail) => {
                match self.is_new {
                    true => self.forgo_rotated(path),
                    false => self.find_between(path),
                }
                let tail = self.watched(tail);
                self.tails.push(tail);
                self.has_moved = true;
                self.is_behind = true;
            }
            Err(error) => warn_once(&mut self.warned, path, &format!("cannot be read: {error}")),
        }
    }

    fn watched(&self, mut tail: Tail) -> Tail {
        tail.watch = self.watch.as_ref().and_then(|watch| watch.file(&tail.file, &tail.path).ok());
        tail
    }
}

impl Source for Files {
    fn name(&self) -> &str {
        &self.name
    }

    fn next(&mut self) -> Next<'_> {
        Box::pin(self.batch())
    }
}

impl Intake {
    fn take(&mut self, path: &Path, joined: Joined, now: i64) {
        let header = prefix::header(&joined.text, now);
        let file = || path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let record = Record {
            at: header.at.unwrap_or_else(|| now.saturating_mul(1000)),
            severity: header.severity.unwrap_or(6),
            facility: header.facility.unwrap_or(1),
            identifier: header.identifier.map_or_else(file, str::to_owned),
            unit: None,
            pid: header.pid,
            boot: None,
            text: text(header.text, self.max_size, joined.more),
        };
        if self.filter.passes(&record) {
            self.bytes += record.text.len();
            self.records.push(record);
        }
    }

    fn say(&mut self, text: String) {
        self.records.push(said(text));
    }
}

/// Warns of a file, once until it goes well.
fn warn_once(warned: &mut HashSet<PathBuf>, path: &Path, text: &str) {
    if warned.len() < MOST_ENTRIES && warned.insert(path.to_owned()) {
        log::warn!("{} {text}", path.display());
    }
}
