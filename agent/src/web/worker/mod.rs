//! Actions in a process of their own.

mod child;
mod inherited;

use std::ffi::OsString;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::or;

use self::child::{Child, Run, Turn};
use super::proxy::{self, Failure, Fault, Way, forward};
use super::transfer::Stage;
use super::{Action, Error, Exchange, Server};
use crate::config::ProxyTarget;

/// How long it may take until it is known how a program died whose connection ended.
const POST_MORTEM: Duration = Duration::from_secs(1);

/// Actions that may crash, or that are written in another language: a program that serves HTTP/1.1 to this server alone.
///
/// The agent is built with `panic = "abort"`: a panic in an action ends its process, as a null pointer in a C library does.
/// Here that is the process of a worker. The client of the request gets a 500 with an id that stands in the log with how the
/// worker ended, all other requests go on, and the worker is started again, later and later when it dies again and again.
///
/// A worker is started by the first request for it. Its standard input is a Unix socket that listens, in a directory
/// that only this user can enter. [`Worker::serve`] takes it; so do `gunicorn --bind fd://0 app` and `uvicorn --fd 0 app`;
/// in Python alone it is `socket.socket(fileno=0)`. Requests come as they do to a route with `handler: 'proxy'`, with the whole
/// path. The worker ends with the server: by SIGTERM when no request is at work any more, by SIGKILL 1 s later, and at once when
/// the server's process dies.
///
/// The same program can be its own worker:
///
/// ```no_run
/// use ioto::config;
/// use ioto::web::{Error, Exchange, Server, Worker};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     if std::env::args().nth(1).as_deref() == Some("worker") {
///         let settings = config::Web { listen: vec![], ..Default::default() };
///         let actions = Server::new(settings)
///             .action("/test/crash/panic", async |_: &mut Exchange| panic!("on purpose"))
///             .action("/test/crash/ok", async |exchange: &mut Exchange| exchange.send("text/plain", "ok\n").await);
///         return Ok(Worker::serve(actions)?);
///     }
///     let settings = config::Web { listen: vec![], ..Default::default() };
///     let server = Server::new(settings)
///         .listen("http://127.0.0.1:8080")?
///         .isolated("/test/crash", Worker::program("/proc/self/exe", ["worker"]))
///         .bind()?;
///     let executor = smol::LocalExecutor::new();
///     smol::block_on(executor.run(server.run(&executor)));
///     Ok(())
/// }
/// ```
pub struct Worker {
    child: Arc<Child>,
    timeout: Option<Duration>,
}

impl Worker {
    /// A program with its arguments; it is not started yet.
    pub fn program(path: impl Into<PathBuf>, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self { child: Arc::new(Child::new(path.into(), arguments)), timeout: None }
    }

    /// How long it may take to begin an answer; `web.timeouts.request` when not set. One that takes longer is killed,
    /// because it may hang for ever, and its client gets 504.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// For the program that is the worker: serves the actions of this server on its standard input, and nowhere else, until
    /// it is told to end.
    ///
    /// # Errors
    /// The standard input is no Unix socket that listens: the program was not started by a [`Worker`].
    pub fn serve(actions: Server) -> Result<(), Error> {
        inherited::serve(actions)
    }

    /// Whether it is this command.
    pub(super) fn is(&self, command: &[String]) -> bool {
        self.child.is(command)
    }

    /// Ends it; ready when it has ended.
    pub(super) async fn stop(&self) {
        if let Some(run) = self.child.stop() {
            run.wait(child::TERM + POST_MORTEM).await;
            self.child.leave();
        }
    }

    async fn pass_on(&self, exchange: &mut Exchange) -> Result<(), Error> {
        let shared = exchange.shared.clone();
        let wait = shared.settings.proxy.wait;
        let limit = Instant::now() + wait;
        loop {
            let Some(run) = self.running(limit).await? else {
                let seconds = wait.as_secs().max(1);
                return proxy::busy(exchange, seconds, "the program behind this is started again").await;
            };
            let target = ProxyTarget::Unix(run.socket.clone());
            let timeout = self.timeout.unwrap_or(shared.settings.timeouts.request);
            // Another attempt could be another crash.
            let way = Way { target: &target, base: "", timeout, repeats: false, name: proxy::name() };
            match forward(exchange, &way).await {
                Ok(()) => {
                    self.child.proved(&run);
                    return Ok(());
                }
                Err(Failure::Client(error)) => return Err(error),
                // It died before it got anything of this request.
                Err(Failure::Program(Fault::Connect(_))) if run.has_ended() && Instant::now() < limit => {}
                Err(Failure::Program(fault)) => return Err(self.explain(exchange, &run, fault).await),
            }
        }
    }

    /// The process, once it runs; `None` when that takes too long.
    async fn running(&self, limit: Instant) -> Result<Option<Arc<Run>>, Error> {
        loop {
            let timer = match self.child.turn() {
                Turn::Go(run) => return Ok(Some(run)),
                Turn::Wait(changed) => {
                    let changed = async {
                        let _ = changed.recv().await;
                        true
                    };
                    let late = async {
                        Timer::at(limit).await;
                        false
                    };
                    if !or(changed, late).await {
                        return Ok(None);
                    }
                    continue;
                }
                Turn::Later(at) => at,
                Turn::Never => return Err(Error::status(503, "the server stops")),
            };
            if timer > limit {
                return Ok(None);
            }
            Timer::at(timer).await;
        }
    }

    /// The error for the client; what happened goes to the log.
    async fn explain(&self, exchange: &Exchange, run: &Run, fault: Fault) -> Error {
        if matches!(fault, Fault::Late) {
            self.child.kill(run);
        }
        if fault.is_end() {
            run.wait(POST_MORTEM).await;
        }
        let is_open = exchange.transfer.borrow().stage() == Stage::Open;
        match (run.end(), fault) {
            (Some(how), fault) if fault.is_end() => {
                if !is_open {
                    log::error!("{:?}: {} {how} in the middle of its answer", exchange.path, self.child.describe(run));
                }
                Error::failed(format!("{} {how}", self.child.describe(run)))
            }
            (_, Fault::Late) => {
                let id = fastrand::u64(..);
                let worker = self.child.describe(run);
                log::error!("{:?} failed [{id:016x}]: {worker} took too long and was killed", exchange.path);
                Error::status(504, format!("error {id:016x}"))
            }
            (_, fault) => {
                let id = fastrand::u64(..);
                let worker = self.child.describe(run);
                log::error!("{:?} failed [{id:016x}]: {worker}: {fault}", exchange.path);
                Error::status(fault.status(), format!("error {id:016x}"))
            }
        }
    }
}

impl Action for Worker {
    fn call<'a>(&'a self, exchange: &'a mut Exchange) -> Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>> {
        Box::pin(self.pass_on(exchange))
    }
}

/// A path that leads to a worker, which the server owns too.
pub(super) struct Isolated(pub Arc<Worker>);

impl Action for Isolated {
    fn call<'a>(&'a self, exchange: &'a mut Exchange) -> Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>> {
        self.0.call(exchange)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.stop();
    }
}
