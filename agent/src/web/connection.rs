//! The story of a connection: request after request until one side has enough.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::duplex::Duplex;
use super::exchange::{Caller, Exchange};
use super::head::{Head, Length};
use super::link::{Link, Patience};
use super::local::Local;
use super::router::{ACTION_METHODS, Routed, clean_path, find_route, is_plain, route, trim};
use super::shared::Shared;
use super::transfer::{Stage, Transfer};
use super::watch::Claim;
use super::{Error, access, auth, files, proxy, redirect, signatures, trace, websocket};
use crate::config::Route;
use crate::http1::{BodyDecoder, Headers, Method, RequestHead, Version, parse_request, reason};

/// Bytes of an unread request body that are read and dropped to keep the connection; for longer ones it is closed.
pub(super) const DRAIN: usize = 64 * 1024;
/// Time to send the answer to a request that went wrong.
const ANSWER: Duration = Duration::from_secs(5);
/// Seconds after which a client may try again when the server was too busy for it.
pub(super) const RETRY: u64 = 5;
/// Connections without a place that are given time to read why, at a time; the others are closed after a short answer.
const LINGERING: usize = 32;
/// Requests that wait already are served so many at a time before others get their turn.
const TURN: u32 = 16;

/// What comes after a response.
enum Next {
    /// Another request.
    Request(Box<Link>),
    /// The end, after the client had time to read.
    Linger(Box<Link>),
    /// The end.
    Close(Box<Link>),
    /// The end at once: the response is incomplete and must look so.
    Cut,
}

/// Serves a connection to its end.
pub(super) async fn serve(
    stream: impl Duplex + 'static,
    from: impl Into<Caller>,
    shared: Arc<Shared>,
    local: Rc<Local>,
) {
    let from = from.into();
    let timeouts = shared.settings.timeouts.clone();
    let mut link = Link::new(stream, shared.settings.limits.rate, local.clone());
    let whole = link.whole();
    let mut served = 0;
    loop {
        let head = match next_request(&mut link, served == 0, &shared).await {
            Ok(Some(head)) => head,
            Ok(None) => return link.close().await,
            Err(status) => {
                access::refused(&shared, &local, (from.peer, from.secure), status);
                // One that was evicted makes room at once: another waits for its place.
                let lingers = !link.is_evicted();
                return Box::pin(refuse(link, status, lingers, &shared, &local)).await;
            }
        };
        served += 1;
        let now = link.now();
        link.set_patience(Patience { stall: timeouts.inactivity, until: now + timeouts.request });
        link.set_pace(timeouts.inactivity);
        link.set_claim(Claim::Busy);
        let is_enough = served as usize >= shared.settings.limits.requests || shared.is_stopping();
        let is_last = !head.keeps_alive() || is_enough || from.is_outdated(&shared);
        let Ok(framing) = head.framing() else {
            access::refused(&shared, &local, (from.peer, from.secure), 400);
            return Box::pin(refuse(link, 400, true, &shared, &local)).await;
        };
        let path = clean_path(&head);
        let awaits_continue = head.expects_continue().unwrap_or(false);
        let transfer = Transfer::new(link, BodyDecoder::new(framing), awaits_continue);
        let mut exchange =
            Exchange::new(head, path.unwrap_or_default(), from.clone(), transfer, shared.clone(), local.clone());
        exchange.last = is_last || exchange.path.is_empty();
        let outcome = {
            // Pinned here, and not by value in there: that would be two places for it in every connection.
            let handling = pin!(handle(&mut exchange));
            whole.limit(now + timeouts.request, handling).await
        };
        let outcome = outcome.unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        let logged = access::begin(&exchange, now);
        let is_over = outcome.is_ok() && exchange.transfer.get_mut().is_over();
        link = if is_over {
            drop(logged);
            exchange.transfer.into_inner().link
        } else {
            // On the heap: two more places for an exchange would be a third of every idle connection's memory.
            match Box::pin(conclude(exchange, outcome, logged)).await {
                Next::Request(link) => link,
                Next::Linger(link) => {
                    // All that is left is patience, so it is among the first to make room.
                    link.set_claim(Claim::Headless(Instant::now()));
                    return Box::pin(link.linger()).await;
                }
                Next::Close(link) => return link.close().await,
                Next::Cut => return,
            }
        };
        if served % TURN == 0 {
            smol::future::yield_now().await;
        }
    }
}

