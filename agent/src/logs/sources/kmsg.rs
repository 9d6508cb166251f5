//! The kernel's own buffer, `/dev/kmsg`: a record a read, `priority,sequence,microseconds,flags;text`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use nix::time::{ClockId, clock_gettime};
use rustix::fs::{Mode, OFlags, SeekFrom};
use smol::{Async, Timer};

use super::super::{Batch, Next, Record, Source};
use super::filter::Filter;
use super::prefix;
use super::text::{said, text};
use super::{GATHER, MOST_BYTES, MOST_RECORDS, QUIET};
use crate::config::{KernelSource, LogFilter, LogSource, LogSourceKind, LogStart};

/// The kernel writes 8 KB at most.
const LONGEST: usize = 16 * 1024;
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Buffers of the kernel that were opened while the process was allowed to, for its whole life: with
/// `kernel.dmesg_restrict=1` the agent's user is not.
#[derive(Default)]
pub struct Reserved {
    /// By source: what two of them read of one opened file each would miss.
    devices: Vec<(String, OwnedFd)>,
}

impl Reserved {
    /// Opens what the sources want. What cannot be opened is tried again when it is read, where it is told too.
    pub fn open(sources: &[LogSource]) -> Self {
        let device = |source: &LogSource| match &source.kind {
            LogSourceKind::Kernel(kernel) => Some((source.name.clone(), open(&kernel.device).ok()?)),
            _ => None,
        };
        Self { devices: sources.iter().filter_map(device).collect() }
    }

    /// The one of a source, as if it had just been opened.
    pub(super) fn take(&self, source: &str) -> Option<OwnedFd> {
        let (_, device) = self.devices.iter().find(|(name, _)| name == source)?;
        // It goes on where it was read last, else.
        rustix::fs::seek(device, SeekFrom::Start(0)).ok()?;
        device.try_clone().ok()
    }
}

/// The kernel's buffer.
pub(super) struct Kernel {
    name: String,
    settings: KernelSource,
    intake: Intake,
    reserved: Option<OwnedFd>,
    device: Option<Async<OwnedFd>>,
    /// What is there now is passed over.
    is_new: bool,
    gathered: Option<Instant>,
    is_behind: bool,
    buffer: Vec<u8>,
    placed: Instant,
}

/// What becomes of the kernel's records.
struct Intake {
    filter: Filter,
    max_size: usize,
    boot: String,
    /// The last record that was taken.
    last: Option<u64>,
    /// Records were overwritten before they were read.
    is_overrun: bool,
    /// Microseconds between the start of the system and 1970.
    offset: i64,
    records: Vec<Record>,
    bytes: usize,
}

/// A line of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    severity: u8,
    facility: u8,
    sequence: u64,
    /// Since the start of the system, in microseconds.
    at: i64,
    text: Vec<u8>,
}

impl Kernel {
    pub fn new(
        name: &str,
        settings: &KernelSource,
        max_size: usize,
        filter: &LogFilter,
        position: Option<&str>,
        reserved: Option<OwnedFd>,
    ) -> Self {
        let boot = std::fs::read_to_string(BOOT).unwrap_or_default().trim().replace('-', "");
        // The position of another boot says nothing about this one.
        let of_boot = position.and_then(|position| position.split_once(':')).filter(|(of, _)| *of == boot);
        let last = of_boot.and_then(|(_, last)| last.parse().ok());
        Self {
            name: name.to_owned(),
            settings: settings.clone(),
            intake: Intake {
                filter: Filter::new(filter),
                max_size,
                last,
                boot,
                // Perhaps nobody read for too long.
                is_overrun: last.is_some(),
                offset: 0,
                records: Vec::new(),
                bytes: 0,
            },
            reserved,
            device: None,
            is_new: position.is_none() && settings.start == LogStart::End,
            gathered: None,
            is_behind: true,
            buffer: vec![0; LONGEST],
            placed: Instant::now(),
        }
    }

