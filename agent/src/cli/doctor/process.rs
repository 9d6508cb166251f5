//! A process as /proc shows it, thread by thread: capabilities and filters belong to threads.

use std::fs;

/// The agent.
pub struct Process {
    pub pid: i32,
    pub threads: Vec<Thread>,
    /// File descriptors that it may open.
    pub descriptors: Option<u64>,
}

/// One of its threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    pub name: String,
    /// The effective user.
    pub uid: Option<u32>,
    /// Inheritable, permitted, effective, bounding and ambient capabilities, of all of them the bits that are in one.
    pub capabilities: u64,
    pub bounding: u64,
    pub no_new_privs: bool,
    /// 2: a filter.
    pub seccomp: u32,
}

impl Process {
    /// Nothing: there is no such process.
    pub fn read(pid: i32) -> Option<Self> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
        let threads: Vec<_> = tasks
            .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
            .map(|status| Thread::parse(&status))
            .collect();
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok();
        let descriptors = limits.and_then(|limits| parse_descriptors(&limits));
        (!threads.is_empty()).then_some(Self { pid, threads, descriptors })
    }

    /// The names of the threads of which something holds.
    pub fn threads_that(&self, holds: impl Fn(&Thread) -> bool) -> String {
        let names: Vec<_> =
            self.threads.iter().filter(|thread| holds(thread)).map(|thread| thread.name.as_str()).collect();
        names.join(" ")
    }
}

impl Thread {
    fn parse(status: &str) -> Self {
        let field = |name: &str| {
            let row = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            row.map_or("", str::trim)
        };
        let bits = |name| u64::from_str_radix(field(name), 16).unwrap_or(0);
        Self {
            name: field("Name").to_owned(),
            uid: field("Uid").split_whitespace().nth(1).and_then(|uid| uid.parse().ok()),
            capabilities: bits("CapInh") | bits("CapPrm") | bits("CapEff") | bits("CapAmb"),
            bounding: bits("CapBnd"),
            no_new_privs: field("NoNewPrivs") == "1",
            seccomp: field("Seccomp").parse().unwrap_or(0),
        }
    }
}

/// The hard limit: the agent raises the soft one to what it needs.
fn parse_descriptors(limits: &str) -> Option<u64> {
    let row = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match row.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_thread_is_read() {
        let status = "Name:\tioto-log\nUid:\t0\t998\t998\t998\nCapInh:\t0\nCapPrm:\t0000000000000400\nCapEff:\t0\n\
                      CapBnd:\t000001ffffffffff\nCapAmb:\t0\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n";
        let thread = Thread::parse(status);
        assert_eq!((thread.name.as_str(), thread.uid, thread.capabilities), ("ioto-log", Some(998), 1 << 10));
        assert!(thread.no_new_privs && thread.seccomp == 2 && thread.bounding == 0x1ff_ffff_ffff);
        assert_eq!(Thread::parse(""), Thread::default());
    }

    #[test]
    fn the_limit_of_descriptors_is_read() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024   4096   files\n";
        assert_eq!(parse_descriptors(limits), Some(4096));
        assert_eq!(parse_descriptors("Max open files  unlimited unlimited files"), Some(u64::MAX));
        assert_eq!(parse_descriptors("x"), None);
    }

    #[test]
    fn this_process_has_threads() {
        let process = Process::read(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(!process.threads.is_empty() && process.descriptors.is_some());
        assert!(Process::read(-1).is_none());
    }
}
