//! The server: what it is made of, where it listens, how it stops.

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use smol::LocalExecutor;
use smol::channel::{self, Receiver, Sender};

use super::admission::Admission;
use super::crew::{Assembly, Crew};
use super::listener::Listener;
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
        let mut more = Vec::new();
        for _ in 1..self.settings.threads {
            let again = listeners.iter().map(Listener::again).collect::<Result<Vec<_>, _>>()?;
            more.push(again.into_iter().flatten().collect());
        }
        if self.tls.is_none() && listeners.iter().any(Listener::is_tls) {
            return Err(Error::Setting("web.listen: https needs a certificate".to_owned()));
        }
        let admission = Arc::new(Admission::new(&self.settings.limits));
        let addresses = listeners.iter().map(Listener::address).collect::<Result<_, _>>()?;
        let shared = Arc::new(Shared::new(self.settings, self.actions, self.tls)?);
        let (stop, stopped) = channel::bounded(1);
        let listeners = iter::once(listeners).chain(more).collect();
        Ok(Bound { listeners, addresses, admission, handle: Handle { shared, stop }, stopped, drain: self.drain })
    }
}

/// A server whose sockets listen.
pub struct Bound {
    /// Those of each thread.
    listeners: Vec<Vec<Listener>>,
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
    /// With more than one thread (`web.threads`) the others are started here, and end with this.
    ///
    /// It costs least under [`reactor::block_on`](crate::net::reactor::block_on), and runs under `smol::block_on` as well.
    pub async fn run(self, executor: &LocalExecutor<'_>) {
        let server = Assembly {
            shared: self.handle.shared,
            admission: self.admission,
            stopped: self.stopped,
            drain: self.drain,
        };
        let mut parts = server.parts(self.listeners).into_iter();
        let Some(ours) = parts.next() else { return };
        let crew = Crew::start(parts.collect());
        ours.serve(executor).await;
        crew.ended().await;
    }
}
