//! systemd's journal, read by its own program, `journalctl`.
//!
//! The program writes the export format, which costs it and us less than half of what JSON does and needs no convention for
//! bytes that are no text. It is asked to begin *with* the entry of the last cursor, not behind it: when that entry comes
//! first it is passed over, and when another comes, the old one is gone, which is said and costs none of the entries that
//! are still there. (`--after-cursor` passes over an entry in either case.)

use std::io;
use std::time::{Duration, Instant};

use smol::Timer;

use super::super::{Batch, Next, Record, Source};
use super::child::Child;
use super::cursor::Cursor;
use super::export::{Entry, Parser};
use super::filter::Filter;
use super::text::{said, text};
use super::{GATHER, MOST_BYTES, MOST_RECORDS, QUIET};
use crate::config::{JournalSource, LogFilter, LogStart};
use crate::net::Backoff;

/// Read from the pipe at once.
const PIECE: usize = 64 * 1024;
/// Only these fields are written; the cursor, the times and the boot always are.
const FIELDS: &str = "--output-fields=MESSAGE,PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,SYSLOG_PID,_COMM,_PID,_SYSTEMD_UNIT,\
                      UNIT,_TRANSPORT";
/// So often the program may fail with a cursor before it is started without.
const FAILURES: u32 = 3;

/// The journal.
pub(super) struct Journal {
    name: String,
    settings: JournalSource,
    intake: Intake,
    /// Nothing was ever read: where to begin is not known yet.
    is_new: bool,
    run: Option<Run>,
    backoff: Backoff,
    /// The program is not started before.
    pause: Option<Instant>,
    /// Ends of the program before it wrote anything, in a row.
    failures: u32,
    buffer: Vec<u8>,
    /// When a position was last passed on.
    placed: Instant,
}

/// The program, running.
struct Run {
    child: Child,
    parser: Parser,
    /// It only looks for the last entry.
    is_probe: bool,
    /// Entries that it wrote.
    entries: u64,
    /// What is there now is read then, together with what comes until then.
    gathered: Option<Instant>,
    /// The last reading ended before the pipe was empty.
    is_behind: bool,
}

/// What becomes of the entries.
struct Intake {
    filter: Filter,
    kernel: bool,
    max_size: usize,
    /// Of the last entry that was taken; empty: before the first.
    cursor: String,
    /// The entry that should come first, of which the records were passed on.
    expected: Option<Cursor>,
    /// Entries until this one were passed on.
    until: Option<Cursor>,
    records: Vec<Record>,
    bytes: usize,
}

impl Journal {
    pub fn new(
        name: &str,
        settings: &JournalSource,
        max_size: usize,
        filter: &LogFilter,
        position: Option<&str>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            settings: settings.clone(),
            intake: Intake {
                filter: Filter::new(filter),
                kernel: settings.kernel,
                max_size,
                cursor: position.unwrap_or_default().to_owned(),
                expected: None,
                until: None,
                records: Vec::new(),
                bytes: 0,
            },
            is_new: position.is_none(),
            run: None,
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(60)),
            pause: None,
            failures: 0,
            buffer: vec![0; PIECE],
            placed: Instant::now(),
        }
    }

    async fn batch(&mut self) -> io::Result<Batch> {
        loop {
            let run = match self.run.take() {
                Some(run) => self.run.insert(run),
                None => match self.start().await {
                    Some(run) => self.run.insert(run),
                    None => continue,
                },
            };
            run.gather().await?;
            // From here to the return nothing waits, so nothing that was read can be dropped.
            let is_open = run.read(&mut self.buffer, &mut self.intake)?;
            if !is_open && self.end().await {
                return Ok(self.take());
            }
            let is_due = self.placed.elapsed() > QUIET && self.intake.has_moved();
            if !self.intake.records.is_empty() || is_due {
                return Ok(self.take());
            }
        }
    }

    /// Starts the program when it is time.
    async fn start(&mut self) -> Option<Run> {
        if let Some(pause) = self.pause {
            Timer::at(pause).await;
            self.pause = None;
        }
        let is_probe = self.is_new && self.settings.start == LogStart::End;
        let cursor = format!("--cursor={}", self.intake.cursor);
        let mut arguments = vec!["--output=export", FIELDS, "--no-pager", "--all"];
        let knows = !self.intake.cursor.is_empty();
        match (is_probe, knows) {
            (true, _) => arguments.push("--lines=1"),
            (false, true) if self.intake.until.is_none() => {
                arguments.extend(["--follow", "--no-tail", cursor.as_str()])
            }
            (false, false) if self.is_new && self.settings.start == LogStart::Boot => {
                arguments.extend(["--follow", "--no-tail", "--boot"]);
            }
            _ => arguments.extend(["--follow", "--no-tail"]),
        }
        self.intake.expected = match knows && self.intake.until.is_none() {
            true => Cursor::parse(&self.intake.cursor),
            false => None,
        };
        match Child::start(&self.settings.program, &arguments) {
            Ok(child) => Some(Run {
                child,
                parser: Parser::new(self.intake.max_size),
                is_probe,
                entries: 0,
                gathered: None,
                is_behind: false,
            }),
            Err(error) => {
                let program = self.settings.program.display();
                let advice = match error.kind() {
                    io::ErrorKind::NotFound => ": without systemd, take the source `journal` out of logs.sources",
                    _ => "",
                };
                self.rest(&format!("{program} cannot be started: {error}{advice}"));
                None
            }
        }
    }

    /// The program has ended; `true` when there is something to pass on.
    async fn end(&mut self) -> bool {
        let Some(run) = &mut self.run else { return false };
        let (is_success, how) = run.child.end().await;
        let Some(run) = self.run.take() else { return false };
        if run.is_probe && (is_success || run.entries > 0) {
            // The entry that it found is the last that is not read.
            self.intake.records.clear();
            self.intake.bytes = 0;
            self.is_new = false;
            self.failures = 0;
            return true;
        }
        if run.entries > 0 {
            self.backoff.reset();
            self.failures = 0;
        }
        self.rest(&format!("journalctl ended ({how})"));
        if self.failures == FAILURES && self.intake.until.is_none() {
            if let Some(cursor) = Cursor::parse(&self.intake.cursor) {
                self.intake.until = Some(cursor);
                let text = "the journal cannot be read from where it was left; what is older than that is passed over, and \
                            lines may be missing";
                self.intake.records.push(said(text));
                return true;
            }
        }
        false
    }

    /// The program is started again after a pause.
    fn rest(&mut self, why: &str) {
        self.failures = self.failures.saturating_add(1);
        let pause = self.backoff.next();
        self.pause = Some(Instant::now() + pause);
        let advice = match why.to_ascii_lowercase().contains("permission") {
            true => "; expected the agent's user in the group `systemd-journal`",
            false => "",
        };
        // A lasting cause is told less and less often.
        if self.failures.is_power_of_two() {
            log::warn!("{why}{advice}; the next attempt is in {:.1} s", pause.as_secs_f64());
        }
    }

    fn take(&mut self) -> Batch {
        self.placed = Instant::now();
        self.intake.bytes = 0;
        if !self.intake.cursor.is_empty() {
            self.is_new = false;
        }
        Batch { records: std::mem::take(&mut self.intake.records), position: self.intake.cursor.clone() }
    }
}

