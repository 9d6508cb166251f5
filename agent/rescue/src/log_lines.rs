//! The last lines of the agent's log: from the journal, or the end of a file. Best effort, and bounded in time and size.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

/// Lines, at most, and bytes of each.
const LINES: usize = 30;
const LINE: usize = 400;
/// Bytes that are looked through.
const TAIL: u64 = 64 * 1024;
/// For the journal's program, which is slow on slow cards.
const PATIENCE: Duration = Duration::from_millis(1500);
/// The lines are read once for all who ask within this time.
const FRESH: Duration = Duration::from_secs(2);
/// Where it runs, and the program that reads it.
const JOURNAL: &str = "/run/systemd/journal";
const JOURNALCTL: [&str; 2] = ["/usr/bin/journalctl", "/bin/journalctl"];
/// Where logs are when there is no journal; only what is of the agent is taken from them.
const FILES: [&str; 2] = ["/var/log/messages", "/var/log/syslog"];
const NAME: &str = "ioto";

/// The lines and where they are from.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    pub source: Option<String>,
    pub lines: Vec<String>,
}

/// Reads the lines when somebody asks.
#[derive(Debug)]
pub struct LogLines {
    file: Option<PathBuf>,
    last: Mutex<Option<(Instant, Lines)>>,
}

impl LogLines {
    /// From a file, or from where logs are.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file, last: Mutex::new(None) }
    }

    /// The last lines; none when there are none that we may read.
    pub fn get(&self) -> Lines {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, lines)) if at.elapsed() < FRESH => lines.clone(),
            _ => {
                let lines = self.read();
                *last = Some((Instant::now(), lines.clone()));
                lines
            }
        }
    }

    fn read(&self) -> Lines {
        let lines_of = |source: &str, bytes: &[u8], all: bool| {
            let lines = last_lines(bytes, all);
            (!lines.is_empty()).then(|| Lines { source: Some(source.to_owned()), lines })
        };
        if let Some(path) = &self.file {
            return tail(path).and_then(|bytes| lines_of(&path.to_string_lossy(), &bytes, true)).unwrap_or_default();
        }
        let journal = || journal().and_then(|bytes| lines_of("journal", &bytes, true));
        let file = |path: &&str| tail(Path::new(path)).and_then(|bytes| lines_of(path, &bytes, false));
        journal().or_else(|| FILES.iter().find_map(file)).unwrap_or_default()
    }
}

fn tail(path: &Path) -> Option<Vec<u8>> {
    // Not waiting for the writer of a pipe that somebody put there.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut file = rustix::fs::open(path, flags, Mode::empty()).map(File::from).ok()?;
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    // The first line is one in full only when the file begins with it.
    let start = if metadata.len() > TAIL { bytes.iter().position(|byte| *byte == b'\n')? } else { 0 };
    Some(bytes.split_off(start))
}

fn journal() -> Option<Vec<u8>> {
    let program = JOURNALCTL.iter().find(|program| Path::new(JOURNAL).exists() && Path::new(program).exists())?;
    let count = LINES.to_string();
    let mut child = Command::new(program)
        .args(["--unit", "ioto.service", "--boot", "--lines", &count, "--output", "short-iso", "--no-pager", "--quiet"])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let bytes = read_in_time(&mut child);
    // It has said all, or is too slow.
    let _ = child.kill();
    let _ = child.wait();
    bytes
}

fn read_in_time(child: &mut Child) -> Option<Vec<u8>> {
    let mut pipe = child.stdout.take()?;
    let deadline = Instant::now() + PATIENCE;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while (bytes.len() as u64) < TAIL {
        let left = deadline.checked_duration_since(Instant::now())?;
        let left = Timespec::try_from(left).ok()?;
        match poll(&mut [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)], Some(&left)) {
            Ok(0) => return None,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(bytes)
}

/// The last lines, cut to size, without control characters.
fn last_lines(bytes: &[u8], all: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let ours = text.lines().filter(|line| !line.is_empty() && (all || line.contains(NAME)));
    let mut lines: Vec<String> = ours.rev().take(LINES).map(clean).collect();
    lines.reverse();
    lines
}

fn clean(line: &str) -> String {
    let end = (0..=LINE.min(line.len())).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
    line[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_last_and_cut() {
        let text: String = (0..100).map(|n| format!("line {n} \x1b[0m {}\n", "ä".repeat(LINE))).collect();
        let lines = last_lines(text.as_bytes(), true);
        assert_eq!(lines.len(), LINES);
        assert!(lines[0].starts_with("line 70  [0m ä") && lines[0].len() <= LINE, "{:?}", lines[0]);
        assert_eq!(last_lines(b"x ioto: a\ny other: b\n\xff ioto[1]: c", false), ["x ioto: a", "\u{fffd} ioto[1]: c"]);
    }

    #[test]
    fn a_file_is_read_from_its_end() {
        let path = std::env::temp_dir().join(format!("ioto-rescue-log-{}", std::process::id()));
        let text: String = (0..100_000).map(|n| format!("{n}\n")).collect();
        std::fs::write(&path, text).unwrap();
        let lines = LogLines::new(Some(path.clone())).get();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((lines.lines.len(), lines.lines.last().map(String::as_str)), (LINES, Some("99999")));
        let missing = LogLines::new(Some(path.clone())).get();
        assert_eq!((missing.lines.len(), missing.source), (0, None));
        // A pipe that nobody writes keeps nobody waiting.
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert_eq!(LogLines::new(Some(path.clone())).get().source, None);
        std::fs::remove_file(&path).unwrap();
    }
}
