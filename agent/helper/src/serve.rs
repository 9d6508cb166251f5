//! Serving: at most so many clients, one request each, and one verb at a time.

use crate::answering::{Helper, refuse_unheard};
use crate::os_log::{self, Level};
use crate::peer::Peer;
use crate::socket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Clients at once.
const MAX_CLIENTS: usize = 4;

/// Of one user: an agent gone wild can not keep the rescue server from restarting it.
const MAX_SAME: usize = 3;

/// Without a client for so long, a helper that was started by its socket ends.
const IDLE: Duration = Duration::from_secs(30);

/// Serves until it is idle, when `idle` or the service manager says so, else for ever.
pub fn serve(idle: Option<Duration>) -> Result<(), String> {
    let (listener, activated) = socket::listener()?;
    let idle = idle.or(activated.then_some(IDLE));
    let helper = Arc::new(Helper::new());
    let clients = Arc::new(Clients::default());
    let mut last = Instant::now();
    loop {
        if !clients.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            last = Instant::now();
        }
        if idle.is_some_and(|idle| last.elapsed() >= idle) {
            return Ok(());
        }
        match next(&listener, idle.map(|idle| idle.saturating_sub(last.elapsed()))) {
            Ok(Some(stream)) => {
                last = Instant::now();
                admit(stream, &helper, &clients);
            }
            Ok(None) => {}
            Err(error) => {
                os_log::write(Level::Error, &format!("no client can be accepted: {error}"));
                thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

/// The next client; none when the time is over, or the client is gone again.
fn next(listener: &UnixListener, limit: Option<Duration>) -> io::Result<Option<UnixStream>> {
    // A client that is served keeps us from being idle, so its end is looked for.
    let limit = limit.map(|limit| limit.max(Duration::from_millis(50)));
    let limit = limit.map(|limit| Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() });
    match poll(&mut [PollFd::new(listener, PollFlags::IN)], limit.as_ref()) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    match listener.accept() {
        Ok((stream, _)) => {
            stream.set_nonblocking(false)?;
            Ok(Some(stream))
        }
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => Ok(None),
            _ => Err(error),
        },
    }
}

/// The users of the clients that are served.
type Clients = Mutex<Vec<u32>>;

fn admit(stream: UnixStream, helper: &Arc<Helper>, clients: &Arc<Clients>) {
    let peer = match Peer::of(&stream) {
        Ok(peer) => peer,
        Err(error) => return os_log::write(Level::Warning, &format!("a client without a name: {error}")),
    };
    let counted = match enter(clients, peer.uid) {
        Ok(counted) => counted,
        Err(text) => return refuse_unheard(helper, &peer, &stream, &text),
    };
    let helper = Arc::clone(helper);
    let served = thread::Builder::new().stack_size(256 * 1024).spawn(move || {
        helper.serve(peer, &stream);
        drop(counted);
    });
    if let Err(error) = served {
        os_log::write(Level::Error, &format!("no thread for a client: {error}"));
    }
}

fn enter(clients: &Arc<Clients>, uid: u32) -> Result<Counted, String> {
    let mut served = clients.lock().unwrap_or_else(PoisonError::into_inner);
    let same = served.iter().filter(|other| **other == uid).count();
    if served.len() >= MAX_CLIENTS || same >= MAX_SAME {
        return Err(format!("{} clients are connected already, {same} of your user; ask again later", served.len()));
    }
    served.push(uid);
    Ok(Counted(Arc::clone(clients), uid))
}

/// One client less when it is dropped.
struct Counted(Arc<Clients>, u32);

impl Drop for Counted {
    fn drop(&mut self) {
        let mut served = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = served.iter().position(|uid| *uid == self.1) {
            served.swap_remove(at);
        }
    }
}
