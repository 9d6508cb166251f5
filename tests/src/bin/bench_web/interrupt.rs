//! Ctrl-C: what was started ends, what was written goes.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use std::{fs, process, thread};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

/// The processes that run.
static STARTED: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Call it before any other thread is there: they inherit that these signals wait for the thread that takes them.
pub fn clean_up_on_signals(directory: &Path) {
    let signals = signals();
    signals.thread_block().expect("block signals");
    let directory = directory.to_owned();
    thread::spawn(move || {
        let signal = signals.wait().expect("wait for signals");
        // The lock is kept: nothing is started any more.
        let started = STARTED.lock();
        for &id in started.iter().flat_map(|started| started.iter()) {
            terminate(id);
        }
        thread::sleep(Duration::from_millis(300));
        let _ = fs::remove_dir_all(&directory);
        process::exit(128 + signal as i32);
    });
}

/// Starts a process with `start` and remembers it until [`ended`].
pub fn started<E>(start: impl FnOnce() -> Result<process::Child, E>) -> Result<process::Child, E> {
    let mut started = STARTED.lock().expect("no thread panics with it");
    // The process would inherit what is blocked. A signal at this instant ends us, and by that the processes.
    signals().thread_unblock().expect("unblock signals");
    let child = start();
    signals().thread_block().expect("block signals");
    let child = child?;
    started.push(child.id());
    Ok(child)
}

fn signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

/// The process was waited for; its number may be another's now.
pub fn ended(id: u32) {
    STARTED.lock().expect("no thread panics with it").retain(|&known| known != id);
}

/// Asks a process to end.
pub fn terminate(id: u32) {
    let _ = kill(Pid::from_raw(id.cast_signed()), Signal::SIGTERM);
}
