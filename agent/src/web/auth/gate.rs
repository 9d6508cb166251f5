//! What stands before every handler: who asks, and may they?

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::account::Account;
use super::authority::Refused;
use super::compare::same;
use super::digest::Response;
use super::password::Hash;
use super::{basic, bearer, cookie, digest, login, origin, sessions, xsrf};
use crate::config::{Auth, AuthAlgorithm, AuthType, Route};
use crate::http1::Method;
use crate::web::router::find_route;
use crate::web::shared::Shared;
use crate::web::{Error, Exchange, Peer, redirect};

/// What caches may do with an answer that is for one client: keep it, and ask before each use. Otherwise a browser would show
/// it after the logout, for days if the file is old, and tell the token of a session that is over.
pub const OWN: &str = "private, no-cache";

/// Whether [`admit`] has anything to do with this request.
pub fn concerns(exchange: &Exchange) -> bool {
    let Auth { login, logout, .. } = &exchange.shared.authority.settings;
    let may_have_session = !login.is_empty()
        && (exchange.path == *login || exchange.path == *logout || exchange.header("cookie").is_some());
    may_have_session || exchange.certificate.is_some() || guarded(&exchange.shared, &exchange.path).is_some()
}

/// Lets the request go on to its handler (`true`) or answers it.
///
/// # Errors
/// 403 and 400 with the reason; and those of sending.
pub async fn admit(exchange: &mut Exchange) -> Result<bool, Error> {
    let shared = exchange.shared.clone();
    let Auth { login, logout, .. } = &shared.authority.settings;
    if !login.is_empty() && exchange.path == *login {
        return login::login(exchange).await.map(|()| false);
    }
    if !login.is_empty() && !logout.is_empty() && exchange.path == *logout {
        return login::logout(exchange).await.map(|()| false);
    }
    let route = guarded(&shared, &exchange.path);
    let role = route.map(|route| route.role.as_str()).filter(|role| !role.is_empty());
    let session = session(exchange).await;
    let is_token = bearer::token(exchange.header("authorization").unwrap_or_default()).is_some();
    let is_safe = is_safe(exchange.method());
    let wants_token = !is_token && route.is_some_and(|route| route.xsrf);
    if wants_token && !is_safe {
        xsrf::demand(exchange, session.as_ref().map(|(_, token)| token.as_str())).await?;
    }
    if let Some((account, token)) = session {
        return enter(exchange, account, &token, role, wants_token).map(|()| true);
    }
    if wants_token && is_safe {
        xsrf::offer(exchange)?;
    }
    if let Some(account) = certified(exchange) {
        return enter_certified(exchange, account, role).map(|()| true);
    }
    match route.zip(role) {
        Some((route, role)) => prove(exchange, &shared, route, role).await,
        None => Ok(true),
    }
}

/// Lets in who has a role that the route itself does not ask for, after [`admit`].
///
/// # Errors
/// As [`admit`].
pub async fn admit_to(exchange: &mut Exchange, route: &Route, role: &str) -> Result<bool, Error> {
    let shared = exchange.shared.clone();
    match exchange.user {
        Some(_) if exchange.can(role) => Ok(true),
        Some(_) => Err(Error::status(403, "this user may not do that")),
        None => prove(exchange, &shared, route, role).await,
    }
}

/// Has the user of a request prove who it is, by the way of the route.
async fn prove(exchange: &mut Exchange, shared: &Shared, route: &Route, role: &str) -> Result<bool, Error> {
    let is_token = bearer::token(exchange.header("authorization").unwrap_or_default()).is_some();
    match known(exchange, shared, route).await? {
        Ok(account) => exchange.user = Some(account),
        Err(refused) => return refuse(exchange, shared, route, refused).await.map(|()| false),
    }
    if !exchange.can(role) {
        return Err(Error::status(403, "this user may not do that"));
    }
    // A browser adds a password by itself, and never a token.
    if !is_token && !is_safe(exchange.method()) && !origin::is_own(exchange.headers(), exchange.secure()) {
        return Err(Error::status(403, "a page of another site may not do that"));
    }
    exchange.set_header("Cache-Control", OWN)?;
    Ok(true)
}

