//! The agent's heartbeat: a small file on tmpfs that its executor writes again and again, so that others see that it moves.
//!
//! The file is one record of fixed size, written by one `pwrite`: memory that processes share, without `mmap`. A reader takes
//! a record only when everything in it is right, checksum included; a torn one or one of somebody else is no heartbeat. Times are
//! of CLOCK_MONOTONIC, so that neither a changed wall clock nor a suspended machine looks like a hang.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;
use std::{fmt, process};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::process::Pid;
use rustix::time::ClockId;

/// The name of the file in the run directory.
pub const FILE: &str = "heartbeat";
/// How often the executor writes; it is woken up for that.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// A heartbeat that is older is a hang: one may come late, not two.
pub const STALE: Duration = Duration::from_secs(5);
/// How long a start may take until the executor moves: keys are made and databases checked before.
pub const START: Duration = Duration::from_secs(30);

const MAGIC: [u8; 8] = *b"iotobeat";
const VERSION: u32 = 1;
const SIZE: usize = 96;
/// Where the checksum is, behind all that it is of.
const SUM: usize = SIZE - 4;
/// A reader that meets a writer tries again.
const TRIES: usize = 4;

/// Where the agent is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The process is there; its executor may not run yet.
    Starting,
    /// At work.
    Running,
    /// Asked to stop, and stopping its services.
    Stopping,
    /// Ended in good order; the last word.
    Stopped,
}

/// One heartbeat. Times are since the start of the machine, without what it was suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// What the agent says it does.
    pub state: State,
    /// The process.
    pub pid: u32,
    /// How often this process wrote.
    pub sequence: u64,
    /// When this was written.
    pub at: Duration,
    /// When the process started.
    pub started: Duration,
    /// When all services had been started.
    pub ready: Option<Duration>,
    /// How late the executor was, beyond the interval.
    pub lag: Duration,
    /// The how manieth start since boot this is, from 1.
    pub starts: u32,
    /// How many of those before it ended without saying so: killed, or crashed.
    pub crashes: u32,
    /// The boot that this is of.
    pub boot: u128,
}

/// The agent's side: one process holds the file.
#[derive(Debug)]
pub struct Writer {
    file: File,
    beat: Beat,
}

/// Why there is no heartbeat to go by.
#[derive(Debug)]
pub enum Absent {
    /// The file is not there: nothing ran in this directory yet.
    Missing,
    /// It cannot be read.
    Io(io::Error),
    /// It is not a heartbeat, or one of another version.
    Foreign,
    /// It is of an earlier boot.
    EarlierBoot,
}

/// What a heartbeat says on how the agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It lives.
    Alive,
    /// Its process is there, and its executor stands still.
    Hanging,
    /// It was stopped in good order.
    Stopped,
    /// Its process is gone, without a word.
    Dead,
}

impl Writer {
    /// Takes the heartbeat of a run directory, and writes that the agent starts.
    ///
    /// # Errors
    /// The directory cannot be written, what has the name is no file, or another agent holds it ([`ErrorKind::WouldBlock`]).
    pub fn new(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::open(&path, flags, Mode::from_raw_mode(0o640))?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a file"));
        }
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // The group reads it, whatever the umask was.
        file.set_permissions(fs::Permissions::from_mode(0o640))?;
        let before = read_from(&file, boot_id()?).ok();
        let crashed = before.as_ref().is_some_and(|before| before.state != State::Stopped);
        let now = now();
        let beat = Beat {
            state: State::Starting,
            pid: process::id(),
            sequence: 0,
            at: now,
            started: now,
            ready: None,
            lag: Duration::ZERO,
            starts: before.as_ref().map_or(0, |before| before.starts).saturating_add(1),
            crashes: before.map_or(0, |before| before.crashes).saturating_add(crashed.into()),
            boot: boot_id()?,
        };
        let mut writer = Self { file, beat };
        // What is there may be longer, and is not ours.
        writer.file.set_len(SIZE as u64)?;
        writer.write()?;
        Ok(writer)
    }

    /// Writes that the executor moves.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn beat(&mut self, lag: Duration) -> io::Result<()> {
        self.beat.lag = lag;
        self.write()
    }

    /// Writes that the agent is in another state now.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn state(&mut self, state: State) -> io::Result<()> {
        self.beat.state = state;
        if state == State::Running {
            self.beat.ready.get_or_insert_with(now);
        }
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        self.beat.sequence += 1;
        self.beat.at = now();
        self.file.write_all_at(&encode(&self.beat), 0)
    }
}

/// Reads the heartbeat of a run directory, whose agent need not run any more.
///
/// # Errors
/// There is none, or none of this boot.
pub fn read(directory: &Path) -> Result<Beat, Absent> {
    // Not waiting for the writer of a pipe that somebody put there.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(directory.join(FILE), flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Err(Absent::Missing),
        Err(rustix::io::Errno::LOOP) => return Err(Absent::Foreign),
        Err(error) => return Err(Absent::Io(error.into())),
    };
    let kind = rustix::fs::fstat(&file).map_err(|error| Absent::Io(error.into()))?;
    if FileType::from_raw_mode(kind.st_mode) != FileType::RegularFile {
        return Err(Absent::Foreign);
    }
    read_from(&file, boot_id().map_err(Absent::Io)?)
}

