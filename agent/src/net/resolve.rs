//! Names to addresses, on threads of their own.
//!
//! The system's resolver blocks, for as long as its name servers are silent. On the pool of blocking threads, which all
//! files share, a dead name server would stop them; so look-ups have a few threads for themselves, and a look-up that nobody
//! waits for any more holds one of them until the system gives up.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;

use smol::channel;
use smol::lock::{Semaphore, SemaphoreGuard};

/// Look-ups at the same time. More wait for their turn.
const AT_ONCE: usize = 4;

/// The stack of a look-up. What glibc loads for it (nsswitch.conf) is not all frugal.
const STACK: usize = 256 * 1024;

static TURN: Semaphore = Semaphore::new(AT_ONCE);

/// The addresses of a name, in the order of the system's resolver (RFC 6724). It may take long: race it against a timer.
pub(super) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.to_owned();
    on_a_thread(move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect)).await
}

async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let turn: SemaphoreGuard<'static> = TURN.acquire().await;
    let (tell, told) = channel::bounded(1);
    let look_up = move || {
        // Nobody may be there any more to hear it.
        let _ = tell.try_send(work());
        drop(turn);
    };
    thread::Builder::new().name("ioto-dns".into()).stack_size(STACK).spawn(look_up)?;
    told.recv().await.map_err(|_| io::Error::other("the look-up ended without an answer"))?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, Instant};

    use smol::Timer;
    use smol::future::FutureExt;

    use super::*;
    use crate::net::{Error, Step, connect_tcp};

    #[test]
    fn names_have_addresses_and_nonsense_has_none() {
        let found = smol::block_on(resolve("localhost", 7)).unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 7) && !found.is_empty());
        assert!(smol::block_on(resolve("not a name", 7)).is_err());
    }

    #[test]
    fn look_ups_that_hang_stop_neither_the_caller_nor_the_files() {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
        let hang = || {
            let wait = wait.clone();
            move || {
                let _ = wait.lock().unwrap().recv();
                Ok(())
            }
        };
        smol::block_on(async {
            let start = Instant::now();
            for _ in 0..AT_ONCE + 2 {
                let late = async {
                    Timer::after(Duration::from_millis(20)).await;
                    Err(io::ErrorKind::TimedOut.into())
                };
                let result = on_a_thread(hang()).or(late).await;
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
            }
            smol::unblock(|| ()).await;
            let error = connect_tcp("localhost", 7, Duration::from_millis(50)).await.unwrap_err();
            assert!(matches!(error, Error::Timeout { step: Step::Resolve, .. }), "{error}");
            assert!(error.to_string().contains("localhost"), "{error}");
            assert!(start.elapsed() < Duration::from_secs(5));
            // As soon as the name server speaks again, so do we.
            drop(release);
            on_a_thread(|| Ok(())).await.unwrap();
        });
    }
}
