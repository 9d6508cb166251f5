//! What all threads of the server share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;

use super::access::Writer;
use super::auth::Authority;
use super::signatures::{Signatures, knows};
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
    /// The access log, if it is wanted; opened with the sockets.
    pub access: Option<Writer>,
    tls: RwLock<Option<Arc<ServerConfig>>>,
    /// There are routes that validate.
    validates: bool,
    signatures: RwLock<Option<Arc<Signatures>>>,
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
        let shared = Self {
            validates: settings.signatures.enable && settings.routes.iter().any(|route| route.validate),
            signatures: RwLock::default(),
            settings,
            limits,
            actions,
            authority,
            fields,
            access: None,
            tls: RwLock::new(tls),
            stopping: AtomicBool::new(false),
        };
        shared.load_signatures()?;
        Ok(shared)
    }

    /// The certificate for new connections.
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_tls(&self, config: Arc<ServerConfig>) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = Some(config);
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

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}
