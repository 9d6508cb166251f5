//! What all threads of the server share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;

use super::auth::Authority;
use super::{Action, Error, Worker};
use crate::config::{ProxyTarget, Web};
use crate::http1::{self, Headers};

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
    pub fields: Headers,
    tls: RwLock<Option<Arc<ServerConfig>>>,
    stopping: AtomicBool,
}

impl Shared {
    pub fn new(
        settings: Web,
        actions: Vec<(String, Box<dyn Action>)>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self, Error> {
        let mut fields = Headers::new();
        for (name, value) in [("X-Content-Type-Options", "nosniff")]
            .into_iter()
            .chain(settings.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        {
            fields.set(name, value).map_err(|error| Error::Setting(format!("web.headers: '{name}' {error}")))?;
        }
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
        Ok(Self {
            settings,
            limits,
            actions,
            authority,
            workers,
            fields,
            tls: RwLock::new(tls),
            stopping: AtomicBool::new(false),
        })
    }

    /// The certificate for new connections.
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_tls(&self, config: Arc<ServerConfig>) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = Some(config);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}
