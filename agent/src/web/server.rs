//! The server: what it is made of, where it listens, how it stops.

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use smol::LocalExecutor;
use smol::channel::{self, Receiver, Sender};

use super::admission::Admission;
#[cfg(feature = "users")]
use super::auth::{People, SessionStore};
use super::crew::{Assembly, Crew};
use super::listener::Listener;
use super::reserved::Reserved;
use super::shared::Shared;
use super::worker::Isolated;
use super::{AccessSink, Action, Address, Error, Worker, access, leftovers};
use crate::config::Web;
#[cfg(feature = "users")]
use crate::config::{Auth, User};

/// How long requests may go on after [`Handle::stop`].
const DRAIN: Duration = Duration::from_secs(3);

/// A web server that is being set up.
pub struct Server {
    settings: Web,
    actions: Vec<(String, Box<dyn Action>)>,
    workers: Vec<Arc<Worker>>,
    tls: Option<Arc<ServerConfig>>,
    access: Option<Box<dyn AccessSink>>,
    #[cfg(feature = "users")]
    sessions: Option<Arc<dyn SessionStore>>,
    drain: Duration,
    reserved: Arc<Reserved>,
}

impl Server {
    /// A server with these settings, without actions and certificate.
    pub fn new(settings: Web) -> Self {
        Self {
            settings,
            actions: Vec::new(),
            workers: Vec::new(),
            tls: None,
            access: None,
            #[cfg(feature = "users")]
            sessions: None,
            drain: DRAIN,
            reserved: Arc::default(),
        }
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

    /// Where the access log goes that the settings send to the `syslog` or the `database`.
    pub fn access_sink(mut self, sink: Box<dyn AccessSink>) -> Self {
        self.access = Some(sink);
        self
    }

    /// Binds an action to a path and all paths below it; with a slash at the end only to those below it. The longest
    /// prefix wins.
    pub fn action(mut self, prefix: &str, action: impl Action) -> Self {
        let place = self.actions.partition_point(|(known, _)| known.len() >= prefix.len());
        self.actions.insert(place, (prefix.to_owned(), Box::new(action)));
        self
    }

    /// Binds a program of its own to a path and all paths below it, as [`Server::action`] binds an action: it may crash, and
    /// the server lives on.
    pub fn isolated(mut self, prefix: &str, worker: Worker) -> Self {
        let worker = Arc::new(worker);
        self.workers.push(worker.clone());
        self.action(prefix, Isolated(worker))
    }

    /// Keeps the sessions of users there, so that they outlive the server.
    #[cfg(feature = "users")]
    pub fn sessions(mut self, store: Arc<dyn SessionStore>) -> Self {
        self.sessions = Some(store);
        self
    }

    /// How long requests that run may go on after [`Handle::stop`]; 3 s when not set.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// Listens on these sockets where the settings name their addresses, instead of opening others.
    pub fn reserved(mut self, sockets: Arc<Reserved>) -> Self {
        self.reserved = sockets;
        self
    }

    /// Opens the listening sockets. Connections wait there until [`Bound::run`].
    ///
    /// # Errors
    /// [`Error::AddressInUse`] when another program listens there, [`Error::Bind`] when it cannot be listened on,
    /// [`Error::Setting`] for a setting that cannot be used, such as `https` without a certificate.
    pub fn bind(self) -> Result<Bound, Error> {
        let open = |listen| self.reserved.listener(listen, 0).unwrap_or_else(|| Listener::bind(listen));
        let listeners = self.settings.listen.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        leftovers::remove(&self.settings);
        self.bind_to(listeners)
    }

    /// Serves on these sockets, whatever the settings say.
    pub(super) fn bind_to(self, listeners: Vec<Listener>) -> Result<Bound, Error> {
        let mut more = Vec::new();
        for thread in 1..self.settings.threads {
            let again = |(number, first): (usize, &Listener)| {
                let listen = self.settings.listen.get(number);
                match listen.and_then(|listen| self.reserved.listener(listen, thread)) {
                    Some(reserved) => reserved.map(Some),
                    None => first.again(),
                }
            };
            let again = listeners.iter().enumerate().map(again).collect::<Result<Vec<_>, _>>()?;
            more.push(again.into_iter().flatten().collect());
        }
        if self.tls.is_none() && listeners.iter().any(Listener::is_tls) {
            return Err(Error::Setting("web.listen: https needs a certificate".to_owned()));
        }
        let admission = Arc::new(Admission::new(&self.settings.limits));
        let addresses = listeners.iter().map(Listener::address).collect::<Result<_, _>>()?;
        let mut shared = Shared::new(self.settings, self.actions, self.tls)?;
        shared.access = access::open(&shared.settings.access_log, self.access)?;
        shared.workers.extend(self.workers);
        #[cfg(feature = "users")]
        shared.authority.keep_sessions(self.sessions);
        let shared = Arc::new(shared);
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

    /// Reads the file of signatures again (`web.signatures.path`), for requests from now on.
    ///
    /// # Errors
    /// All that is wrong in the file; the signatures stay as they are then.
    pub fn reload_signatures(&self) -> Result<(), Error> {
        self.shared.load_signatures()
    }

    /// Opens the file of the access log again, for who moved it away; that it is gone is noticed without this, too.
    pub fn reopen_access_log(&self) {
        if let Some(writer) = &self.shared.access {
            writer.reopen();
        }
    }

    /// Uses this certificate for new connections; those that are open go on.
    pub fn set_tls(&self, config: Arc<ServerConfig>) {
        self.shared.set_tls(config);
    }
}

/// Users, from now on. Sessions of users who were removed or have another password end.
#[cfg(feature = "users")]
impl Handle {
    /// Takes over users, tokens and roles, as after a change of the configuration.
    pub fn set_auth(&self, auth: &Auth) {
        self.shared.authority.set_people(People::new(auth));
    }

    /// Adds a user; the stored password is made by [`password::hash`](super::auth::password::hash). It is one until the next
    /// start or [`Handle::set_auth`]: the configuration is not changed.
    ///
    /// # Errors
    /// There is one of that name, the role is none of `web.auth.roles`, or the stored password is in no known format.
    pub fn add_user(&self, user: User) -> Result<(), Error> {
        match self.shared.authority.people().accounts.contains_key(&user.name) {
            true => Err(Error::Setting(format!("there is a user '{}' already", user.name))),
            false => self.shared.authority.set_user(user),
        }
    }

    /// Gives a user another password or role.
    ///
    /// # Errors
    /// As [`Handle::add_user`], but there is none of that name.
    pub fn update_user(&self, user: User) -> Result<(), Error> {
        match self.shared.authority.people().accounts.contains_key(&user.name) {
            true => self.shared.authority.set_user(user),
            false => Err(Error::Setting(format!("there is no user '{}'", user.name))),
        }
    }

    /// Removes a user; `false`: there is none of that name.
    pub fn remove_user(&self, name: &str) -> bool {
        self.shared.authority.remove_user(name)
    }

    /// Waits until all sessions of users are kept as they are now. For the end of a program; they are kept in time anyway,
    /// but for their last use.
    pub async fn save_sessions(&self) {
        // What went wrong is in the log.
        let _ = self.shared.authority.keeper.save().await;
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
        let shared = self.handle.shared.clone();
        let server =
            Assembly { shared: shared.clone(), admission: self.admission, stopped: self.stopped, drain: self.drain };
        let mut parts = server.parts(self.listeners).into_iter();
        let Some(ours) = parts.next() else { return };
        let crew = Crew::start(parts.collect());
        ours.serve(executor).await;
        crew.ended().await;
        // What answers nobody any more goes too. Dropped without this, the server leaves it to the end of its process.
        let ending: Vec<_> =
            shared.workers.iter().cloned().map(|worker| executor.spawn(async move { worker.stop().await })).collect();
        for task in ending {
            task.await;
        }
    }
}