    async fn batch(&mut self) -> io::Result<Batch> {
        loop {
            let device = match self.device.take() {
                Some(device) => self.device.insert(device),
                None => {
                    let opened = self.reserved.take().map_or_else(|| open(&self.settings.device), Ok)?;
                    self.device.insert(Async::new_nonblocking(opened)?)
                }
            };
            if !self.is_behind {
                let until = match self.gathered {
                    Some(until) => until,
                    None => {
                        device.readable().await?;
                        *self.gathered.insert(Instant::now() + GATHER)
                    }
                };
                Timer::at(until).await;
                self.gathered = None;
            } else {
                smol::future::yield_now().await;
            }
            self.intake.offset = offset();
            self.is_behind = read(device, &mut self.buffer, &mut self.intake)?;
            if self.is_new {
                self.intake.records.clear();
                self.is_new = self.is_behind;
                if !self.is_new {
                    return Ok(self.take());
                }
            }
            let is_due = self.placed.elapsed() > QUIET && self.intake.last.is_some();
            if !self.intake.records.is_empty() || is_due {
                return Ok(self.take());
            }
        }
    }

    fn take(&mut self) -> Batch {
        self.placed = Instant::now();
        self.intake.bytes = 0;
        let last = self.intake.last.map_or_else(String::new, |last| last.to_string());
        Batch { records: std::mem::take(&mut self.intake.records), position: format!("{}:{last}", self.intake.boot) }
    }
}

impl Source for Kernel {
    fn name(&self) -> &str {
        &self.name
    }

    fn next(&mut self) -> Next<'_> {
        Box::pin(self.batch())
    }
}

fn open(device: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(device, flags, Mode::empty()).map_err(io::Error::from).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                ": the agent's user needs to read it (group `adm`) and, with kernel.dmesg_restrict=1, CAP_SYSLOG; an agent \
                 that is started as root opens it before it becomes that user"
            }
            _ => "",
        };
        io::Error::new(error.kind(), format!("{} cannot be opened: {error}{advice}", device.display()))
    })
}

