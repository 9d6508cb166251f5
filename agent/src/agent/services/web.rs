//! The two doors of the agent: the web server on the network, and the local API on a Unix socket.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use serde_json::{Map, json};
use smol::future::FutureExt;

use super::Handles;
use crate::agent::plan::{Executor, Plan, Service};
use crate::agent::slot::Slot;
use crate::agent::{Board, Error, Report, ServiceError, Status, Stop};
use crate::api::{self, Door};
use crate::config::{Auth, Config, Listen, Scheme, Web};
use crate::net::tls_server;
use crate::web::{Bound, Error as WebError, Handle, Server, own_certificate};

/// Opens both doors. A port that is in use is an error here; later, a server that fails is bound again.
pub fn prepare(
    plan: &mut Plan,
    config: &Config,
    (id, board, executor): (&str, &Board, &Executor),
    handles: &Handles,
) -> Result<(), Error> {
    let status = Arc::new(status(config, id, board, handles));
    let own = Entrance {
        settings: local(config),
        auth: Slot::default(),
        door: Door::Own,
        tls: Slot::default(),
        status: status.clone(),
        handles: handles.clone(),
    };
    add(plan, "api", own, executor)?;
    if config.services.web {
        let certificate = Slot::default();
        certificate.set(tls(config, id)?);
        let settings = config.web.clone();
        let auth = Slot::default();
        auth.set(Some(settings.auth.clone()));
        let door = Door::Web { open: settings.open };
        let handles = handles.clone();
        let entrance = Entrance { settings, auth: auth.clone(), door, tls: certificate.clone(), status, handles };
        let handle = add(plan, "web", entrance, executor)?;
        let id = id.to_owned();
        plan.on_reload(move |config| {
            take_users(&auth, &config.web.auth, handle.get());
            let new = tls(config, &id)?;
            certificate.set(new.clone());
            new.zip(handle.get()).into_iter().for_each(|(new, handle)| handle.set_tls(new));
            Ok(())
        });
    }
    Ok(())
}

fn status(config: &Config, id: &str, board: &Board, handles: &Handles) -> Status {
    let status = Status::new(id, config, board.clone());
    #[cfg(feature = "db")]
    let status = status.with_models(handles.schema.models().map(|model| model.name().to_owned()).collect());
    let _ = handles;
    status
}

/// Binds a door now, and plans its service.
fn add(plan: &mut Plan, name: &'static str, entrance: Entrance, executor: &Executor) -> Result<Slot<Handle>, Error> {
    let first = Cell::new(Some(entrance.bind().map_err(Error::Web)?));
    let handle = Slot::default();
    let (slot, executor) = (handle.clone(), executor.clone());
    plan.add(Service::new(name, move |stop, report| {
        let bound = first.take().map_or_else(|| entrance.bind(), Ok);
        run(bound, executor.clone(), slot.clone(), stop, report)
    }));
    Ok(handle)
}

/// What a server is made of, each time it is bound.
struct Entrance {
    settings: Web,
    /// Users, tokens and roles of the last reload.
    auth: Slot<Auth>,
    door: Door,
    /// The certificate of the last reload.
    tls: Slot<Arc<ServerConfig>>,
    status: Arc<Status>,
    handles: Handles,
}

impl Entrance {
    fn bind(&self) -> Result<Bound, WebError> {
        let door = self.door;
        let status = self.status.clone();
        let mut settings = self.settings.clone();
        if let Some(Auth { users, tokens, roles, .. }) = self.auth.get() {
            settings.auth = Auth { users, tokens, roles, ..settings.auth };
        }
        let server = with_sessions(Server::new(settings.clone()), &settings, &self.handles);
        let server = server.action("/api/status", api::status(move || status.snapshot(), door));
        let server = with_database(server, &self.handles, door);
        match self.tls.get() {
            Some(tls) => server.tls(tls).bind(),
            None => server.bind(),
        }
    }
}

