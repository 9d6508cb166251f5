//! Nobody can log in to a build without the feature `users`: what needs a user is refused when the server is set up.

use super::{Error, Exchange};
use crate::config::Web;

/// There is none.
pub(super) enum Account {}

impl Account {
    /// The name of the user.
    pub fn name(&self) -> &str {
        match *self {}
    }
}

/// The authority of a server without users.
pub(super) struct Authority;

impl Authority {
    /// Errors: the settings want users.
    pub fn new(settings: &Web) -> Result<Self, Error> {
        let is_open = |role: &str| matches!(role, "" | "public");
        let wants = |key: &str| {
            Err(Error::Setting(format!(
                "{key}: this build has no users, it needs the feature `users`: leave the key out"
            )))
        };
        match () {
            () if !settings.routes.iter().all(|route| is_open(&route.role)) => wants("web.routes[].role"),
            () if !settings.auth.users.is_empty() => wants("web.auth.users"),
            () if !settings.auth.login.is_empty() => wants("web.auth.login"),
            () => Ok(Self),
        }
    }

    /// Whether somebody can do something: nobody can.
    pub fn can(&self, _: Option<&Account>, _: &str) -> bool {
        false
    }
}

/// No request concerns users.
pub(super) fn concerns(_: &Exchange) -> bool {
    false
}

/// Lets no request pass, should one be asked about.
pub(super) async fn admit(_: &mut Exchange) -> Result<bool, Error> {
    Err(Error::status(403, "this build has no users"))
}
