//! Sessions as an action sees them: variables, login and logout.

use std::time::Instant;

use super::cookie;
use super::gate::address;
use super::sessions::{self, Key};
use super::xsrf;
use crate::web::{Error, Exchange};

/// Bytes of the name of a variable.
const NAME: usize = 128;

/// The session of the client who sent a request: of a user, or of a visitor. It begins when its first variable is set, or by
/// a login, which begins a new one.
///
/// A session has up to 32 variables of 4096 bytes together. Those of visitors are in memory, at most `web.limits.sessions`
/// and 10 of an address: the one that was unused longest makes room. Those of users are kept as `web.sessions.store` says; a
/// change of variables within half a minute, or at once by [`Session::save`].
pub struct Session<'a>(&'a mut Exchange);

/// The id of a session that began with this request. In a box: seldom used, and a part of every connection.
pub struct SessionId(String);

impl Session<'_> {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<String> {
        let key = key(self.0)?;
        self.0.shared.authority.keeper.sessions().get(&key, name)
    }

    /// Sets a variable, and begins a session where there is none.
    ///
    /// # Errors
    /// There is no room for it: 413. The session is that of a user, and the request, which changes something, did not bring its
    /// token: 403. No session can begin: the response has begun, or the system gives no random bytes.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let key = match key(self.0) {
            Some(key) => key,
            None => self.begin()?,
        };
        let is_set = name.len() <= NAME
            && self.0.shared.authority.keeper.sessions().set(&key, name, Some(value), Instant::now());
        match is_set {
            true => Ok(()),
            false => Err(Error::status(413, "the session has no room for that")),
        }
    }

    /// Removes a variable.
    pub fn remove(&mut self, name: &str) {
        if let Some(key) = key(self.0) {
            self.0.shared.authority.keeper.sessions().set(&key, name, None, Instant::now());
        }
    }

    /// Waits until the session would outlive a restart, if it is a user's and `web.sessions.store` keeps it.
    ///
    /// # Errors
    /// It could not be written; the text says why.
    pub async fn save(&self) -> Result<(), Error> {
        self.0.shared.authority.keeper.save().await.map_err(Error::failed)
    }

    fn begin(&mut self) -> Result<Key, Error> {
        let exchange = &mut *self.0;
        if !exchange.is_open() {
            return Err(Error::Answered);
        }
        let shared = exchange.shared.clone();
        if is_of_user(exchange) {
            // Else a page of another site could take away the user's cookie.
            return Err(Error::status(403, "this needs the session's token in the field X-XSRF-TOKEN"));
        }
        // The cookie that this answer brings already. One that the request brought may be known to somebody else.
        let given = exchange.session.as_ref().map(|id| id.0.clone());
        let is_given = given.is_some();
        let id = shared.authority.keeper.sessions().visit(given, address(exchange), Instant::now());
        let id = id.ok_or_else(|| Error::status(503, "no session can begin now"))?;
        if !is_given {
            give(exchange, &id)?;
            xsrf::tell(exchange, &id)?;
        }
        key(exchange).ok_or_else(|| Error::status(503, "no session can begin now"))
    }
}

