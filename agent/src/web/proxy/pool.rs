//! Connections to programs: so many at a time, some kept for the next request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol::lock::{Semaphore, SemaphoreGuardArc};
use smol::{Async, Timer};

use super::fault::Fault;
use crate::config::{Proxies, ProxyTarget};
use crate::net::reactor::Source;
use crate::web::link::Link;
use crate::web::local::Local;
use crate::web::socket::Socket;
use crate::web::watch::Claim;

/// An unused connection is not kept longer: programs close theirs some time, and a request that meets that fails.
const AGE: Duration = Duration::from_secs(15);
/// Pause before another attempt when the queue of a program's Unix socket is full.
const PAUSE: Duration = Duration::from_millis(10);

/// One thread's connections to all programs.
#[derive(Default)]
pub(in crate::web) struct Pools {
    pools: RefCell<HashMap<ProxyTarget, Rc<Pool>>>,
}

struct Pool {
    slots: Arc<Semaphore>,
    idle: RefCell<Vec<(Box<Link>, Instant)>>,
}

/// The right to use one connection.
pub(super) struct Lease {
    pool: Rc<Pool>,
    _slot: SemaphoreGuardArc,
}

impl Pools {
    /// Waits for a turn; `None` when it takes too long.
    pub(super) async fn lease(&self, target: &ProxyTarget, local: &Local, settings: &Proxies) -> Option<Lease> {
        let pool = self.pool(target, settings);
        let slot = match pool.slots.try_acquire_arc() {
            Some(slot) => slot,
            None => {
                let deadline = local.watch.deadline();
                deadline.limit(Instant::now() + settings.wait, pool.slots.acquire_arc()).await?
            }
        };
        Some(Lease { pool, _slot: slot })
    }

    fn pool(&self, target: &ProxyTarget, settings: &Proxies) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        if let Some(pool) = pools.get(target) {
            return pool.clone();
        }
        let slots = Arc::new(Semaphore::new(settings.connections.max(1)));
        let pool = Rc::new(Pool { slots, idle: RefCell::default() });
        pools.insert(target.clone(), pool.clone());
        pool
    }

    /// Closes what is not in use. The connections hold their thread's part of the server, which holds them.
    pub fn clear(&self) {
        let pools = std::mem::take(&mut *self.pools.borrow_mut());
        for pool in pools.into_values() {
            let idle = std::mem::take(&mut *pool.idle.borrow_mut());
            drop(idle);
        }
    }
}

impl Lease {
    /// The kept connection that was used last, if it is still good.
    pub fn kept(&self) -> Option<Box<Link>> {
        let mut idle = self.pool.idle.borrow_mut();
        idle.retain(|(_, since)| since.elapsed() < AGE);
        while let Some((mut link, _)) = idle.pop() {
            if link.is_quiet() {
                return Some(link);
            }
        }
        None
    }

    /// Keeps a connection, at most `limit` in all.
    pub fn keep(&self, link: Box<Link>, limit: usize) {
        let mut idle = self.pool.idle.borrow_mut();
        idle.retain(|(_, since)| since.elapsed() < AGE);
        if idle.len() < limit {
            idle.push((link, Instant::now()));
        }
    }
}

/// A new connection.
///
/// # Errors
/// The program does not listen there, or does not accept in time.
pub(super) async fn connect(target: &ProxyTarget, local: &Rc<Local>, limit: Duration) -> Result<Box<Link>, Fault> {
    let deadline = local.watch.deadline();
    let connecting = async {
        match target {
            ProxyTarget::Tcp(address) => {
                let stream = Async::<TcpStream>::connect(*address).await?;
                let _ = stream.get_ref().set_nodelay(true);
                Ok(link(stream.into_inner()?.into(), local))
            }
            ProxyTarget::Unix(path) => Ok(link(connect_unix(path).await?.into_inner()?.into(), local)),
            // The server replaces these by the sockets it made for them.
            ProxyTarget::Program(_) => Err(io::ErrorKind::NotFound.into()),
        }
    };
    match deadline.limit(Instant::now() + limit, connecting).await {
        Some(result) => result.map_err(Fault::Connect),
        None => Err(Fault::Connect(io::ErrorKind::TimedOut.into())),
    }
}

/// A program may be as slow as it likes, and never has to make room.
fn link(socket: OwnedFd, local: &Rc<Local>) -> Box<Link> {
    let link = Link::new(Socket(Source::new(socket, local.reactor.clone())), 0, local.clone());
    link.set_claim(Claim::Busy);
    link
}

/// Where TCP waits for room in the queue of who listens, a Unix socket fails.
async fn connect_unix(path: &PathBuf) -> io::Result<Async<UnixStream>> {
    loop {
        match Async::<UnixStream>::connect(path).await {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                Timer::after(PAUSE).await;
            }
            result => return result,
        }
    }
}
