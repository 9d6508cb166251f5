//! What all threads of the server share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;

use super::access::Writer;
use super::auth::Authority;
use super::fields::{Fields, methods};
use super::signatures::{Signatures, knows};
use super::{Action, Error, Worker};
use crate::config::{ProxyTarget, Web};
use crate::http1;

/// Settings, actions and the certificate.
pub(super) struct Shared {
    pub settings: Web,
    pub limits: http1::Limits,
    /// The longest prefix first.
    pub actions: Vec<(String, Box<dyn Action>)>,
    pub authority: Authority,
    /// Programs that this server starts.
    pub workers: Vec<Arc<Worker>>,
    /// Fields of every response.
    plain: Fields,
    /// The same for those over TLS.
    secure: Fields,
    /// Pages of other sites may use this server; browsers ask before they do (CORS).
    pub is_shared: bool,
    /// The methods of actions where no route lists any; empty: all.
    pub methods: Vec<String>,
    /// The access log, if it is wanted; opened with the sockets.
    pub access: Option<Writer>,
    tls: RwLock<Option<Arc<ServerConfig>>>,
    tls_generation: AtomicU64,
    /// There are routes that validate.
    validates: bool,
    signatures: RwLock<Option<Arc<Signatures>>>,
    stopping: AtomicBool,
    /// How often a file was written or removed.
    changes: AtomicUsize,
}

impl Shared {
    pub fn new(
        settings: Web,
        actions: Vec<(String, Box<dyn Action>)>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self, Error> {
        let (plain, secure) = (Fields::new(&settings, false)?, Fields::new(&settings, true)?);
        let is_shared = plain.headers.get("access-control-allow-origin").is_some();
        let methods = methods(plain.headers.get("access-control-allow-methods").unwrap_or_default());
        for route in &settings.routes {
            if !matches!(route.handler.as_str(), "file" | "action" | "proxy" | "") {
                let text = format!("web.routes: unknown handler '{}'; there are file, action and proxy", route.handler);
                return Err(Error::Setting(text));
            }
        }
        let mut workers: Vec<Arc<Worker>> = Vec::new();
        let targets = settings.routes.iter().filter_map(|route| route.proxy.as_ref()).map(|proxy| &proxy.target);
        for target in targets {
            let ProxyTarget::Program(command) = target else { continue };
            if let Some((program, arguments)) = command.split_first() {
                if !workers.iter().any(|worker| worker.is(command)) {
                    workers.push(Arc::new(Worker::program(program, arguments)));
                }
            }
        }
        let limits = http1::Limits {
            head: settings.limits.header,
            headers: settings.limits.headers,
            target: settings.limits.uri,
        };
        let authority = Authority::new(&settings)?;
        let shared = Self {
            validates: settings.signatures.enable && settings.routes.iter().any(|route| route.validate),
            signatures: RwLock::default(),
            settings,
            limits,
            actions,
            authority,
            plain,
            secure,
            is_shared,
            methods,
            access: None,
            workers,
            tls: RwLock::new(tls),
            tls_generation: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            changes: AtomicUsize::new(0),
        };
        shared.load_signatures()?;
        Ok(shared)
    }

    /// The fields of every response, over TLS or not.
    pub fn fields(&self, secure: bool) -> &Fields {
        if secure { &self.secure } else { &self.plain }
    }

    /// The TLS of new connections, and its [number](Self::tls_generation).
    pub fn tls(&self) -> Option<(Arc<ServerConfig>, u64)> {
        let tls = self.tls.read().unwrap_or_else(PoisonError::into_inner);
        tls.clone().map(|tls| (tls, self.tls_generation()))
    }

    pub fn set_tls(&self, config: Arc<ServerConfig>) {
        let mut tls = self.tls.write().unwrap_or_else(PoisonError::into_inner);
        *tls = Some(config);
        self.tls_generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Another number after each [`Shared::set_tls`].
    pub fn tls_generation(&self) -> u64 {
        self.tls_generation.load(Ordering::Acquire)
    }

    /// Reads the file of signatures, again perhaps; where it cannot be used those that are there stay.
    pub fn load_signatures(&self) -> Result<(), Error> {
        if self.settings.signatures.enable {
            let knows = |role: &str| knows(&self.settings, role);
            let signatures = Signatures::load(&self.settings.signatures, &knows).map_err(Error::Setting)?;
            *self.signatures.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(signatures));
        }
        Ok(())
    }

    /// Whether any route validates.
    pub fn validates(&self) -> bool {
        self.validates
    }

    /// The signatures, if they are wanted.
    pub fn signatures(&self) -> Option<Arc<Signatures>> {
        self.signatures.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often this server wrote or removed a file.
    pub fn changes(&self) -> usize {
        self.changes.load(Ordering::Acquire)
    }

    /// A file was written or removed: what the threads know of files is out of date.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}