impl Exchange {
    /// The session of the client.
    pub fn session(&mut self) -> Session<'_> {
        Session(self)
    }

    /// Begins a session for a user, without a password: the action knows who it is. Answers later requests as that user; the
    /// response brings the cookie, and the session's token in `X-XSRF-TOKEN`.
    ///
    /// # Errors
    /// There is no such user, or the response has begun.
    pub async fn login(&mut self, user: &str) -> Result<(), Error> {
        if !self.is_open() {
            return Err(Error::Answered);
        }
        let shared = self.shared.clone();
        let account = shared.authority.people().accounts.get(user).cloned();
        let account = account.ok_or_else(|| Error::failed(format!("there is no user '{user}'")))?;
        let keeper = &shared.authority.keeper;
        keeper.load().await;
        let id = {
            let mut sessions = keeper.sessions();
            // What was known before the login is worth nothing after it.
            end(self, &mut sessions);
            let created = sessions.create((account.name.clone(), account.proof.clone()), Instant::now());
            created.ok_or_else(|| Error::status(503, "no session can begin now"))?
        };
        // A session that is not kept is one until the next restart.
        let _ = keeper.save().await;
        give(self, &id)?;
        self.set_header("X-XSRF-TOKEN", &sessions::xsrf(&id))?;
        self.user = Some(account);
        Ok(())
    }

    /// Ends the session, for good when this returns.
    ///
    /// # Errors
    /// 503: it has ended now, and would be back after a restart, since the database cannot be written. The response has begun.
    pub async fn logout(&mut self) -> Result<(), Error> {
        if !self.is_open() {
            return Err(Error::Answered);
        }
        let shared = self.shared.clone();
        let keeper = &shared.authority.keeper;
        keeper.load().await;
        end(self, &mut keeper.sessions());
        self.session = None;
        self.user = None;
        let saved = keeper.save().await;
        let settings = &shared.authority.settings.sessions;
        self.add_header("Set-Cookie", &cookie::clear(settings, self.secure()))?;
        saved.map_err(|_| Error::status(503, "the session has ended, and that cannot be written: try again"))
    }
}

/// Tells the client its session, in place of one that it was told before.
pub fn give(exchange: &mut Exchange, id: &str) -> Result<(), Error> {
    let shared = exchange.shared.clone();
    let settings = &shared.authority.settings.sessions;
    if let Some(before) = exchange.session.take() {
        let before = format!("{}={};", settings.cookie, before.0);
        let others: Vec<_> =
            exchange.headers.get_all("set-cookie").filter(|value| !value.starts_with(&before)).collect();
        let others: Vec<_> = others.into_iter().map(str::to_owned).collect();
        exchange.headers.remove("set-cookie");
        for other in others {
            exchange.add_header("Set-Cookie", &other)?;
        }
    }
    exchange.add_header("Set-Cookie", &cookie::set(settings, id, exchange.secure()))?;
    exchange.session = Some(Box::new(SessionId(id.to_owned())));
    Ok(())
}

/// Ends the sessions of the request.
fn end(exchange: &Exchange, sessions: &mut super::sessions::Sessions) {
    let name = &exchange.shared.authority.settings.sessions.cookie;
    for id in cookie::values(exchange.headers(), name).chain(exchange.session.as_ref().map(|id| id.0.as_str())) {
        if let Some(found) = sessions.find(id, Instant::now()) {
            sessions.remove(&found.key);
        }
    }
}

/// Whether the client has a session as a user, though this request may not use it.
fn is_of_user(exchange: &Exchange) -> bool {
    let authority = &exchange.shared.authority;
    let mut sessions = authority.keeper.sessions();
    let mut ids = cookie::values(exchange.headers(), &authority.settings.sessions.cookie);
    ids.any(|id| sessions.find(id, Instant::now()).is_some_and(|found| found.user.is_some()))
}

/// The session of the request: one of the user whom the gate let in, before a visitor's, which somebody else may have given
/// to the client.
fn key(exchange: &Exchange) -> Option<Key> {
    let authority = &exchange.shared.authority;
    let mut sessions = authority.keeper.sessions();
    let ids = cookie::values(exchange.headers(), &authority.settings.sessions.cookie);
    let mut of_visitor = None;
    for id in exchange.session.as_ref().map(|id| id.0.as_str()).into_iter().chain(ids) {
        let Some(found) = sessions.find(id, Instant::now()) else { continue };
        match &found.user {
            Some((name, _)) if exchange.user() == Some(name) => return Some(found.key),
            None if of_visitor.is_none() => of_visitor = Some(found.key),
            _ => {}
        }
    }
    of_visitor
}
