//! What stands before every handler: who asks, and may they?

use std::net::IpAddr;

use super::authority::Refused;
use super::{basic, origin};
use crate::config::{AuthType, Route};
use crate::http1::Method;
use crate::web::router::find_route;
use crate::web::shared::Shared;
use crate::web::{Error, Exchange, Peer};

/// Whether [`admit`] has anything to do with this request.
pub fn concerns(exchange: &Exchange) -> bool {
    find_route(&exchange.shared, &exchange.path).is_some_and(|route| !route.role.is_empty())
}

/// Lets the request go on to its handler (`true`) or answers it.
///
/// # Errors
/// 403 and 400 with the reason; and those of sending.
pub async fn admit(exchange: &mut Exchange) -> Result<bool, Error> {
    let shared = exchange.shared.clone();
    let Some(route) = find_route(&shared, &exchange.path).filter(|route| !route.role.is_empty()) else {
        return Ok(true);
    };
    let account = match credentials(exchange, route)? {
        None => Err(Refused::Wrong),
        Some((user, password)) => shared.authority.verify(&user, &password, address(exchange)).await,
    };
    match account {
        Ok(account) => exchange.user = Some(account),
        Err(refused) => return refuse(exchange, &shared, route, refused).await.map(|()| false),
    }
    if !exchange.can(&route.role) {
        return Err(Error::status(403, "this user may not do that"));
    }
    if !is_safe(exchange.method()) && !origin::is_own(exchange.headers(), exchange.secure()) {
        return Err(Error::status(403, "a page of another site may not do that"));
    }
    Ok(true)
}

/// Name and password that the request brings.
fn credentials(exchange: &Exchange, route: &Route) -> Result<Option<(String, String)>, Error> {
    let mut fields = exchange.headers().get_all("authorization");
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Error::status(400, "there is more than one Authorization field"));
    }
    if route.auth_type != AuthType::Basic {
        return Ok(None);
    }
    require_tls(exchange)?;
    Ok(field.and_then(basic::credentials))
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
    match refused {
        Refused::Wrong => {
            let realm = &shared.authority.settings.realm;
            let challenge = match route.auth_type {
                AuthType::Basic => basic::challenge(realm),
                AuthType::Digest | AuthType::Session => format!("Session realm=\"{realm}\""),
            };
            exchange.set_header("WWW-Authenticate", &challenge)?;
            answer(exchange, 401, "log in").await
        }
        refused => answer_later(exchange, refused).await,
    }
}

/// Answers somebody who has to wait.
pub async fn answer_later(exchange: &mut Exchange, refused: Refused) -> Result<(), Error> {
    let (status, seconds, text) = match refused {
        Refused::Wait(wait) => (429, wait.as_secs() + 1, "too many attempts"),
        Refused::Wrong | Refused::Busy => (503, 1, "too many log in at the same time"),
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
