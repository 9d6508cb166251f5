//! The user of a request, as actions see it.

use crate::web::Exchange;

impl Exchange {
    /// The name of the user who sent the request; `None` when nobody logged in, or the route is open to all and there is no
    /// session.
    pub fn user(&self) -> Option<&str> {
        self.user.as_ref().map(|user| user.name.as_str())
    }

    /// Whether the user has a role or an ability (`web.auth.roles`). Everybody has those of the role `public`.
    pub fn can(&self, ability: &str) -> bool {
        self.shared.authority.can(self.user.as_deref(), ability)
    }
}