/// The next request, `None` when there is none, or the status to refuse it with.
async fn next_request(link: &mut Link, is_first: bool, shared: &Shared) -> Result<Option<RequestHead>, u16> {
    let timeouts = &shared.settings.timeouts;
    if link.received().is_empty() {
        if shared.is_stopping() {
            return Ok(None);
        }
        let wait = if is_first { timeouts.parse } else { timeouts.idle };
        link.set_patience(Patience { stall: wait, until: link.now() + wait });
        if !matches!(link.idle(is_first).await, Ok(1..)) {
            return Ok(None);
        }
    }
    link.set_patience(Patience { stall: timeouts.parse, until: link.now() + timeouts.parse });
    loop {
        match parse_request(link.received(), &shared.limits) {
            Ok(Some((head, length))) => {
                link.consume(length);
                return Ok(Some(head));
            }
            Ok(None) => {}
            Err(error) => {
                log::debug!("refused a request: {error}");
                return Err(error.status());
            }
        }
        link.owes_head();
        match link.fill().await {
            Ok(0) => return if link.received().iter().all(u8::is_ascii_whitespace) { Ok(None) } else { Err(400) },
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(408),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return Err(503),
            Err(_) => return Ok(None),
        }
    }
}

/// Runs the handler of the request.
async fn handle(exchange: &mut Exchange) -> Result<(), Error> {
    // The path was not clean; a clean one has at least a slash.
    if exchange.path.is_empty() {
        return Err(Error::status(400, "the path is malformed"));
    }
    let shared = exchange.shared.clone();
    if let Some((status, to)) = redirect::find(exchange, &shared.settings.redirects) {
        return redirect::send(exchange, status, &to).await;
    }
    if !is_plain(&shared, &exchange.path) {
        return Err(Error::status(400, "the path could mean two things"));
    }
    if is_question(exchange, &shared) {
        match route(&shared, &Method::Options, &exchange.path) {
            Routed::Options(allow) | Routed::NotAllowed(allow) => return options(exchange, &allow).await,
            // The program would be asked without a login.
            Routed::Proxy(route) if !route.role.is_empty() && is_cors(exchange) => {
                return options(exchange, ACTION_METHODS).await;
            }
            _ => {}
        }
    }
    if auth::concerns(exchange) && !Box::pin(auth::admit(exchange)).await? {
        return Ok(());
    }
    let decided = find_route(&shared, &exchange.path);
    if let Some(to) = decided.and_then(|route| route.redirect.as_ref()).filter(|_| !has_role(decided)) {
        return redirect::send(exchange, 302, to).await;
    }
    let routed = route(&shared, &exchange.head.method, &exchange.path);
    if let Routed::Action(..) = routed {
        exchange.limit_body(decided)?;
    }
    if shared.validates() && is_validated(exchange, &routed) && !Box::pin(signatures::enter(exchange)).await? {
        return Ok(());
    }
    if let Some(path) = decided.and_then(|route| trim(&route.trim, &exchange.path)) {
        exchange.path = path;
    }
    match routed {
        Routed::Action(action, rest) => {
            exchange.rest = rest;
            action.call(exchange).await
        }
        // On the heap only while a file is served: it would be the larger part of every idle connection.
        Routed::File(route) => Box::pin(files::serve(exchange, route)).await,
        Routed::Proxy(route) => Box::pin(proxy::serve(exchange, route)).await,
        Routed::Trace => trace::answer(exchange).await,
        Routed::Options(allow) => options(exchange, &allow).await,
        Routed::NotAllowed(allow) => {
            exchange.set_header("Allow", &allow)?;
            exchange.set_status(405);
            exchange.send(TEXT, plain(405, "")).await
        }
        Routed::NotFound => Err(Error::status(404, "there is nothing here")),
    }
}

