//! CPU time and memory of a server's processes.

use std::fs;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use crate::Outcome;

/// A process and all that it started, sorted by nothing.
pub fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|id| Some((id, parent(id)?)))
        .collect();
    let mut family = vec![root];
    let mut known = 0;
    while let Some(&id) = family.get(known) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == id).map(|(child, _)| child));
        known += 1;
    }
    family
}

fn parent(id: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    field(&status, "PPid:")
}

/// User and system time of the processes so far, all threads, also those that ended: what `utime` and `stime` of
/// `/proc/PID/stat` add up to, in nanoseconds instead of ticks of 10 ms.
pub fn cpu(processes: &[u32]) -> Outcome<Duration> {
    let clock = |&id: &u32| {
        let clock = clock_getcpuclockid(Pid::from_raw(id.cast_signed()))?;
        Ok(Duration::from(clock.now()?))
    };
    let times: nix::Result<Vec<Duration>> = processes.iter().map(clock).collect();
    Ok(times.map_err(|error| format!("cannot read the CPU time of the server, did it end? {error}"))?.iter().sum())
}

/// User and system time of this process's children that ended and were waited for.
pub fn cpu_of_children() -> Outcome<Duration> {
    let unreadable = || "cannot read /proc/self/stat".to_owned();
    let stat = fs::read_to_string("/proc/self/stat").map_err(|_| unreadable())?;
    // The name of the program may hold spaces; after it, cutime and cstime are fields 14 and 15. A tick is 10 ms.
    let (_, fields) = stat.rsplit_once(") ").ok_or_else(unreadable)?;
    let ticks: u64 = fields.split(' ').skip(13).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// Bytes of anonymous memory of the processes: heap and stacks. What they share counts in parts.
pub fn memory(processes: &[u32]) -> Outcome<u64> {
    let anonymous = |id: &u32| {
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
        field::<u64>(&rollup, "Pss_Anon:").map(|kilobytes| kilobytes * 1024)
    };
    let sum: Option<u64> = processes.iter().map(anonymous).sum();
    sum.ok_or_else(|| "cannot read Pss_Anon of the server from /proc/PID/smaps_rollup".to_owned())
}

fn field<T: std::str::FromStr>(text: &str, name: &str) -> Option<T> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}