/// Takes over users, tokens and roles; a server that is bound again later has them too.
fn take_users(slot: &Slot<Auth>, auth: &Auth, handle: Option<Handle>) {
    slot.set(Some(auth.clone()));
    #[cfg(feature = "users")]
    if let Some(handle) = handle {
        handle.set_auth(auth);
    }
    #[cfg(not(feature = "users"))]
    let _ = handle;
}

/// Keeps the sessions in the database, if it runs and is not told otherwise.
#[cfg(all(feature = "db", feature = "users"))]
fn with_sessions(server: Server, settings: &Web, handles: &Handles) -> Server {
    use super::sessions::Kept;
    use crate::config::SessionStorage;
    let auth = &settings.auth;
    let is_wanted = handles.has_db && !auth.login.is_empty() && auth.sessions.storage != SessionStorage::Memory;
    match is_wanted {
        true => server.sessions(Arc::new(Kept::new(handles.db.clone()))),
        false => server,
    }
}

#[cfg(not(all(feature = "db", feature = "users")))]
fn with_sessions(server: Server, _: &Web, _: &Handles) -> Server {
    server
}

#[cfg(feature = "db")]
fn with_database(server: Server, handles: &Handles, door: Door) -> Server {
    use crate::web::{Action, Exchange};
    let db = handles.db.clone();
    server.action("/api/db", async move |exchange: &mut Exchange| match db.get() {
        Some(db) => api::database(db, door).call(exchange).await,
        None => Err(WebError::status(503, "the database is not up; `ioto status` says why")),
    })
}

#[cfg(not(feature = "db"))]
fn with_database(server: Server, _: &Handles, _: Door) -> Server {
    server
}

/// Serves until the stop, and then until the requests at work are answered. The handle is in `slot` meanwhile.
async fn run(
    bound: Result<Bound, WebError>,
    executor: Executor,
    slot: Slot<Handle>,
    stop: Stop,
    report: Report,
) -> Result<(), ServiceError> {
    let bound = bound?;
    let handle = bound.handle();
    let addresses: Vec<_> = bound.addresses().iter().map(ToString::to_string).collect();
    addresses.iter().for_each(|address| log::info!("listening on {address}"));
    report.figures(move || Map::from_iter([("listen".to_owned(), json!(addresses))]));
    report.running();
    slot.set(Some(handle.clone()));
    #[cfg(feature = "users")]
    let last = handle.clone();
    let stopping = async {
        stop.requested().await;
        slot.set(None);
        handle.stop();
        std::future::pending().await
    };
    bound.run(&executor).or(stopping).await;
    #[cfg(feature = "users")]
    last.save_sessions().await;
    Ok(())
}

/// The settings of the local API: one Unix socket, for processes of this device.
fn local(config: &Config) -> Web {
    let socket = config.directories.api_socket();
    let listen = Listen { scheme: Scheme::Unix, host: socket.to_string_lossy().into_owned(), port: 0 };
    Web { listen: vec![listen], threads: 1, routes: Vec::new(), auth: Auth::default(), ..config.web.clone() }
}

/// The TLS configuration of the web server; nothing when no listener wants it.
fn tls(config: &Config, id: &str) -> Result<Option<Arc<ServerConfig>>, Error> {
    if config.web.listen.iter().all(|listen| listen.scheme != Scheme::Https) {
        return Ok(None);
    }
    let (certificate, key) = certificate(config, id)?;
    tls_server::server_config(&certificate, &key).map(Some).map_err(Error::Tls)
}

/// The configured certificate and key, or the device's own, which are made at the first start.
fn certificate(config: &Config, id: &str) -> Result<(PathBuf, PathBuf), Error> {
    if let (Some(certificate), Some(key)) = (&config.tls.certificate, &config.tls.key) {
        return Ok((certificate.clone(), key.clone()));
    }
    let directory = &config.directories.certs;
    let mut names = vec![id.to_ascii_lowercase()];
    if let Ok(host) = nix::unistd::gethostname().map(|host| host.to_string_lossy().into_owned()) {
        names.push(format!("{host}.local"));
        names.push(host);
    }
    own_certificate(directory, &names).map_err(|error| Error::Certificate(directory.clone(), error))
}