/// Whether signatures are for this. What a program answers to the question for its methods is its own business.
fn is_validated(exchange: &Exchange, routed: &Routed) -> bool {
    match routed {
        Routed::Action(..) => true,
        Routed::Proxy(_) => {
            let is_bare = exchange.head.query().is_none() && exchange.transfer.borrow().is_received();
            exchange.head.method != Method::Options || !is_bare
        }
        _ => false,
    }
}

/// Whether a browser asks what a page of another site may do here (CORS). It asks without a login, and the answer tells no
/// more than the configuration lets all know.
fn is_question(exchange: &Exchange, shared: &Shared) -> bool {
    exchange.head.method == Method::Options
        && shared.is_shared
        && (is_cors(exchange) || has_role(find_route(shared, &exchange.path)))
}

fn is_cors(exchange: &Exchange) -> bool {
    exchange.header("access-control-request-method").is_some()
}

fn has_role(route: Option<&Route>) -> bool {
    route.is_some_and(|route| !route.role.is_empty())
}

/// Tells the methods.
async fn options(exchange: &mut Exchange, allow: &str) -> Result<(), Error> {
    exchange.set_header("Allow", allow)?;
    let fields = &exchange.shared.fields(exchange.secure).headers;
    if exchange.shared.is_shared && fields.get("access-control-allow-methods").is_none() {
        exchange.set_header("Access-Control-Allow-Methods", allow)?;
    }
    exchange.set_status(204);
    exchange.send("", "").await
}

/// Completes the response whatever the handler did, and decides how the connection goes on.
async fn conclude(mut exchange: Exchange, outcome: Result<(), Error>, _logged: Option<Box<access::Entry>>) -> Next {
    if let Stage::Upgraded(wire) = exchange.transfer.get_mut().stage() {
        let ended = Box::pin(websocket::end(exchange.transfer.into_inner(), wire, outcome)).await;
        return ended.map_or(Next::Cut, Next::Linger);
    }
    if let Err(error) = outcome {
        if !exchange.is_open() {
            log::debug!("{:?}: the response was cut: {error}", exchange.path);
            return Next::Cut;
        }
        let retry = error.retry_after();
        let Some((status, message)) = explain(&exchange, error) else { return Next::Cut };
        exchange.reset_response(status);
        if let Some(seconds) = retry.or_else(|| (status == 503).then_some(RETRY)) {
            // Digits can be sent.
            let _ = exchange.set_header("Retry-After", &seconds.to_string());
        }
        // What is left of a body of unknown length may be endless.
        exchange.last |= exchange.transfer.get_mut().remaining().is_none();
        exchange.transfer.get_mut().link.set_patience(for_answer(&exchange.shared));
        if exchange.send(TEXT, plain(status, &message)).await.is_err() {
            return Next::Cut;
        }
    }
    if exchange.is_open() && exchange.send("", "").await.is_err() {
        return Next::Cut;
    }
    let by_client = !exchange.head.keeps_alive();
    let mut transfer = exchange.transfer.into_inner();
    if let Stage::Streaming(_) = transfer.stage() {
        if let Err(error) = transfer.finish() {
            log::error!("{:?}: the response was cut: {error}", exchange.path);
            return Next::Cut;
        }
    }
    if transfer.link.flush().await.is_err() {
        return Next::Cut;
    }
    let is_received = transfer.is_received() || (!transfer.close && transfer.drain(DRAIN).await);
    match (transfer.close, is_received && transfer.link.received().is_empty()) {
        (false, _) if is_received => Next::Request(transfer.link),
        // A client that did not ask for the end may send another request meanwhile.
        (true, true) if by_client => Next::Close(transfer.link),
        _ => Next::Linger(transfer.link),
    }
}