/// The route of a path, when it wants a role or a token.
fn guarded<'a>(shared: &'a Shared, path: &str) -> Option<&'a Route> {
    find_route(shared, path).filter(|route| !route.role.is_empty() || route.xsrf)
}

/// The user of the session and its XSRF token. Who sends a password means that instead.
async fn session(exchange: &Exchange) -> Option<(Arc<Account>, String)> {
    let authority = &exchange.shared.authority;
    let has_cookie = exchange.header("cookie").is_some();
    if authority.settings.login.is_empty() || !has_cookie || exchange.header("authorization").is_some() {
        return None;
    }
    let keeper = &authority.keeper;
    keeper.load().await;
    let (account, token, key) = {
        let (people, mut sessions) = (authority.people(), keeper.sessions());
        let mut ids = cookie::values(exchange.headers(), &authority.settings.sessions.cookie);
        ids.find_map(|id| {
            let found = sessions.find(id, Instant::now())?;
            let (name, proof) = found.user?;
            match people.find(&name, &proof) {
                Some(account) => Some((account.clone(), sessions::xsrf(id), found.key)),
                None => {
                    sessions.remove(&found.key);
                    None
                }
            }
        })?
    };
    keeper.touch(&key).await;
    Some((account, token))
}

/// Lets the user of a session in. Its cookie comes with every request of a browser; that the user's page sent it, and not one
/// of another site, is shown by the token, which is told in answers to requests that change nothing.
fn enter(
    exchange: &mut Exchange,
    account: Arc<Account>,
    xsrf: &str,
    role: Option<&str>,
    is_checked: bool,
) -> Result<(), Error> {
    let is_safe = is_safe(exchange.method());
    let has_token =
        is_checked || exchange.header("x-xsrf-token").is_some_and(|token| same(token.as_bytes(), xsrf.as_bytes()));
    let is_own = is_safe || (has_token && origin::is_own(exchange.headers(), exchange.secure()));
    if let Some(role) = role {
        if !exchange.shared.authority.can(Some(&account), role) {
            return Err(Error::status(403, "this user may not do that"));
        }
        if !is_own {
            return Err(Error::status(
                403,
                "this needs the session's token in the field X-XSRF-TOKEN, from a page of this site",
            ));
        }
    }
    // On a route that is open to all, a request without the token is nobody's.
    if is_own {
        exchange.user = Some(account);
        exchange.set_header("Cache-Control", OWN)?;
    }
    if is_safe {
        exchange.set_header("X-XSRF-TOKEN", xsrf)?;
    }
    Ok(())
}

/// The user of the client certificate. Who sends a password or a token means that instead.
fn certified(exchange: &Exchange) -> Option<Arc<Account>> {
    let holder = exchange.certificate().filter(|_| exchange.header("authorization").is_none())?;
    // The connection may be older than the end of its certificate.
    exchange.shared.authority.certified(holder).filter(|_| holder.is_current())
}

/// Lets the user of a client certificate in. A browser shows it with every request, also with those that the page of another
/// site makes: those may look, as far as the browser lets them see it, and change nothing.
fn enter_certified(exchange: &mut Exchange, account: Arc<Account>, role: Option<&str>) -> Result<(), Error> {
    let is_own = is_safe(exchange.method()) || origin::is_own(exchange.headers(), exchange.secure());
    if let Some(role) = role {
        if !exchange.shared.authority.can(Some(&account), role) {
            return Err(Error::status(403, "this user may not do that"));
        }
        if !is_own {
            return Err(Error::status(403, "a page of another site may not do that"));
        }
    }
    // On a route that is open to all, the request of another site is nobody's.
    if is_own {
        exchange.user = Some(account);
        exchange.set_header("Cache-Control", OWN)?;
    }
    Ok(())
}

