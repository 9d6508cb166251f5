//! The process of a worker: its start, its end, and what comes after.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use smol::Timer;
use smol::channel::{self, Receiver, Sender};
use smol::future::or;

use super::super::leftovers::{PLACE, hold};
use crate::device::die_with_us;

/// How long a process may take to end after SIGTERM.
pub(super) const TERM: Duration = Duration::from_secs(1);
/// The pause before a start after one death; it doubles with each.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A process that lived for so long and answered died of something new.
const PROOF: Duration = Duration::from_secs(10);

/// The threads that start a process and end it do little.
const STACK: usize = 256 * 1024;

/// A program that is started again when it dies.
pub(super) struct Child {
    program: PathBuf,
    arguments: Vec<OsString>,
    place: OnceLock<Place>,
    state: Mutex<State>,
}

enum State {
    /// Nothing runs; it may be started from then on.
    Resting {
        deaths: u32,
        from: Instant,
    },
    /// It is being started; the channel closes when that is done.
    Starting(Receiver<()>),
    Running {
        run: Arc<Run>,
        deaths: u32,
    },
    Stopped,
}

/// What a request that wants the process does next.
pub(super) enum Turn {
    Go(Arc<Run>),
    /// Ask again when this channel closes.
    Wait(Receiver<()>),
    /// Ask again then.
    Later(Instant),
    Never,
}

/// A process.
pub(super) struct Run {
    pid: Pid,
    pub socket: PathBuf,
    since: Instant,
    /// Closes when it has ended.
    ended: Receiver<()>,
    how: OnceLock<String>,
}

impl Run {
    /// How it ended, if it has.
    pub fn end(&self) -> Option<&str> {
        self.how.get().map(String::as_str)
    }

    pub fn has_ended(&self) -> bool {
        self.end().is_some()
    }

    /// Waits until it has ended, but not for ever.
    pub async fn wait(&self, limit: Duration) {
        let ended = async {
            let _ = self.ended.recv().await;
        };
        let late = async {
            Timer::after(limit).await;
        };
        or(ended, late).await;
    }
}

/// A directory of our own, removed with this.
struct Place {
    path: PathBuf,
    /// Held for as long as it is in use.
    _held: Option<File>,
}

