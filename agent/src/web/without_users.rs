//! Nobody can log in to a build without the feature `users`: what needs a user is refused when the server is set up.

use super::{Error, Exchange};
use crate::config::{Route, Web};

/// There is none.
pub(super) enum Account {}

impl Account {
    /// The name of the user.
    pub fn name(&self) -> &str {
        match *self {}
    }

    /// The role.
    pub fn role(&self) -> &str {
        match *self {}
    }
}

/// The authority of a server without users.
pub(super) struct Authority;

impl Authority {
    /// Errors: a route wants a role.
    pub fn new(settings: &Web) -> Result<Self, Error> {
        match settings.routes.iter().all(|route| route.role.is_empty()) {
            true => Ok(Self),
            false => Err(Error::Setting("web.routes: a role needs users, and this build is without them".into())),
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

/// Lets nobody in where a role is wanted.
pub(super) async fn admit_to(exchange: &mut Exchange, _: &Route, _: &str) -> Result<bool, Error> {
    admit(exchange).await
}

/// Lets no request pass, should one be asked about.
pub(super) async fn admit(_: &mut Exchange) -> Result<bool, Error> {
    Err(Error::status(403, "this build has no users"))
}