/// Status and text for an error, or `None` when the client is gone. What is not the client's business goes to the log.
fn explain(exchange: &Exchange, error: Error) -> Option<(u16, String)> {
    let fault = exchange.transfer.borrow().fault;
    match (error, fault) {
        (Error::Status { status, message } | Error::Retry { status, message, .. }, _) => Some((status, message)),
        (Error::Http(error), _) if error.status() < 500 => Some((error.status(), error.to_string())),
        (Error::Io(error), Some(_)) if is_gone(&error) => None,
        (_, Some(status)) => Some((status, "the request's body could not be read".to_owned())),
        (Error::Io(error), None) if error.kind() == io::ErrorKind::TimedOut => {
            if !exchange.transfer.borrow().is_received() {
                return Some((408, "the request's body took too long".to_owned()));
            }
            log::warn!("{:?} took too long", exchange.path);
            Some((503, "this took too long".to_owned()))
        }
        (error, None) => {
            let id = fastrand::u64(..);
            log::error!("{:?} failed [{id:016x}]: {error}", exchange.path);
            Some((500, format!("error {id:016x}")))
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Answers a request that was not understood, and ends the connection: where the next request begins is unknown.
/// `lingers`: there is time for the client to read that; otherwise what the kernel does not take at once is not sent.
async fn refuse(link: Box<Link>, status: u16, lingers: bool, shared: &Shared, local: &Local) {
    refuse_with(link, (status, ""), lingers, shared, local).await;
}

/// The same, with a word about what is wrong.
pub(super) async fn refuse_with(
    mut link: Box<Link>,
    (status, message): (u16, &str),
    lingers: bool,
    shared: &Shared,
    local: &Local,
) {
    link.set_patience(match lingers {
        true => for_answer(shared),
        false => Patience { stall: Duration::ZERO, until: Instant::now() },
    });
    let text = plain(status, message);
    let mut headers = Headers::new();
    if matches!(status, 429 | 503) {
        let _ = headers.set("Retry-After", &RETRY.to_string());
    }
    let (length, version) = (Length::Known(text.len() as u64), Version::Http11);
    let head = Head { status, content_type: TEXT, length, headers: &headers, close: true, secure: false, version };
    if head.write(shared, local, &mut link.output).is_ok() {
        link.output.extend_from_slice(text.as_bytes());
        if link.flush().await.is_ok() && lingers {
            link.linger().await;
        }
    }
}

/// Answers a connection for which there is no place, whatever it wants to ask.
pub(super) async fn turn_away(stream: impl Duplex + 'static, status: u16, shared: Arc<Shared>, local: Rc<Local>) {
    let link = Link::new(stream, 0, local.clone());
    link.set_claim(Claim::Busy);
    let lingering = local.lingering.get();
    local.lingering.set(lingering + 1);
    refuse(link, status, lingering < LINGERING, &shared, &local).await;
    local.lingering.set(local.lingering.get().saturating_sub(1));
}

/// Time to send the answer to what went wrong.
fn for_answer(shared: &Shared) -> Patience {
    let stall = shared.settings.timeouts.inactivity.min(ANSWER);
    Patience { stall, until: Instant::now() + stall }
}

const TEXT: &str = "text/plain; charset=utf-8";

/// The text of an error response.
fn plain(status: u16, message: &str) -> String {
    match message.is_empty() {
        true => format!("{status} {}\n", reason(status)),
        false => format!("{status} {}: {message}\n", reason(status)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use smol::io::Cursor;

    use super::super::exchange::Peer;
    use super::*;

    #[test]
    fn a_connection_without_a_request_is_small() {
        let shared = Arc::new(Shared::new(Default::default(), vec![], None).unwrap());
        let connection =
            serve(Cursor::new(vec![0; 0]), (Peer::Unix, false), shared, Rc::new(Local::new(vec![]).unwrap()));
        let size = std::mem::size_of_val(&connection);

        assert!(size <= 2 * 1024, "{size} bytes");
    }
}