impl Place {
    fn new() -> io::Result<Self> {
        let name = format!("{PLACE}{}-{:016x}", process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let held = File::open(&path).ok().filter(hold);
        Ok(Self { path, _held: held })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Child {
    pub fn new(program: PathBuf, arguments: Vec<OsString>) -> Self {
        let state = Mutex::new(State::Resting { deaths: 0, from: Instant::now() });
        Self { program, arguments, place: OnceLock::new(), state }
    }

    pub fn is(&self, command: &[String]) -> bool {
        let Some((program, arguments)) = command.split_first() else { return false };
        self.program == Path::new(program)
            && self.arguments.iter().map(OsString::as_os_str).eq(arguments.iter().map(OsStr::new))
    }

    /// The process for a request; starts it when it is time.
    pub fn turn(self: &Arc<Self>) -> Turn {
        let mut state = self.lock();
        match &*state {
            State::Running { run, .. } => Turn::Go(run.clone()),
            State::Starting(changed) => Turn::Wait(changed.clone()),
            State::Resting { from, .. } if *from > Instant::now() => Turn::Later(*from),
            State::Resting { deaths, .. } => {
                let deaths = *deaths;
                let (started, changed) = channel::bounded(1);
                let child = self.clone();
                // The kernel kills a process when the thread that started it ends: this one stays until it does.
                let thread = thread::Builder::new().name("worker".to_owned()).stack_size(STACK);
                *state = State::Starting(changed.clone());
                if let Err(error) = thread.spawn(move || child.attend(started, deaths)) {
                    log::error!("a worker cannot be started: {error}");
                    *state = rest(deaths);
                }
                Turn::Wait(changed)
            }
            State::Stopped => Turn::Never,
        }
    }

    /// It answered a request.
    pub fn proved(&self, run: &Arc<Run>) {
        if run.since.elapsed() < PROOF {
            return;
        }
        if let State::Running { run: current, deaths } = &mut *self.lock() {
            if Arc::ptr_eq(current, run) {
                *deaths = 0;
            }
        }
    }

    /// Ends a process that hangs.
    pub fn kill(&self, run: &Run) {
        let _state = self.lock();
        send(run, Signal::SIGKILL);
    }

    /// Ends it for good; the process that has to end.
    pub fn stop(self: &Arc<Self>) -> Option<Arc<Run>> {
        let mut state = self.lock();
        let run = match std::mem::replace(&mut *state, State::Stopped) {
            State::Running { run, .. } => run,
            State::Resting { .. } => {
                self.clear();
                return None;
            }
            State::Starting(_) | State::Stopped => return None,
        };
        send(&run, Signal::SIGTERM);
        let (child, ending) = (self.clone(), run.clone());
        let late = thread::Builder::new().name("worker-end".to_owned()).stack_size(STACK);
        let patient = late.spawn(move || {
            smol::block_on(ending.wait(TERM));
            child.kill(&ending);
        });
        if patient.is_err() {
            send(&run, Signal::SIGKILL);
        }
        Some(run)
    }

    /// Takes its files away, after [`Child::stop`]: the threads that still look after it may be ended with the process.
    pub fn leave(&self) {
        if let Some(place) = self.place.get() {
            let _ = fs::remove_dir_all(&place.path);
        }
    }

    /// The worker, for the log.
    pub fn describe(&self, run: &Run) -> String {
        format!("the worker {} ({})", self.program.display(), run.pid)
    }

    /// Starts the process and stays with it to its end.
    fn attend(&self, started: Sender<()>, deaths: u32) {
        let (ended, is_ended) = channel::bounded(1);
        let mut process = match self.start() {
            Ok(process) => process,
            Err(error) => {
                log::error!("the worker {} cannot be started: {error}", self.program.display());
                self.settle(deaths);
                drop(started);
                return;
            }
        };
        let pid = Pid::from_raw(process.id() as i32);
        let socket = self.socket();
        let run = Arc::new(Run { pid, socket, since: Instant::now(), ended: is_ended, how: OnceLock::new() });
        {
            let mut state = self.lock();
            match &*state {
                State::Stopped => send(&run, Signal::SIGKILL),
                _ => *state = State::Running { run: run.clone(), deaths },
            }
        }
        log::debug!("{} was started", self.describe(&run));
        drop(started);

        // While the process is dead and not collected, its number is its own.
        while let Err(nix::errno::Errno::EINTR) = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {}
        let mut state = self.lock();
        let how = process.wait().map_or_else(|error| format!("ended: {error}"), describe);
        match &*state {
            State::Running { deaths, .. } => {
                log::warn!("{} {how}; it is started again when it is needed", self.describe(&run));
                *state = rest(*deaths);
            }
            // Before anybody hears of the end: the server's process may end then, and this thread with it.
            _ => self.clear(),
        }
        let _ = run.how.set(how);
        drop(state);
        drop(ended);
    }

    /// It could not be started.
    fn settle(&self, deaths: u32) {
        let mut state = self.lock();
        if !matches!(*state, State::Stopped) {
            *state = rest(deaths);
        }
    }

    fn start(&self) -> io::Result<process::Child> {
        if self.place.get().is_none() {
            let _ = self.place.set(Place::new()?);
        }
        let socket = self.socket();
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&socket)?;
        let mut command = Command::new(&self.program);
        // A group of its own: what ends the server by the keyboard leaves it the time to answer.
        command.args(&self.arguments).stdin(Stdio::from(OwnedFd::from(listener))).process_group(0);
        die_with_us(&mut command);
        command.spawn()
    }

    /// Takes the files away.
    fn clear(&self) {
        if let Some(place) = self.socket().parent() {
            let _ = fs::remove_dir_all(place);
        }
    }

    fn socket(&self) -> PathBuf {
        self.place.get().map(|place| place.path.join("socket")).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause after another death.
fn rest(deaths: u32) -> State {
    let pause = PAUSE.saturating_mul(1 << deaths.min(16)).min(LONGEST_PAUSE);
    State::Resting { deaths: deaths.saturating_add(1), from: Instant::now() + pause }
}

/// Sends a signal; the caller holds the state, without which no process is collected, so the number is not another's.
fn send(run: &Run, signal: Signal) {
    if !run.has_ended() {
        let _ = signal::kill(run.pid, signal);
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(number), _) => match Signal::try_from(number) {
            Ok(name) => format!("was ended by signal {number} ({name})"),
            Err(_) => format!("was ended by signal {number}"),
        },
        (None, Some(code)) => format!("exited with status {code}"),
        (None, None) => "ended".to_owned(),
    }
}
