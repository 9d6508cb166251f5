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
    /// Errors: a route wants a role, or tokens.
    pub fn new(settings: &Web) -> Result<Self, Error> {
        match settings.routes.iter().all(|route| route.role.is_empty() && !route.xsrf) {
            true => Ok(Self),
            false => Err(Error::Setting("web.routes: role and xsrf need users, and this build is without them".into())),
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
