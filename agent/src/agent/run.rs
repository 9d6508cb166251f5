//! The story of a run: prepare, start the services in order of need, stay, stop them in reverse.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
#[cfg(feature = "web")]
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;
use std::{process, thread};

use ioto_wire::heartbeat::State;
use smol::Timer;
use smol::future::FutureExt;

use super::heartbeat::Heartbeat;
use super::plan::{Executor, Plan};
use super::services::Before;
use super::signals::{Signals, Wish};
use super::{Board, Error, Supervisor, confine};
use crate::config::{Config, LogTarget};
use crate::device;
use crate::logs::{self, Logger};
use crate::net::reactor;
use crate::system::Notify;
use crate::system::sandbox::Needs;
#[cfg(feature = "web")]
use crate::web::Server;

/// What stopping may take in all: SIGTERM is followed by SIGKILL after 5 s on many systems.
const STOP: Duration = Duration::from_millis(4_500);
/// When the process ends although a service hangs so that it cannot even be cut off.
const LAST: Duration = Duration::from_millis(4_900);
/// For the last lines of the log.
const FLUSH: Duration = Duration::from_millis(300);
/// How long a service waits for those that were started before it; a slow one delays the others by no more than this.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long READY waits for services that are slow to start.
const START: Duration = Duration::from_secs(10);
/// Of the thread that watches the stop.
const STACK: usize = 128 * 1024;

/// How the agent shall run.
pub struct Options {
    /// Stop by itself after this time.
    pub exit_after: Option<Duration>,
    /// Reads the configuration again, on SIGHUP.
    pub reload: Box<dyn Fn() -> Result<Config, String>>,
    /// What the program's own actions and tasks need of the file system, beside the agent's services.
    pub needs: Needs,
    /// Adds actions of the program's own to the web server, each time that is bound.
    #[cfg(feature = "web")]
    pub extend: Rc<dyn Fn(Server) -> Server>,
}

impl Options {
    /// Runs until a signal ends it, with the configuration that it has, and nothing beside what that says.
    pub fn new() -> Self {
        Self {
            exit_after: None,
            reload: Box::new(|| Err("this program does not read it again".to_owned())),
            needs: Needs::default(),
            #[cfg(feature = "web")]
            extend: Rc::new(|server| server),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs the agent until it is asked to stop. Errors are those that keep it from starting.
///
/// To be called before the program starts a thread: the sandbox holds for this thread and those that it starts, see
/// [`sandbox`](crate::system::sandbox).
pub fn run(config: Config, options: &Options) -> Result<(), Error> {
    let confined = confine::enter(&config, &options.needs);
    let logger = logs::install(&config.log).map_err(Error::Log)?;
    let elsewhere = matches!(config.log.target, LogTarget::Syslog | LogTarget::Journal | LogTarget::File(_));
    let outcome = confined.and_then(|before| start(config, options, &before, &logger));
    if let (Err(error), true) = (&outcome, elsewhere) {
        // The caller shows it on the standard error, which is nowhere when an init script started us.
        log::error!("{error}");
    }
    logger.flush(FLUSH);
    outcome
}

fn start(config: Config, options: &Options, before: &Before, logger: &Logger) -> Result<(), Error> {
    // First of all: a signal that nobody takes ends the process.
    let signals = Signals::new().map_err(Error::Signals)?;
    let directories = &config.directories;
    for directory in [&directories.state, &directories.run] {
        make(directory)?;
    }
    let heartbeat = Heartbeat::start(&directories.run);
    let id = device::identity(&directories.state, &config.device).map_err(Error::Identity)?;
    log::info!("ioto {} on device {id}", env!("CARGO_PKG_VERSION"));
    confine::tell(&before.sandbox);

    let board = Board::default();
    let executor = Executor::default();
    let plan = Plan::new(&config, &id, &board, &executor, options, before)?;
    let stay = stay(executor.clone(), plan, board, signals, options, logger, &heartbeat);
    let _guard = reactor::block_on(executor.run(stay));
    drop(executor);
    heartbeat.state(State::Stopped);
    Ok(())
}

/// Ends the process when it has not stopped in time, unless it is dropped before.
struct Guard {
    /// Its end is what the thread hears.
    _sender: mpsc::Sender<()>,
}

impl Guard {
    fn new() -> Option<Self> {
        let (sender, receiver) = mpsc::channel::<()>();
        let wait = move || {
            if receiver.recv_timeout(LAST) == Err(mpsc::RecvTimeoutError::Timeout) {
                log::error!("a service hangs: ended without it");
                // The writer of the log is another thread.
                thread::sleep(Duration::from_millis(50));
                process::exit(1);
            }
        };
        thread::Builder::new().name("stop".to_owned()).stack_size(STACK).spawn(wait).ok()?;
        Some(Self { _sender: sender })
    }
}

/// From the start of the services to their end.
async fn stay(
    executor: Executor,
    mut plan: Plan,
    board: Board,
    mut signals: Signals,
    options: &Options,
    logger: &Logger,
    heartbeat: &Heartbeat,
) -> Option<Guard> {
    let notify = Notify::from_environment().unwrap_or_else(|error| {
        log::warn!("{error}");
        Notify::default()
    });
    let mut supervisor = Supervisor::new(executor.clone(), board.clone());
    let services = plan.take_services();
    let living = async {
        for service in services {
            supervisor.start(service);
            board.settled().or(after(PATIENCE)).await;
        }
        board.settled().or(after(START)).await;
        log::info!("{}", board.summary());
        heartbeat.state(State::Running);
        notify.ready(&board.summary());
        tend(&notify, &board).await;
    };
    let time_is_up = async {
        match options.exit_after {
            Some(time) => after(time).await,
            None => std::future::pending().await,
        }
    };
    let asked_to_stop = async {
        while signals.next().await == Wish::Reload {
            notify.reloading();
            match (options.reload)() {
                Ok(config) => {
                    logger.set_levels(&config.log);
                    match plan.reload(&config) {
                        Ok(()) => log::info!("users, certificates, signatures and log levels were taken over"),
                        Err(error) => {
                            log::error!(
                                "users and log levels were taken over, not all certificates and signatures: {error}"
                            )
                        }
                    }
                }
                Err(problems) => log::error!("nothing was taken over, the configuration is wrong: {problems}"),
            }
            notify.ready(&board.summary());
        }
    };
    living.or(time_is_up).or(asked_to_stop).or(heartbeat.beat()).await;

    log::info!("stopping");
    heartbeat.state(State::Stopping);
    let guard = Guard::new();
    notify.stopping();
    async { supervisor.stop(STOP).await }.or(heartbeat.beat()).await;
    log::info!("stopped");
    guard
}

/// Tells the service manager how the services are, and that the executor lives.
async fn tend(notify: &Notify, board: &Board) {
    let interval = notify.watchdog_interval().unwrap_or(Duration::from_secs(30));
    let mut told = String::new();
    loop {
        notify.watchdog();
        let summary = board.summary();
        if summary != told {
            notify.status(&summary);
            told = summary;
        }
        after(interval).await;
    }
}

async fn after(time: Duration) {
    Timer::after(time).await;
}

fn make(directory: &Path) -> Result<(), Error> {
    let make = || {
        if !directory.exists() {
            DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
            // Whatever the umask: the group shall reach the sockets in it.
            fs::set_permissions(directory, Permissions::from_mode(0o750))?;
        }
        // Also when it is there: what is there may be no directory.
        DirBuilder::new().recursive(true).create(directory)
    };
    make().map_err(|error| Error::Directory(directory.into(), error))
}
