//! What all threads of the server share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;

use super::auth::Authority;
use super::{Action, Error};
use crate::config::Web;
use crate::http1::{self, Headers};

/// Settings, actions and the certificate.
pub(super) struct Shared {
    pub settings: Web,
    pub limits: http1::Limits,
    /// The longest prefix first.
    pub actions: Vec<(String, Box<dyn Action>)>,
    pub authority: Authority,
    /// Fields of every response.
    pub fields: Headers,
    tls: RwLock<Option<Arc<ServerConfig>>>,
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
        let mut fields = Headers::new();
        for (name, value) in [("X-Content-Type-Options", "nosniff")]
            .into_iter()
            .chain(settings.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        {
            fields.set(name, value).map_err(|error| Error::Setting(format!("web.headers: '{name}' {error}")))?;
        }
        for route in &settings.routes {
            if !matches!(route.handler.as_str(), "file" | "action" | "") {
                let text = format!("web.routes: unknown handler '{}'; there are file and action", route.handler);
                return Err(Error::Setting(text));
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
            fields,
            tls: RwLock::new(tls),
            stopping: AtomicBool::new(false),
            changes: AtomicUsize::new(0),
        })
    }

    /// The certificate for new connections.
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_tls(&self, config: Arc<ServerConfig>) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = Some(config);
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
