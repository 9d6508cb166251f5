//! Progress on a terminal: how much, how fast, how long it will take.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ioto::fetch::Progress;

use crate::cli::output::complain_in_line;

/// Between two lines. The first comes after as long: what is fast needs none.
const STEP: Duration = Duration::from_millis(500);

/// The time over which the speed is taken.
const WINDOW: f64 = 4.0;

/// Whether a line is shown that something else must not be written into.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// Shows how far a transfer has come.
#[derive(Debug)]
pub struct Meter {
    start: Instant,
    shown: Instant,
    moved: u64,
    /// Bytes a second, lately.
    speed: f64,
    /// Bytes that were there before (`-C`).
    before: u64,
}

impl Meter {
    /// Whether there is a terminal to show it on.
    pub fn is_wanted() -> bool {
        std::io::stderr().is_terminal()
    }

    /// Begins.
    pub fn new(before: u64) -> Self {
        let now = Instant::now();
        Self { start: now, shown: now, moved: 0, speed: 0.0, before }
    }

    /// More has moved.
    pub fn moved(&mut self, progress: &Progress) {
        let now = Instant::now();
        if now.duration_since(self.shown) >= STEP {
            complain_in_line(&self.line(progress, now));
            SHOWN.store(true, Ordering::Relaxed);
        }
    }

    /// The line; the speed goes with the time.
    fn line(&mut self, progress: &Progress, now: Instant) -> String {
        let (moved, total) = match progress.received > 0 || progress.to_send.is_none() {
            true => (progress.received, progress.to_receive),
            false => (progress.sent, progress.to_send),
        };
        let took = now.duration_since(self.shown).as_secs_f64().max(1e-3);
        let latest = moved.saturating_sub(self.moved) as f64 / took;
        let weight = (took / WINDOW.min(now.duration_since(self.start).as_secs_f64())).min(1.0);
        self.speed += weight * (latest - self.speed);
        (self.shown, self.moved) = (now, moved);
        let share = total.filter(|total| *total > 0).map(|total| {
            let left = (total.saturating_sub(moved) as f64 / self.speed.max(1.0)) as u64;
            let percent = (self.before + moved) * 100 / (self.before + total);
            format!("{percent:3} % of {}  {} left", size(self.before + total), clock(left))
        });
        format!("{:>7}  {:>7}/s  {}", size(self.before + moved), size(self.speed as u64), share.unwrap_or_default())
    }
}

/// Ends the line, if one is shown.
pub fn clear() {
    if SHOWN.swap(false, Ordering::Relaxed) {
        complain_in_line("");
    }
}

fn size(bytes: u64) -> String {
    let units = ["B", "k", "M", "G", "T", "P"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit == 0 || value >= 99.95 {
        true => format!("{value:.0} {}", units[unit]),
        false => format!("{value:.1} {}", units[unit]),
    }
}

fn clock(seconds: u64) -> String {
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours if hours < 100 => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
        _ => "long".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 k"), (123_456, "121 k"), (1 << 30, "1.0 G"), (u64::MAX, "16384 P")]
        {
            assert_eq!(size(bytes), text);
        }
        assert_eq!((clock(59).as_str(), clock(3599).as_str(), clock(7322).as_str()), ("0:59", "59:59", "2:02:02"));
        assert_eq!(clock(u64::MAX), "long");
    }

    #[test]
    fn a_line_says_how_much_how_fast_and_how_long() {
        let mut meter = Meter::new(1024 * 1024);
        let progress =
            Progress { received: 10 * 1024 * 1024, to_receive: Some(99 * 1024 * 1024), ..Progress::default() };
        let line = meter.line(&progress, meter.start + Duration::from_secs(1));
        assert_eq!(line, " 11.0 M   10.0 M/s   11 % of 100 M  0:08 left");
        let upload = Progress { sent: 512, to_send: Some(1024), ..Progress::default() };
        let mut meter = Meter::new(0);
        assert!(meter.line(&upload, meter.start + STEP).contains(" 50 % of 1.0 k"), "{meter:?}");
        let endless = Progress { received: 2048, ..Progress::default() };
        let mut meter = Meter::new(0);
        assert_eq!(meter.line(&endless, meter.start + Duration::from_secs(1)).trim_end(), "  2.0 k    2.0 k/s");
    }
}