/// Takes what is there, within the bounds of a batch; `true` when there may be more.
fn read(device: &Async<OwnedFd>, buffer: &mut [u8], intake: &mut Intake) -> io::Result<bool> {
    while intake.records.len() < MOST_RECORDS && intake.bytes < MOST_BYTES {
        match rustix::io::read(device, &mut *buffer) {
            Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(false),
            Ok(length) => intake.take(buffer.get(..length).unwrap_or_default()),
            Err(rustix::io::Errno::PIPE) => intake.is_overrun = true,
            // A record that is longer than all that the kernel writes: it is passed over.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

impl Intake {
    fn take(&mut self, bytes: &[u8]) {
        let Some(line) = parse(bytes) else { return };
        if self.last.is_some_and(|last| line.sequence <= last) {
            return;
        }
        let first_missing = self.last.map_or(0, |last| last + 1);
        let lost = line.sequence - first_missing;
        // Numbers may be missing for other reasons while it is read; at the start of a boot's reading they are not ours.
        if std::mem::take(&mut self.is_overrun) && lost > 0 && self.last.is_some() {
            self.records.push(said(format!(
                "{lost} lines of the kernel were lost: it wrote faster than they were read, or they were read too late (log_buf_len)"
            )));
        }
        self.last = Some(line.sequence);
        let (identifier, pid, rest) = match line.facility {
            0 => ("kernel", None, line.text.as_slice()),
            // Written by a program.
            _ => prefix::tag(&line.text).unwrap_or(("unknown", None, line.text.as_slice())),
        };
        let record = Record {
            at: self.offset.saturating_add(line.at),
            severity: line.severity,
            facility: line.facility,
            identifier: identifier.to_owned(),
            unit: None,
            pid,
            boot: Some(self.boot.clone()),
            text: text(rest, self.max_size, 0),
        };
        if self.filter.passes(&record) {
            self.bytes += record.text.len();
            self.records.push(record);
        }
    }
}

/// `6,339,5140900,-,caller=T1;NET: Registered\n SUBSYSTEM=net\n`; the lines behind the first are not kept.
fn parse(bytes: &[u8]) -> Option<Line> {
    let at = bytes.iter().position(|byte| *byte == b';')?;
    let head = std::str::from_utf8(&bytes[..at]).ok()?;
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let sequence = fields.next()?.parse().ok()?;
    let since = fields.next()?.parse().ok()?;
    let text = bytes[at + 1..].split(|byte| *byte == b'\n').next().unwrap_or_default();
    Some(Line {
        severity: (priority & 7) as u8,
        facility: u8::try_from(priority >> 3).ok().filter(|facility| *facility < 24).unwrap_or(1),
        sequence,
        at: since,
        text: unescape(text),
    })
}

/// `\x0a` is a line feed.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = after.strip_prefix(b"x").and_then(|code| code.get(..2));
        let byte =
            code.and_then(|code| std::str::from_utf8(code).ok()).and_then(|code| u8::from_str_radix(code, 16).ok());
        match byte.filter(|_| *first == b'\\') {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

/// What is added to the time since the start of the system.
#[allow(clippy::useless_conversion, reason = "the numbers have 32 bits on some devices")]
fn offset() -> i64 {
    let microseconds = |clock| {
        clock_gettime(clock).map_or(0, |time| i64::from(time.tv_sec()) * 1_000_000 + i64::from(time.tv_nsec()) / 1000)
    };
    microseconds(ClockId::CLOCK_REALTIME) - microseconds(ClockId::CLOCK_MONOTONIC)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn intake(last: Option<u64>) -> Intake {
        Intake {
            filter: Filter::new(&LogFilter::default()),
            max_size: 1000,
            boot: "b".into(),
            last,
            is_overrun: false,
            offset: 1_000_000,
            records: Vec::new(),
            bytes: 0,
        }
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        for (bytes, severity, facility, sequence, at, text) in [
            ("6,339,5140900,-;NET: Registered\n", 6, 0, 339, 5_140_900, "NET: Registered"),
            (
                "7,160,424069,-,caller=T1;pci: x\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n",
                7,
                0,
                160,
                424_069,
                "pci: x",
            ),
            ("30,2,1,c;systemd[1]: a;b\\x0ac\\x5cx\\xzz\\x1\n", 6, 3, 2, 1, "systemd[1]: a;b\nc\\x\\xzz\\x1"),
            ("0,0,0,-;", 0, 0, 0, 0, ""),
        ] {
            let line = parse(bytes.as_bytes()).unwrap();
            let found = (line.severity, line.facility, line.sequence, line.at, String::from_utf8(line.text).unwrap());
            assert_eq!(found, (severity, facility, sequence, at, text.to_owned()));
        }
        for bad in ["", ";", "6;", "6,x,1;a", "6,1;a", "a,1,1,-;a", "99999999999,1,1,-;x"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn what_was_overwritten_is_counted_and_what_was_read_does_not_come_again() {
        let mut intake = intake(Some(4));
        intake.take(b"6,3,1,-;old\n");
        intake.take(b"6,5,1,-;five\n");
        intake.is_overrun = true;
        intake.take(b"30,17,2000000,-;prog[12]: seventeen\n");
        let texts: Vec<_> = intake.records.iter().map(|record| record.text.as_str()).collect();
        assert_eq!((texts[0], texts[2], texts.len()), ("five", "seventeen", 3));
        assert!(texts[1].starts_with("11 lines of the kernel were lost"), "{}", texts[1]);
        assert_eq!((intake.records[0].identifier.as_str(), intake.records[0].at), ("kernel", 1_000_001));
        assert_eq!((intake.records[2].identifier.as_str(), intake.records[2].pid), ("prog", Some(12)));
        assert_eq!(intake.last, Some(17));
    }

    #[test]
    fn the_kernel_of_this_machine_is_read_and_again_from_a_position() {
        let settings = KernelSource::default();
        let sources = [LogSource { name: "kernel".into(), ..LogSource::new(LogSourceKind::Kernel(settings.clone())) }];
        // Opened once, and read from the start again and again.
        let reserved = Reserved::open(&sources);
        let new = |position: Option<&str>| {
            Kernel::new("kernel", &settings, 1000, &LogFilter::default(), position, reserved.take("kernel"))
        };
        let Ok(first) = smol::block_on(new(None).next()) else {
            println!("/dev/kmsg cannot be read here");
            return;
        };
        assert!(!first.records.is_empty());
        let boot = first.records[0].boot.clone().unwrap();
        assert_eq!(boot.len(), 32);
        // Behind the first half comes the second half, and after another boot all of it.
        let sequence: u64 = first.position.split_once(':').unwrap().1.parse().unwrap();
        let earlier = format!("{boot}:{}", sequence - 1);
        let second = smol::block_on(new(Some(&earlier)).next()).unwrap();
        assert_eq!(second.records[0].text, first.records.last().unwrap().text);
        let other = smol::block_on(new(Some("0123:5")).next()).unwrap();
        assert_eq!(other.records[0].text, first.records[0].text);
    }
}
