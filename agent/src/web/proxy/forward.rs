//! A request from the client to the program, and the response back.

use std::time::{Duration, Instant};

use super::call::Call;
use super::fault::{Failure, Fault};
use super::pool::connect;
use super::{Way, headers, tunnel};
use crate::config::FOREVER;
use crate::http1::{Framing, Method, ResponseHead, Version};
use crate::web::handshake::{is_same_origin, origin};
use crate::web::link::Patience;
use crate::web::{Error, Exchange};

/// A request may be late by so much before the connection cuts it: until then it gets an answer.
const GRACE: Duration = Duration::from_secs(2);

/// Passes the request on and answers with the program's response.
///
/// # Errors
/// Nothing was answered, or a part; the program's failures are for the caller to explain.
pub(in crate::web) async fn forward(exchange: &mut Exchange, way: &Way<'_>) -> Result<(), Failure> {
    let (shared, local) = (exchange.shared.clone(), exchange.local.clone());
    let settings = &shared.settings.proxy;
    let now = Instant::now();
    let until = now + way.timeout;
    let timeouts = &shared.settings.timeouts;
    let end = now + way.timeout.max(timeouts.request) + GRACE;
    let whole = {
        let link = &mut exchange.transfer.get_mut().link;
        link.set_patience(Patience { stall: timeouts.inactivity, until: end });
        link.whole()
    };
    whole.set(end);

    let upgrade = wants_websocket(exchange)?;
    let valid = valid_body(exchange, upgrade)?;
    let head = headers::request(exchange, way, upgrade, valid.as_deref())?;
    if let Some(body) = valid {
        let transfer = exchange.transfer.get_mut();
        // A request that met a worker's end is sent once more.
        if transfer.is_received() {
            transfer.put_back(body);
        }
    }
    let Some(lease) = local.programs.lease(way.target, &local, settings).await else {
        return busy(exchange, 1, "too many requests wait for the program behind this").await.map_err(Failure::Client);
    };

    // A program may close a kept connection in the moment that it is used. Only what can be said twice is sent there.
    let is_repeatable = way.repeats && is_idempotent(&head.method) && !upgrade && head.framing()? == Framing::Empty;
    let mut kept = if is_repeatable || !way.repeats { lease.kept() } else { None };
    let (mut call, response) = loop {
        let is_kept = kept.is_some();
        let link = match kept.take() {
            Some(link) => link,
            None => connect(way.target, &local, settings.connect).await?,
        };
        let mut call = Call::new(exchange, link, &head)?;
        match call.head(exchange, until).await {
            Err(Failure::Program(fault)) if is_kept && is_repeatable && fault.is_end() && call.is_untouched() => {}
            result => break (call, result?),
        }
    };
    if response.status == 101 {
        return tunnel::run(exchange, call, &response, upgrade).await;
    }

    let framing = response.framing(&exchange.head.method).map_err(Fault::Response)?;
    call.program.get_mut().expect(framing);
    let content_type = headers::response(exchange, &response)?;
    let is_endless = content_type.starts_with("text/event-stream");
    if is_endless {
        whole.set(Instant::now() + FOREVER);
        exchange.transfer.get_mut().link.live(timeouts.inactivity);
    }
    // Who refuses a request may not want the rest of it.
    exchange.last |= !call.is_sent && response.status >= 400;
    let _ = match length(exchange, &response, framing) {
        Some(length) => exchange.stream_length(&content_type, length)?,
        None => exchange.stream(&content_type)?,
    };
    call.body(exchange, is_endless).await?;
    if response.keeps_alive() && framing != Framing::UntilClose {
        if let Some(link) = call.into_link() {
            lease.keep(link, settings.idle);
        }
    }
    Ok(())
}

/// The body as its signature lets it pass, in place of what was read; nothing where none was sent, if there is nothing to say.
fn valid_body(exchange: &Exchange, upgrade: bool) -> Result<Option<Vec<u8>>, Error> {
    let body =
        exchange.validation.as_ref().filter(|_| !upgrade).and_then(|validation| validation.bytes()).transpose()?;
    let is_sent = exchange.head.framing()? != Framing::Empty;
    Ok(body.filter(|body| is_sent || !matches!(&body[..], b"" | b"{}" | b"null")))
}

/// Answers who came at a bad time.
pub(in crate::web) async fn busy(exchange: &mut Exchange, seconds: u64, why: &str) -> Result<(), Error> {
    exchange.set_status(503);
    exchange.set_header("Retry-After", &seconds.to_string())?;
    exchange.send("text/plain; charset=utf-8", format!("503 Service Unavailable: {why}\n")).await
}

/// The length that the response says; it may be known although no body comes.
fn length(exchange: &Exchange, response: &ResponseHead, framing: Framing) -> Option<u64> {
    match framing {
        Framing::Length(length) => Some(length),
        Framing::Empty if exchange.head.method == Method::Head => response.headers.get("content-length")?.parse().ok(),
        Framing::Empty => Some(0),
        Framing::Chunked | Framing::UntilClose => None,
    }
}

/// Whether it makes no difference to do it twice (RFC 9110 §9.2.2).
fn is_idempotent(method: &Method) -> bool {
    matches!(method, Method::Get | Method::Head | Method::Options | Method::Put | Method::Delete)
}

/// Whether the request asks for a WebSocket. Where a page of another site could use a user's session or password, it may not.
fn wants_websocket(exchange: &Exchange) -> Result<bool, Error> {
    let head = &exchange.head;
    let is_upgrade = head.version == Version::Http11
        && head.method == Method::Get
        && head.headers.has_token("connection", "upgrade")
        && head.headers.has_token("upgrade", "websocket")
        && head.framing() == Ok(Framing::Empty);
    if !is_upgrade {
        return Ok(false);
    }
    if !exchange.shared.settings.sockets.enable {
        return Err(Error::status(403, "there are no WebSockets here"));
    }
    if exchange.user.is_some() && origin(head)?.is_some_and(|origin| !is_same_origin(origin, head, exchange.secure)) {
        return Err(Error::status(403, "pages of other origins cannot use this"));
    }
    Ok(true)
}
