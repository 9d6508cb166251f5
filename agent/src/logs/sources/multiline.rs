//! Lines that are joined to one record.

use std::time::{Duration, Instant};

use super::fingerprint::Print;
use super::prefix;
use crate::config::{FilesSource, LineBegin};

/// Which lines belong together, and how many at most.
pub(super) struct Rule {
    continuation: Vec<u8>,
    begins: Option<LineBegin>,
    most_lines: usize,
    most_bytes: usize,
    linger: Duration,
}

/// A line of a file, without its line feed.
pub(super) struct Line<'a> {
    pub bytes: &'a [u8],
    /// Bytes of it that were not kept.
    pub more: u64,
    /// Where in the file the next line begins.
    pub end: u64,
    pub print: Print,
}

/// Lines that were joined.
#[derive(Debug)]
pub(super) struct Joined {
    pub text: Vec<u8>,
    pub more: u64,
    pub end: u64,
    /// Of the last line.
    pub print: Print,
    lines: usize,
    since: Instant,
}

/// Joins the lines of one file.
#[derive(Default)]
pub(super) struct Joiner(Option<Joined>);

impl Rule {
    pub fn new(settings: &FilesSource, max_size: usize) -> Self {
        Self {
            continuation: settings.continuation.clone().into_bytes(),
            begins: settings.begins.clone(),
            most_lines: settings.max_lines,
            most_bytes: max_size,
            linger: settings.linger,
        }
    }

    /// Bytes of a record at most.
    pub fn most_bytes(&self) -> usize {
        self.most_bytes
    }

    fn joins_any(&self) -> bool {
        !self.continuation.is_empty() || self.begins.is_some()
    }

    /// Whether the line belongs to the one before it.
    fn continues(&self, line: &[u8]) -> bool {
        match &self.begins {
            Some(LineBegin::Time) => !prefix::begins_with_time(line),
            Some(LineBegin::Prefix(prefix)) => !line.starts_with(prefix.as_bytes()),
            None => line.first().is_some_and(|first| self.continuation.contains(first)),
        }
    }
}

impl Joiner {
    /// Takes the next line; what is complete goes to `done`.
    pub fn push(&mut self, rule: &Rule, line: &Line<'_>, done: &mut impl FnMut(Joined)) {
        if let Some(held) = &mut self.0 {
            let fits = held.lines < rule.most_lines && held.text.len() + line.bytes.len() < rule.most_bytes;
            if fits && held.more == 0 && rule.continues(line.bytes) {
                held.text.push(b'\n');
                held.text.extend_from_slice(line.bytes);
                (held.more, held.end, held.print) = (line.more, line.end, line.print);
                held.lines += 1;
                held.since = Instant::now();
                return;
            }
        }
        self.flush(done);
        let text = line.bytes.to_vec();
        let joined =
            Joined { text, more: line.more, end: line.end, print: line.print, lines: 1, since: Instant::now() };
        match rule.joins_any() {
            true => self.0 = Some(joined),
            false => done(joined),
        }
    }

    /// What there is is complete.
    pub fn flush(&mut self, done: &mut impl FnMut(Joined)) {
        if let Some(held) = self.0.take() {
            done(held);
        }
    }

    /// When what there is is complete, whatever comes.
    pub fn deadline(&self, rule: &Rule) -> Option<Instant> {
        self.0.as_ref().map(|held| held.since + rule.linger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(settings: &FilesSource, max_size: usize, lines: &[&str]) -> Vec<(String, u64)> {
        let rule = Rule::new(settings, max_size);
        let (mut joiner, mut all, mut end) = (Joiner::default(), Vec::new(), 0);
        let mut done = |joined: Joined| all.push((String::from_utf8_lossy(&joined.text).into_owned(), joined.end));
        for line in lines {
            end += line.len() as u64 + 1;
            joiner.push(&rule, &Line { bytes: line.as_bytes(), more: 0, end, print: Print::default() }, &mut done);
        }
        joiner.flush(&mut done);
        all
    }

    fn row(text: &str, end: u64) -> (String, u64) {
        (text.to_owned(), end)
    }

    #[test]
    fn lines_that_belong_together_become_one_record_with_the_place_behind_it() {
        let d = FilesSource::default;
        assert_eq!(
            join(&d(), 100, &["a", " b", "\tc", "d", "", "e"]),
            [row("a\n b\n\tc", 8), row("d", 10), row("", 11), row("e", 13)]
        );
        let off = FilesSource { continuation: String::new(), ..d() };
        assert_eq!(join(&off, 100, &["a", " b"]), [row("a", 2), row(" b", 5)]);
        let prefix = FilesSource { begins: Some(LineBegin::Prefix(">".into())), ..d() };
        assert_eq!(join(&prefix, 100, &["x", ">a", "b", ">c"]), [row("x", 2), row(">a\nb", 7), row(">c", 10)]);
        let time = FilesSource { begins: Some(LineBegin::Time), ..d() };
        let lines = ["2026-11-22T10:11:12Z a", "Traceback", "[2026-11-22 10:11:13] b"];
        assert_eq!(join(&time, 100, &lines).len(), 2);
    }

    #[test]
    fn joins_are_bounded_and_lose_nothing() {
        let few = FilesSource { max_lines: 3, ..FilesSource::default() };
        assert_eq!(join(&few, 100, &["a", " b", " c", " d", "e"]), [row("a\n b\n c", 8), row(" d", 11), row("e", 13)]);
        assert_eq!(
            join(&FilesSource::default(), 6, &["aaa", " bb", " c"]),
            [row("aaa", 4), row(" bb\n c", 11)].as_slice()
        );
    }
}
