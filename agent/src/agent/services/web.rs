//! The two doors of the agent: the web server on the network, and the local API on a Unix socket.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use serde_json::{Map, json};
use smol::future::FutureExt;

use super::{Before, Handles, access};
use crate::agent::plan::{Executor, Plan, Service};
use crate::agent::slot::Slot;
use crate::agent::{Board, Error, Report, ServiceError, Status, Stop};
use crate::api::{self, Door};
use crate::config::{AccessLog, Auth, ClientCertificates, Config, Listen, Scheme, Web, WebSignatures};
use crate::net::{self, tls_server::TlsServer};
use crate::web::{Bound, Error as WebError, Handle, Reserved, Server, own_certificate};

/// Bytes of a request on the agent's own socket: an MQTT message of 128 KiB in base64, and more.
const OWN_BODY: u64 = 512 * 1024;
/// How long requests that run may go on after the stop. With what workers, sessions and the access log take after it this
/// is in the agent's time to stop.
const DRAIN: Duration = Duration::from_millis(2_500);
/// The parts of the web server in the time to stop; the services beside it end within moments.
const PARTS: u32 = 12;

/// Opens both doors. A port that is in use is an error here; an address that is not there yet is waited for, as all that
/// fails later: the server is bound again after a pause, 1 s at first, at most 5 min.
pub fn prepare(
    plan: &mut Plan,
    config: &Config,
    (id, board, executor): (&str, &Board, &Executor),
    handles: &Handles,
    (extend, before): (&Rc<dyn Fn(Server) -> Server>, &Before),
) -> Result<(), Error> {
    let status = Arc::new(status(config, id, board, handles).with_sandbox(before.sandbox.clone()));
    let own = Entrance {
        settings: local(config),
        auth: Slot::default(),
        door: Door::Own,
        tls: Slot::default(),
        status: status.clone(),
        handles: handles.clone(),
        extend: Rc::new(|server| server),
        reserved: Arc::default(),
    };
    add(plan, "api", own, executor)?;
    if config.services.web {
        let certificate = Slot::default();
        certificate.set(tls(config, id)?);
        let settings = config.web.clone();
        let auth = Slot::default();
        auth.set(Some(settings.auth.clone()));
        let door = Door::Web { open: settings.open };
        let (handles, extend, reserved) = (handles.clone(), extend.clone(), before.reserved.clone());
        let entrance = Entrance {
            settings,
            auth: auth.clone(),
            door,
            tls: certificate.clone(),
            status,
            handles,
            extend,
            reserved,
        };
        let handle = add(plan, "web", entrance, executor)?;
        let id = id.to_owned();
        plan.on_reload(move |config| {
            take_users(&auth, &config.web.auth, handle.get());
            let handle = handle.get();
            if let Some(handle) = &handle {
                handle.reopen_access_log();
            }
            let new = tls(config, &id)?;
            // What can fail comes first: all of it is taken over, or nothing.
            if let Some(handle) = &handle {
                handle.reload_signatures().map_err(Error::Web)?;
            }
            certificate.set(new.clone());
            new.zip(handle).into_iter().for_each(|(new, handle)| handle.set_tls(new));
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
    let first = match entrance.bind() {
        Err(error) if is_too_early(&error) => Err(error),
        bound => Ok(bound.map_err(Error::Web)?),
    };
    let first = Cell::new(Some(first));
    let handle = Slot::default();
    let (slot, executor) = (handle.clone(), executor.clone());
    let parts = if matches!(entrance.door, Door::Web { .. }) { PARTS } else { 1 };
    let service = Service::new(name, move |stop, report| {
        let bound = first.take().unwrap_or_else(|| entrance.bind());
        run(bound, executor.clone(), slot.clone(), stop, report)
    });
    plan.add(service.with_parts(parts));
    Ok(handle)
}

/// Whether it may be better in a while: at the start of a device its addresses and names may not be there yet.
fn is_too_early(error: &WebError) -> bool {
    use std::io::ErrorKind::{AddrNotAvailable, NetworkDown, NetworkUnreachable};
    let WebError::Bind { source, .. } = error else { return false };
    matches!(source.kind(), AddrNotAvailable | NetworkDown | NetworkUnreachable)
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
    /// Adds what the program has beside the agent's own.
    extend: Rc<dyn Fn(Server) -> Server>,
    /// Sockets that only root could open.
    reserved: Arc<Reserved>,
}

impl Entrance {
    fn bind(&self) -> Result<Bound, WebError> {
        let door = self.door;
        let status = self.status.clone();
        let mut settings = self.settings.clone();
        if let Some(Auth { users, tokens, roles, .. }) = self.auth.get() {
            settings.auth = Auth { users, tokens, roles, ..settings.auth };
        }
        let server = Server::new(settings.clone()).drain(DRAIN).reserved(self.reserved.clone());
        let server = with_sessions(server, &settings, &self.handles);
        let server = server.action("/api/status", api::status(move || status.snapshot(), door));
        let mut server = (self.extend)(with_messages(with_database(server, &self.handles, door), &self.handles, door));
        if let Some(sink) = access::sink(&self.settings, &self.handles) {
            server = server.access_sink(sink);
        }
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
        None => api::no_database(exchange).await,
    })
}

#[cfg(not(feature = "db"))]
fn with_database(server: Server, _: &Handles, _: Door) -> Server {
    server
}

#[cfg(feature = "mqtt")]
fn with_messages(server: Server, handles: &Handles, door: Door) -> Server {
    let client = handles.mqtt.clone();
    server.action("/api/mqtt", api::messages(move || client.get(), door))
}

#[cfg(not(feature = "mqtt"))]
fn with_messages(server: Server, _: &Handles, _: Door) -> Server {
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
        // What is kept now need not be later, when there may be no time.
        #[cfg(feature = "users")]
        handle.save_sessions().await;
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
    let mut limits = config.web.limits.clone();
    limits.body = limits.body.max(OWN_BODY);
    Web {
        limits,
        listen: vec![listen],
        threads: 1,
        name: None,
        headers: Vec::new(),
        protect: false,
        redirects: Vec::new(),
        routes: Vec::new(),
        auth: Auth::default(),
        signatures: WebSignatures::default(),
        access_log: AccessLog::default(),
        ..config.web.clone()
    }
}

/// The TLS configuration of the web server; nothing when no listener wants it.
fn tls(config: &Config, id: &str) -> Result<Option<Arc<ServerConfig>>, Error> {
    if config.web.listen.iter().all(|listen| listen.scheme != Scheme::Https) {
        return Ok(None);
    }
    let settings = &config.tls;
    let mut server = TlsServer::new().ciphers(settings.ciphers.iter().cloned());
    match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => server = server.identity(certificate, key),
        _ if settings.certificates.is_empty() => {
            let (certificate, key) = own(config, id)?;
            server = server.identity(certificate, key);
        }
        _ => {}
    }
    for one in &settings.certificates {
        server = server.identity_for(&one.certificate, &one.key, one.names.iter().cloned());
    }
    if settings.clients != ClientCertificates::Off {
        let authority = settings.authority.as_ref();
        let authority = authority.ok_or_else(|| Error::Tls(net::Error::Tls("tls.authority is not said".into())))?;
        server = server.clients(authority).clients_optional(settings.clients == ClientCertificates::Optional);
        if let Some(lists) = &settings.crl {
            server = server.revoked(lists);
        }
    }
    server.build().map(Some).map_err(Error::Tls)
}

/// The device's own certificate and key, which are made at the first start.
fn own(config: &Config, id: &str) -> Result<(PathBuf, PathBuf), Error> {
    let directory = &config.directories.certs;
    let mut names = vec![id.to_ascii_lowercase()];
    if let Ok(host) = nix::unistd::gethostname().map(|host| host.to_string_lossy().into_owned()) {
        names.push(format!("{host}.local"));
        names.push(host);
    }
    own_certificate(directory, &names).map_err(|error| Error::Certificate(directory.clone(), error))
}
