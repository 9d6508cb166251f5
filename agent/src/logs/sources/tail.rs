//! One file, read line by line as it grows.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::fingerprint::{self, HEAD, LINE, Print};
use super::multiline::{Joined, Joiner, Line, Rule};
use super::position::{Id, Place};

/// A file that is read.
pub(super) struct Tail {
    /// Under which it is known; a rotated one has another name by now.
    pub path: PathBuf,
    pub file: File,
    pub id: Id,
    /// When it was last written to, in nanoseconds, as it was last seen.
    pub modified: i64,
    /// Since when its path is another file's.
    pub rotated: Option<Instant>,
    /// It was read to the end that it had.
    pub is_at_end: bool,
    /// When it was last longer than before.
    pub grown: Instant,
    /// The watch on it.
    pub watch: Option<i32>,
    size: u64,
    /// What was read of it.
    offset: u64,
    /// Behind the last record that was passed on.
    done: u64,
    /// Of the last line before `done`.
    done_line: Print,
    /// Of the last line that was read.
    last_line: Print,
    /// The first bytes, as far as they were read.
    head: Vec<u8>,
    /// A line without its end, which begins there.
    partial: Vec<u8>,
    partial_at: u64,
    /// Bytes of it that were not kept.
    over: u64,
    joiner: Joiner,
}

/// What a look at a file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// As it was, or longer.
    Same,
    /// It is shorter, or other text is in it: it was cut and is written anew.
    Other,
}

/// Opens a regular file. A link is followed only where the configuration names it.
pub(super) fn open(path: &Path, follows: bool) -> io::Result<Option<(File, Id, i64)>> {
    // Without waiting, should it be a pipe.
    let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    flags.set(OFlags::NOFOLLOW, !follows);
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(OwnedFd::from(file)),
        Err(rustix::io::Errno::LOOP) if !follows => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let known = file.metadata()?;
    let id = Id { device: known.dev(), inode: known.ino() };
    Ok(known.is_file().then_some((file, id, modified(&known))))
}

pub(super) fn modified(known: &std::fs::Metadata) -> i64 {
    known.mtime().saturating_mul(1_000_000_000).saturating_add(known.mtime_nsec())
}

impl Tail {
    /// A file that is read from its start.
    pub fn new(path: &Path, file: File, id: Id, modified: i64) -> Self {
        Self {
            path: path.to_owned(),
            file,
            id,
            modified,
            rotated: None,
            is_at_end: false,
            grown: Instant::now(),
            watch: None,
            size: 0,
            offset: 0,
            done: 0,
            done_line: Print::default(),
            last_line: Print::default(),
            head: Vec::new(),
            partial: Vec::new(),
            partial_at: 0,
            over: 0,
            joiner: Joiner::default(),
        }
    }

    /// Goes on where the place says, of which the file has the prints.
    pub fn at(mut self, done: u64, line: Print) -> io::Result<Self> {
        (self.offset, self.done, self.partial_at) = (done, done, done);
        (self.done_line, self.last_line) = (line, line);
        self.head = fingerprint::head(&self.file, done)?;
        Ok(self)
    }

    /// Goes on behind what is there, but not in the middle of a line.
    pub fn at_end(self, most: usize) -> io::Result<Self> {
        let size = self.file.metadata()?.len();
        let from = size.saturating_sub(most as u64);
        let mut last = vec![0; (size - from) as usize];
        self.file.read_exact_at(&mut last, from)?;
        let Some(feed) = last.iter().rposition(|byte| *byte == b'\n') else {
            // One line without an end, or one that is longer than what is kept of any.
            let done = if from == 0 { 0 } else { size };
            return self.at(done, Print::default());
        };
        let begin = last[..feed].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let print = print(from + begin as u64, &last[begin..feed]);
        self.at(from + feed as u64 + 1, print)
    }

    /// How far it was read, for the position.
    pub fn place(&self) -> Place {
        let length = usize::try_from(self.done).map_or(self.head.len(), |done| done.min(self.head.len()));
        Place {
            path: self.path.clone(),
            id: self.id,
            done: self.done,
            head: Print::new(0, self.head.get(..length).unwrap_or_default()),
            line: self.done_line,
            modified: self.modified,
            is_over: self.rotated.is_some() && self.is_at_end && self.done == self.offset,
        }
    }

    /// Whether there is a line without its end, or one that waits for another.
    pub fn is_clean(&self) -> bool {
        self.done == self.offset
    }

