//! Programs behind the web server: a request is passed on by HTTP/1.1 over a Unix socket or the loopback, and what comes back
//! is passed on to the client. Both ways at the same time, piece by piece, and no faster than it is taken.
//!
//! Nothing is passed on as it was received: both heads are parsed and written anew, and so is the framing of the bodies, so
//! that a request cannot be read in one way here and in another way there.

mod call;
mod fault;
mod forward;
mod headers;
mod pool;
mod pump;
mod tunnel;

use std::sync::OnceLock;
use std::time::Duration;

pub(super) use self::fault::{Failure, Fault};
pub(super) use self::forward::{busy, forward};
pub(super) use self::pool::Pools;
use super::{Action, Error, Exchange};
use crate::config::{ProxyTarget, Route};

/// How a request gets to its program.
pub(super) struct Way<'a> {
    pub target: &'a ProxyTarget,
    /// What paths begin with there.
    pub base: &'a str,
    /// How long the program may take to begin its answer.
    pub timeout: Duration,
    /// A request that met a closed connection is sent once more, if that makes no difference.
    pub repeats: bool,
    /// What this server is called in `Via`.
    pub name: &'a str,
}

/// Serves a request by the program behind its route.
pub(super) async fn serve(exchange: &mut Exchange, route: &Route) -> Result<(), Error> {
    let shared = exchange.shared.clone();
    let Some(proxy) = &route.proxy else { return Err(Error::status(502, "there is no program behind this")) };
    if let ProxyTarget::Program(command) = &proxy.target {
        let worker = shared.workers.iter().find(|worker| worker.is(command));
        let Some(worker) = worker else { return Err(Error::status(502, "there is no program behind this")) };
        return worker.call(exchange).await;
    }
    let way = Way {
        target: &proxy.target,
        base: &proxy.base,
        timeout: shared.settings.timeouts.request,
        repeats: true,
        name: name(),
    };
    forward(exchange, &way).await.map_err(|failure| match failure {
        Failure::Client(error) => error,
        Failure::Program(fault) => {
            log::warn!("{:?} on {}: {fault}", exchange.path, proxy.target);
            match fault.status() {
                504 => Error::status(504, "the program behind this took too long"),
                status => Error::status(status, "the program behind this did not answer as it should"),
            }
        }
    })
}

/// What this server is called in `Via`: a name that no other has.
pub(super) fn name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| format!("ioto-{:08x}", fastrand::u32(..)))
}
