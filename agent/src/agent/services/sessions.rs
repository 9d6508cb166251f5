//! Keeps the sessions of the web server in the database.

use crate::agent::slot::Slot;
use crate::db::{Db, Error};
use crate::web::auth::{Answer, SessionStore};

/// Their place beside the models.
const SPACE: &str = "web.sessions";

/// The database, while it is up.
pub struct Kept(Slot<Db>);

impl Kept {
    /// Sessions in the database of this slot.
    pub fn new(db: Slot<Db>) -> Self {
        Self(db)
    }

    fn db(&self) -> Result<Db, String> {
        self.0.get().ok_or_else(|| "the database is not up; `ioto status` says why".to_owned())
    }
}

impl SessionStore for Kept {
    fn load(&self) -> Answer<'_, Vec<(Vec<u8>, String)>> {
        Box::pin(async { self.db()?.kept(SPACE).await.map_err(|error: Error| error.to_string()) })
    }

    fn write(&self, kept: Vec<(Vec<u8>, String)>, removed: Vec<Vec<u8>>) -> Answer<'_, ()> {
        Box::pin(async { self.db()?.keep(SPACE, kept, removed).await.map_err(|error| error.to_string()) })
    }
}