    /// Looks whether it is still the file that was read.
    pub fn look(&mut self) -> io::Result<Look> {
        let known = self.file.metadata()?;
        let (size, modified) = (known.len(), modified(&known));
        if (size, modified) == (self.size, self.modified) && size >= self.offset {
            return Ok(Look::Same);
        }
        if size < self.offset || !self.is_as_read()? {
            return Ok(Look::Other);
        }
        if size > self.size {
            self.grown = Instant::now();
        }
        (self.size, self.modified) = (size, modified);
        self.is_at_end = self.offset == size;
        Ok(Look::Same)
    }

    fn is_as_read(&self) -> io::Result<bool> {
        let mut head = [0; HEAD];
        let head = &mut head[..self.head.len()];
        match self.file.read_exact_at(head, 0) {
            Ok(()) => Ok(head == self.head && self.last_line.is_of(&self.file)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins anew, at the start.
    pub fn restart(&mut self) {
        (self.size, self.offset, self.done, self.partial_at, self.over) = (0, 0, 0, 0, 0);
        (self.done_line, self.last_line) = (Print::default(), Print::default());
        self.head.clear();
        self.partial.clear();
        self.joiner = Joiner::default();
        self.is_at_end = false;
    }

    /// Reads so many bytes at most; records that are complete go to `done`.
    pub fn read(
        &mut self,
        rule: &Rule,
        most: usize,
        buffer: &mut [u8],
        done: &mut impl FnMut(Joined),
    ) -> io::Result<()> {
        let mut taken = 0;
        while taken < most {
            let length = match self.file.read_at(buffer, self.offset) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let bytes = buffer.get(..length).unwrap_or_default();
            if bytes.is_empty() {
                self.is_at_end = true;
                return Ok(());
            }
            self.is_at_end = false;
            taken += length;
            self.take(rule, bytes, done);
        }
        Ok(())
    }

    fn take(&mut self, rule: &Rule, bytes: &[u8], done: &mut impl FnMut(Joined)) {
        if self.head.len() < HEAD && self.offset == self.head.len() as u64 {
            let room = HEAD - self.head.len();
            self.head.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        }
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..at], &rest[at + 1..]);
            self.offset += at as u64 + 1;
            if self.partial.is_empty() && self.over == 0 {
                self.line(rule, line, 0, done);
            } else {
                self.hold(rule, line);
                let (whole, over) = (std::mem::take(&mut self.partial), std::mem::take(&mut self.over));
                self.line(rule, &whole, over, done);
            }
            rest = after;
        }
        self.offset += rest.len() as u64;
        self.hold(rule, rest);
    }

    fn hold(&mut self, rule: &Rule, bytes: &[u8]) {
        let room = rule.most_bytes().max(LINE).saturating_sub(self.partial.len());
        let kept = bytes.get(..room).unwrap_or(bytes);
        self.partial.extend_from_slice(kept);
        self.over += (bytes.len() - kept.len()) as u64;
    }

    fn line(&mut self, rule: &Rule, bytes: &[u8], more: u64, done: &mut impl FnMut(Joined)) {
        let print = print(self.partial_at, bytes);
        self.last_line = print;
        self.partial_at = self.offset;
        let line = Line { bytes, more, end: self.offset, print };
        let (passed, passed_line) = (&mut self.done, &mut self.done_line);
        self.joiner.push(rule, &line, &mut |joined| {
            (*passed, *passed_line) = (joined.end, joined.print);
            done(joined);
        });
    }

    /// When lines that wait for others wait no longer.
    pub fn deadline(&self, rule: &Rule) -> Option<Instant> {
        self.joiner.deadline(rule)
    }

    /// What was joined until now is complete.
    pub fn flush(&mut self, done: &mut impl FnMut(Joined)) {
        let (passed, passed_line) = (&mut self.done, &mut self.done_line);
        self.joiner.flush(&mut |joined| {
            (*passed, *passed_line) = (joined.end, joined.print);
            done(joined);
        });
    }

    /// So is a line without its end.
    pub fn flush_all(&mut self, rule: &Rule, done: &mut impl FnMut(Joined)) {
        if !self.partial.is_empty() || self.over > 0 {
            let (whole, over) = (std::mem::take(&mut self.partial), std::mem::take(&mut self.over));
            self.line(rule, &whole, over, done);
        }
        self.flush(done);
    }

    /// When it is given up, if it was rotated: so long its writer may take to open the new one.
    pub fn end(&self, grace: Duration) -> Option<Instant> {
        self.rotated.map(|rotated| rotated.max(self.grown) + grace)
    }
}

/// The print of a line that begins there.
fn print(at: u64, line: &[u8]) -> Print {
    Print::new(at, line.get(..LINE).unwrap_or(line))
}
