//! The story of a run: prepare, start the services in order of need, stay, stop them in reverse.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use smol::Timer;
use smol::future::FutureExt;

use super::plan::{Executor, Plan};
use super::signals::{Signals, Wish};
use super::{Board, Error, Supervisor};
use crate::config::{Config, LogTarget};
use crate::device;
use crate::logs::{self, Logger};
use crate::net::reactor;
use crate::system::Notify;

/// What stopping may take in all: SIGTERM is followed by SIGKILL after 5 s on many systems.
const STOP: Duration = Duration::from_millis(4_500);
/// For the last lines of the log.
const FLUSH: Duration = Duration::from_millis(300);
/// How long a service waits for those that were started before it; a slow one delays the others by no more than this.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long READY waits for services that are slow to start.
const START: Duration = Duration::from_secs(10);

/// How the agent shall run.
pub struct Options {
    /// Stop by itself after this time.
    pub exit_after: Option<Duration>,
    /// Reads the configuration again, on SIGHUP.
    pub reload: Box<dyn Fn() -> Result<Config, String>>,
}

/// Runs the agent until it is asked to stop. Errors are those that keep it from starting.
pub fn run(config: Config, options: &Options) -> Result<(), Error> {
    let logger = logs::install(&config.log).map_err(Error::Log)?;
    let os_log = config.log.target == LogTarget::Syslog;
    let outcome = start(config, options, &logger);
    if let (Err(error), true) = (&outcome, os_log) {
        // The caller shows it on the standard error, which is nowhere when an init script started us.
        log::error!("{error}");
    }
    logger.flush(FLUSH);
    outcome
}

fn start(config: Config, options: &Options, logger: &Logger) -> Result<(), Error> {
    // First of all: a signal that nobody takes ends the process.
    let signals = Signals::new().map_err(Error::Signals)?;
    let directories = &config.directories;
    for directory in [&directories.state, &directories.run] {
        make(directory)?;
    }
    let id = device::identity(&directories.state, &config.device).map_err(Error::Identity)?;
    log::info!("ioto {} on device {id}", env!("CARGO_PKG_VERSION"));

    let board = Board::default();
    let executor = Executor::default();
    let plan = Plan::new(&config, &id, &board, &executor)?;
    reactor::block_on(executor.run(stay(executor.clone(), plan, board, signals, options, logger)));
    Ok(())
}

/// From the start of the services to their end.
async fn stay(
    executor: Executor,
    mut plan: Plan,
    board: Board,
    mut signals: Signals,
    options: &Options,
    logger: &Logger,
) {
    let notify = Notify::from_environment();
    let mut supervisor = Supervisor::new(executor.clone(), board.clone());
    let services = plan.take_services();
    let living = async {
        for service in services {
            supervisor.start(service);
            board.settled().or(after(PATIENCE)).await;
        }
        board.settled().or(after(START)).await;
        log::info!("{}", board.summary());
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
                        Ok(()) => log::info!("users, certificates and log levels were taken over"),
                        Err(error) => {
                            log::error!("users and log levels were taken over, certificates stay as they were: {error}")
                        }
                    }
                }
                Err(problems) => log::error!("nothing was taken over, the configuration is wrong: {problems}"),
            }
            notify.ready(&board.summary());
        }
    };
    living.or(time_is_up).or(asked_to_stop).await;

    log::info!("stopping");
    notify.stopping();
    supervisor.stop(STOP).await;
    log::info!("stopped");
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
    let made = DirBuilder::new().recursive(true).mode(0o750).create(directory);
    made.map_err(|error| Error::Directory(directory.into(), error))
}