impl Source for Journal {
    fn name(&self) -> &str {
        &self.name
    }

    fn next(&mut self) -> Next<'_> {
        Box::pin(self.batch())
    }
}

impl Run {
    /// Waits for output, and then a moment for more of it: one wake-up for many lines.
    async fn gather(&mut self) -> io::Result<()> {
        if self.is_behind {
            smol::future::yield_now().await;
            return Ok(());
        }
        let until = match self.gathered {
            Some(until) => until,
            None => {
                self.child.readable().await?;
                *self.gathered.insert(Instant::now() + GATHER)
            }
        };
        Timer::at(until).await;
        self.gathered = None;
        Ok(())
    }

    /// Reads what is there, within the bounds of a batch. `false` at the end of the output.
    fn read(&mut self, buffer: &mut [u8], intake: &mut Intake) -> io::Result<bool> {
        self.is_behind = false;
        while intake.records.len() < MOST_RECORDS && intake.bytes < MOST_BYTES {
            match self.child.read(buffer)? {
                None => return Ok(true),
                Some(0) => return Ok(false),
                Some(length) => {
                    let entries = &mut self.entries;
                    self.parser.feed(buffer.get(..length).unwrap_or_default(), &mut |entry| {
                        *entries += 1;
                        intake.take(entry);
                    });
                }
            }
        }
        self.is_behind = true;
        Ok(true)
    }
}

impl Intake {
    fn take(&mut self, entry: Entry) {
        if self.is_until(&entry.cursor) {
            return;
        }
        let is_known = self.is_known(&entry.cursor);
        self.cursor.clone_from(&entry.cursor);
        let is_kernel = entry.transport.as_deref() == Some("kernel");
        if is_known || (is_kernel && !self.kernel) {
            return;
        }
        let Some(record) = record(entry, is_kernel, self.max_size) else { return };
        if self.filter.passes(&record) {
            self.bytes += record.text.len();
            self.records.push(record);
        }
    }

    /// Whether the entry is older than the one that was lost; then the position stays.
    fn is_until(&mut self, cursor: &str) -> bool {
        if let Some(until) = &self.until {
            if Cursor::parse(cursor).is_some_and(|cursor| cursor.is_until(until)) {
                return true;
            }
            self.until = None;
        }
        false
    }

    /// Whether the entry was passed on before.
    fn is_known(&mut self, cursor: &str) -> bool {
        let Some(expected) = self.expected.take() else { return false };
        if Cursor::parse(cursor).is_some_and(|cursor| cursor.is(&expected)) {
            return true;
        }
        self.records.push(said(
            "the journal no longer has the line that was read last: it was cut (SystemMaxUse, vacuum), and lines between then \
             and the oldest that it has may be missing",
        ));
        false
    }

    /// Whether there is a position to pass on.
    fn has_moved(&self) -> bool {
        !self.cursor.is_empty()
    }
}

fn record(entry: Entry, is_kernel: bool, max_size: usize) -> Option<Record> {
    let message = entry.message?;
    let identifier = entry.identifier.or(entry.command).unwrap_or_else(|| match is_kernel {
        true => "kernel".to_owned(),
        false => "unknown".to_owned(),
    });
    // What the service manager says about a unit belongs to that unit.
    let unit = match entry.pid {
        Some(1) => entry.about_unit.or(entry.unit),
        _ => entry.unit,
    };
    let facility = entry.facility.filter(|facility| *facility < 24);
    Some(Record {
        at: entry.at.unwrap_or_default(),
        severity: entry.priority.filter(|priority| *priority < 8).unwrap_or(6),
        facility: facility.unwrap_or(match (is_kernel, &unit) {
            (true, _) => 0,
            (false, Some(_)) => 3,
            (false, None) => 1,
        }),
        identifier,
        unit,
        pid: entry.pid.or(entry.syslog_pid),
        boot: entry.boot,
        text: text(&message, max_size, entry.more),
    })
}