/// The user that the request names and proves by the way of the route.
async fn known(exchange: &Exchange, shared: &Shared, route: &Route) -> Result<Result<Arc<Account>, Refused>, Error> {
    let mut fields = exchange.headers().get_all("authorization");
    let field = fields.next().unwrap_or_default();
    if fields.next().is_some() {
        return Err(Error::status(400, "there is more than one Authorization field"));
    }
    let authority = &shared.authority;
    if let Some(token) = bearer::token(field) {
        require_tls(exchange)?;
        return Ok(authority.token(token).ok_or(Refused::Wrong));
    }
    Ok(match route.auth_type {
        AuthType::Basic => {
            require_tls(exchange)?;
            match basic::credentials(field) {
                Some((user, password)) => authority.verify(&user, &password, address(exchange)).await,
                None => Err(Refused::Wrong),
            }
        }
        AuthType::Digest => match Response::parse(field) {
            Some(response) => {
                let request = (exchange.method().as_str(), exchange.target());
                authority.digest(&response, hash(route), request, address(exchange))
            }
            None => Err(Refused::Wrong),
        },
        AuthType::Session | AuthType::Certificate => Err(Refused::Wrong),
    })
}

fn hash(route: &Route) -> Hash {
    match route.algorithm {
        AuthAlgorithm::Sha256 => Hash::Sha256,
        AuthAlgorithm::Md5 => Hash::Md5,
    }
}

/// Passwords travel readable: not without TLS, if the configuration does not say so.
pub fn require_tls(exchange: &Exchange) -> Result<(), Error> {
    let is_private = exchange.secure() || exchange.peer() == Peer::Unix;
    match is_private || !exchange.shared.authority.settings.require_tls {
        true => Ok(()),
        false => Err(Error::status(403, "passwords are taken over TLS only: use https (web.auth.requireTlsForBasic)")),
    }
}

/// Answers somebody who is not known.
async fn refuse(exchange: &mut Exchange, shared: &Shared, route: &Route, refused: Refused) -> Result<(), Error> {
    if matches!(refused, Refused::Wait(_) | Refused::Busy) {
        return answer_later(exchange, refused).await;
    }
    // A page that asks for a login by itself; who brought a password is told that it is wrong.
    let is_visit =
        matches!(exchange.method(), Method::Get | Method::Head) && exchange.header("authorization").is_none();
    if let Some(to) = route.redirect.as_ref().filter(|_| is_visit) {
        exchange.set_header("Cache-Control", "no-store")?;
        return redirect::send(exchange, 302, to).await;
    }
    let realm = &shared.authority.settings.realm;
    let challenge = match route.auth_type {
        AuthType::Basic => basic::challenge(realm),
        AuthType::Digest => {
            let nonce = shared.authority.nonce().ok_or_else(|| Error::status(503, "nobody can log in now"))?;
            digest::challenge(hash(route), realm, &nonce, refused == Refused::Stale)
        }
        AuthType::Session => format!("Session realm=\"{realm}\""),
        AuthType::Certificate => return answer(exchange, 403, "this needs the client certificate of a user").await,
    };
    exchange.set_header("WWW-Authenticate", &challenge)?;
    answer(exchange, 401, "log in").await
}

/// Answers somebody who has to wait.
pub async fn answer_later(exchange: &mut Exchange, refused: Refused) -> Result<(), Error> {
    let (status, seconds, text) = match refused {
        Refused::Wait(wait) => (429, wait.as_secs() + 1, "too many attempts"),
        Refused::Wrong | Refused::Busy | Refused::Stale => (429, 2, "too many log in at the same time"),
    };
    exchange.set_header("Retry-After", &seconds.to_string())?;
    answer(exchange, status, text).await
}

pub async fn answer(exchange: &mut Exchange, status: u16, text: &str) -> Result<(), Error> {
    exchange.set_status(status);
    exchange.set_header("Cache-Control", "no-store")?;
    exchange.send("text/plain; charset=utf-8", format!("{status} {}: {text}\n", crate::http1::reason(status))).await
}

/// Where the client is; a process on this device is nowhere.
pub fn address(exchange: &Exchange) -> Option<IpAddr> {
    match exchange.peer() {
        Peer::Tcp(address) => Some(address.ip()),
        Peer::Unix => None,
    }
}

/// Whether a method changes nothing (RFC 9110 §9.2.1).
pub fn is_safe(method: &Method) -> bool {
    matches!(method, Method::Get | Method::Head | Method::Options | Method::Trace)
}
