//! The server: what it is made of, where it listens, how it stops.

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use smol::channel::{self, Receiver, Sender};
use smol::{LocalExecutor, Timer};

use super::admission::Admission;
use super::listener::{Door, Listener};
use super::local::Local;
use super::shared::Shared;
use super::{Action, Address, Error};
use crate::config::Web;

/// How long requests may go on after [`Handle::stop`].
const DRAIN: Duration = Duration::from_secs(3);

/// A web server that is being set up.
pub struct Server {
    settings: Web,
    actions: Vec<(String, Box<dyn Action>)>,
    tls: Option<Arc<ServerConfig>>,
    drain: Duration,
}

impl Server {
    /// A server with these settings, without actions and certificate.
    pub fn new(settings: Web) -> Self {
        Self { settings, actions: Vec::new(), tls: None, drain: DRAIN }
    }

    /// Also listens there: `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`. No host: all addresses. Port 0: any free
    /// port, see [`Bound::addresses`].
    ///
    /// # Errors
    /// The text is no such address.
    pub fn listen(mut self, url: &str) -> Result<Self, Error> {
        self.settings.listen.push(url.parse().map_err(|wrong| Error::Setting(format!("the address {wrong}")))?);
        Ok(self)
    }

    /// The certificate of `https` listeners, see [`server_config`](crate::net::tls_server::server_config).
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Binds an action to a path and all paths below it; with a slash at the end only to those below it. The longest
    /// prefix wins.
    pub fn action(mut self, prefix: &str, action: impl Action) -> Self {
        let place = self.actions.partition_point(|(known, _)| known.len() >= prefix.len());
        self.actions.insert(place, (prefix.to_owned(), Box::new(action)));
        self
    }

    /// How long requests that run may go on after [`Handle::stop`]; 3 s when not set.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// Opens the listening sockets. Connections wait there until [`Bound::run`].
    ///
    /// # Errors
    /// [`Error::AddressInUse`] when another program listens there, [`Error::Bind`] when it cannot be listened on,
    /// [`Error::Setting`] for a setting that cannot be used, such as `https` without a certificate.
    pub fn bind(self) -> Result<Bound, Error> {
        let listeners = self.settings.listen.iter().map(Listener::bind).collect::<Result<Vec<_>, _>>()?;
        if self.tls.is_none() && listeners.iter().any(Listener::is_tls) {
            return Err(Error::Setting("web.listen: https needs a certificate".to_owned()));
        }
        let admission = Arc::new(Admission::new(&self.settings.limits));
        let addresses = listeners.iter().map(Listener::address).collect::<Result<_, _>>()?;
        let shared = Arc::new(Shared::new(self.settings, self.actions, self.tls)?);
        let (stop, stopped) = channel::bounded(1);
        Ok(Bound { listeners, addresses, admission, handle: Handle { shared, stop }, stopped, drain: self.drain })
    }
}

/// A server whose sockets listen.
pub struct Bound {
    listeners: Vec<Listener>,
    addresses: Vec<Address>,
    admission: Arc<Admission>,
    handle: Handle,
    stopped: Receiver<()>,
    drain: Duration,
}

/// Stops a running server or changes its certificate, from any thread.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    stop: Sender<()>,
}

impl Handle {
    /// Accepts no more connections, lets running requests end, then ends [`Bound::run`].
    pub fn stop(&self) {
        self.shared.stop();
        self.stop.close();
    }

    /// Uses this certificate for new connections; those that are open go on.
    pub fn set_tls(&self, config: Arc<ServerConfig>) {
        self.shared.set_tls(config);
    }
}

impl Bound {
    /// Where the server listens, in the order of the settings.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// A handle to stop it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until [`Handle::stop`]; connections run as tasks of the executor. Dropping the future ends all of them at once.
    ///
    /// It costs least under [`reactor::block_on`](crate::net::reactor::block_on), and runs under `smol::block_on` as well.
    pub async fn run(self, executor: &LocalExecutor<'_>) {
        let local = match Local::new() {
            Ok(local) => Rc::new(local),
            Err(error) => return log::error!("the web server cannot run: {error}"),
        };
        let _abort = Abort(local.clone());
        let (watch, reactor) = (local.watch.clone(), local.reactor.clone());
        let _sweep = executor.spawn(async move { watch.run().await });
        let _drive = executor.spawn(async move { reactor.drive().await });
        let shared = self.handle.shared.clone();
        let door = Door { executor, shared: &shared, local: &local, admission: &self.admission };

        let stopped = async {
            let _ = self.stopped.recv().await;
        };
        smol::future::or(stopped, accept_all(self.listeners, &door)).await;

        let limit = Instant::now() + self.drain;
        while local.connections.count() > 0 && Instant::now() < limit {
            local.watch.expire_idle();
            Timer::after(Duration::from_millis(10)).await;
        }
        let left = local.connections.count();
        if left > 0 {
            log::warn!("{left} connections were cut");
        }
    }
}

/// Accepts at all listeners, for ever. They close with this.
async fn accept_all(listeners: Vec<Listener>, door: &Door<'_, '_>) {
    let mut loops: Vec<_> = listeners.into_iter().map(|listener| Box::pin(listener.accept(door))).collect();
    // Those that were not woken only look at a flag.
    poll_fn(|cx| {
        for accepting in &mut loops {
            let _ = accepting.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await
}

/// Ends the connections with the server.
struct Abort(Rc<Local>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.connections.abort();
    }
}