fn read_from(file: &File, boot: u128) -> Result<Beat, Absent> {
    let mut record = [0; SIZE];
    for _ in 0..TRIES {
        match file.read_exact_at(&mut record, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(Absent::Foreign),
            Err(error) => return Err(Absent::Io(error)),
        }
        if let Some(beat) = decode(&record) {
            return if beat.boot == boot { Ok(beat) } else { Err(Absent::EarlierBoot) };
        }
    }
    Err(Absent::Foreign)
}

impl Beat {
    /// How long ago it was written.
    pub fn age(&self) -> Duration {
        now().saturating_sub(self.at)
    }

    /// Whether the process is there. (Its number may belong to another one meanwhile, in rare cases.)
    pub fn has_process(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw);
        // A process of another user is there as well.
        pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
    }

    /// How the agent is, if a heartbeat older than `stale` is a hang.
    pub fn health(&self, stale: Duration) -> Health {
        self.judge(self.age(), self.has_process(), stale)
    }

    fn judge(&self, age: Duration, process: bool, stale: Duration) -> Health {
        let limit = match self.state {
            State::Stopped => return Health::Stopped,
            State::Starting if self.sequence <= 1 => stale.max(START),
            _ => stale,
        };
        match process {
            false => Health::Dead,
            true if age > limit => Health::Hanging,
            true => Health::Alive,
        }
    }

    /// How the agent is, in a sentence without a full stop.
    pub fn describe(&self, stale: Duration) -> String {
        let (pid, age) = (self.pid, seconds(self.age()));
        match (self.health(stale), self.state) {
            (Health::Alive, State::Starting) => format!("the agent starts (pid {pid})"),
            (Health::Alive, State::Stopping) => format!("the agent is stopping (pid {pid})"),
            (Health::Alive, _) => format!("the agent lives: last heartbeat {age} ago (pid {pid})"),
            (Health::Hanging, _) => format!("the agent hangs: no heartbeat for {age} (pid {pid})"),
            (Health::Stopped, _) => format!("the agent was stopped {age} ago"),
            (Health::Dead, _) => format!("the agent is gone without a word: last heartbeat {age} ago (pid {pid})"),
        }
    }
}

/// Whole seconds, and tenths of few.
fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{seconds} s"),
    }
}

/// Since the start of the machine, without what it was suspended: what the times of a [`Beat`] count from.
pub fn now() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// The kernel's number of this boot.
///
/// # Errors
/// `/proc` cannot be read.
pub fn boot_id() -> io::Result<u128> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).map_err(|_| io::Error::new(ErrorKind::InvalidData, "boot_id is not a number"))
}

fn encode(beat: &Beat) -> [u8; SIZE] {
    let mut record = [0; SIZE];
    let mut rest = &mut record[..];
    let mut put = |bytes: &[u8]| {
        let (field, behind) = std::mem::take(&mut rest).split_at_mut(bytes.len());
        field.copy_from_slice(bytes);
        rest = behind;
    };
    put(&MAGIC);
    put(&VERSION.to_le_bytes());
    put(&[beat.state as u8, 0, 0, 0]);
    put(&beat.pid.to_le_bytes());
    put(&u32::try_from(beat.lag.as_millis()).unwrap_or(u32::MAX).to_le_bytes());
    put(&beat.sequence.to_le_bytes());
    for time in [Some(beat.at), Some(beat.started), beat.ready] {
        // Nanoseconds since boot have 584 years.
        put(&u64::try_from(time.map_or(0, |time| time.as_nanos())).unwrap_or(u64::MAX).to_le_bytes());
    }
    put(&beat.starts.to_le_bytes());
    put(&beat.crashes.to_le_bytes());
    put(&beat.boot.to_le_bytes());
    let sum = checksum(&record[..SUM]);
    record[SUM..].copy_from_slice(&sum.to_le_bytes());
    record
}

fn decode(record: &[u8; SIZE]) -> Option<Beat> {
    let word = |at: usize| Some(u32::from_le_bytes(record.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_le_bytes(record.get(at..at + 8)?.try_into().ok()?));
    if record[..8] != MAGIC || word(8)? != VERSION || word(SUM)? != checksum(&record[..SUM]) {
        return None;
    }
    let state = match word(12)? {
        0 => State::Starting,
        1 => State::Running,
        2 => State::Stopping,
        3 => State::Stopped,
        _ => return None,
    };
    let ready = long(48)?;
    Some(Beat {
        state,
        pid: word(16)?,
        lag: Duration::from_millis(word(20)?.into()),
        sequence: long(24)?,
        at: Duration::from_nanos(long(32)?),
        started: Duration::from_nanos(long(40)?),
        ready: (ready > 0).then(|| Duration::from_nanos(ready)),
        starts: word(56)?,
        crashes: word(60)?,
        boot: u128::from_le_bytes(record.get(64..80)?.try_into().ok()?),
    })
}

/// FNV-1a: tells a torn record from a whole one, and keeps out what was never one. No defence: the file's mode is that.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Starting => "starting",
            State::Running => "running",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
        })
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Health::Alive => "alive",
            Health::Hanging => "hanging",
            Health::Stopped => "stopped",
            Health::Dead => "dead",
        })
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Absent::Missing => f.write_str("no heartbeat: no agent ran here since boot"),
            Absent::Io(error) => write!(f, "no heartbeat: it cannot be read: {error}"),
            Absent::Foreign => f.write_str("no heartbeat: the file is not one of this version"),
            Absent::EarlierBoot => f.write_str("no heartbeat: the file is of an earlier boot"),
        }
    }
}

impl std::error::Error for Absent {}

#[cfg(test)]
#[path = "heartbeat_tests.rs"]
mod tests;
