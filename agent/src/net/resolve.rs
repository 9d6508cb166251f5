//! Names to addresses, on threads of their own.
//!
//! The system's resolver blocks, for as long as its name servers are silent. On the pool of blocking threads, which all
//! files share, a dead name server would stop them; so look-ups have a few threads for themselves, and a look-up that nobody
//! waits for any more holds one of them until the system gives up.
//!
//! The system is asked for both families in one: it sends both questions at once, knows the order of what comes
//! (RFC 6724), and does not ask name servers for the IPv6 address of a host that `/etc/hosts` gives an IPv4 address. But
//! it waits for both answers, for many seconds, and there are name servers that leave one of the questions unanswered. So
//! when it takes long, each family is asked for alone as well, and what comes first is used (RFC 8305 §3).

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use smol::Timer;
use smol::channel::{self, Sender};
use smol::future::FutureExt;
use smol::lock::{Semaphore, SemaphoreGuard};

use super::Deadline;
use super::family::{self, Family};

/// Look-ups at the same time. More wait for their turn.
const AT_ONCE: usize = 4;

/// The stack of a look-up. What glibc loads for it (nsswitch.conf) is not all frugal.
const STACK: usize = 256 * 1024;

/// After so long the families are asked for alone: most name servers have answered by then, also over a mobile link.
const LONG: Duration = Duration::from_millis(250);

/// So long IPv4 waits for IPv6 (RFC 8305 §3, "Resolution Delay").
const DELAY: Duration = Duration::from_millis(50);

static TURN: Semaphore = Semaphore::new(AT_ONCE);

/// Look-ups of one family. When there is no room for them, what is slow stays slow.
static ALONE: Semaphore = Semaphore::new(2);

/// What the system is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Both,
    One(Family),
}

type Answer = io::Result<Vec<SocketAddr>>;

/// Finds the addresses of a name, those of the most promising family first; the same one may come again. It may take long:
/// race it against a timer.
///
/// # Errors
/// Those of the system, when there is no address.
pub(super) async fn resolve(host: &str, port: u16, found: impl FnMut(Vec<SocketAddr>)) -> io::Result<()> {
    let host = host.to_owned();
    let ask = move |question| match question {
        Question::Both => (host.as_str(), port).to_socket_addrs().map(Iterator::collect),
        Question::One(family) => family::look_up(&host, port, family),
    };
    resolve_with(ask, found).await
}

async fn resolve_with(
    ask: impl Fn(Question) -> Answer + Clone + Send + 'static,
    mut found: impl FnMut(Vec<SocketAddr>),
) -> io::Result<()> {
    let (tell, answers) = channel::unbounded();
    let start = |question, turn| {
        let ask = ask.clone();
        on_a_thread(turn, tell.clone(), move || (question, ask(question)))
    };
    start(Question::Both, TURN.acquire().await)?;
    let early = async { answers.recv().await.ok() }.or(async {
        Deadline::after(LONG).await;
        None
    });
    if let Some((_, answer)) = early.await {
        return answer.map(found);
    }
    let mut open = vec![Question::Both];
    if let (Some(first), Some(second)) = (ALONE.try_acquire(), ALONE.try_acquire()) {
        for (family, turn) in [(Family::V6, first), (Family::V4, second)] {
            start(Question::One(family), turn)?;
            open.push(Question::One(family));
        }
    }
    let mut gather = Gather { open, held: None, is_found: false, failure: None };
    loop {
        let next = async { answers.recv().await.ok() };
        let due = async {
            match &gather.held {
                Some((_, until)) => Timer::at(*until).await,
                None => smol::future::pending().await,
            };
            None
        };
        match next.or(due).await {
            Some((question, answer)) => gather.take(question, answer, &mut found),
            None => gather.release(&mut found),
        }
        if let Some(end) = gather.end() {
            return end;
        }
    }
}

/// What is known while questions are open.
struct Gather {
    open: Vec<Question>,
    /// Addresses of IPv4 that wait for those of IPv6, and until when.
    held: Option<(Vec<SocketAddr>, Instant)>,
    is_found: bool,
    failure: Option<io::Error>,
}

impl Gather {
    fn take(&mut self, question: Question, answer: Answer, found: &mut impl FnMut(Vec<SocketAddr>)) {
        self.open.retain(|open| *open != question);
        match (question, answer) {
            (Question::Both, Ok(list)) => {
                self.held = None;
                self.open.clear();
                self.give(list, found);
            }
            (Question::One(Family::V4), Ok(list)) if self.open.contains(&Question::One(Family::V6)) => {
                self.held = Some((list, Instant::now() + DELAY));
            }
            (Question::One(_), Ok(list)) => self.give(list, found),
            (Question::Both, Err(error)) => self.failure = Some(error),
            // A name without addresses of a family is an error too.
            (Question::One(_), Err(_)) => {}
        }
        if !self.open.contains(&Question::One(Family::V6)) {
            self.release(found);
        }
    }

    fn release(&mut self, found: &mut impl FnMut(Vec<SocketAddr>)) {
        if let Some((list, _)) = self.held.take() {
            self.give(list, found);
        }
    }

    fn give(&mut self, list: Vec<SocketAddr>, found: &mut impl FnMut(Vec<SocketAddr>)) {
        self.is_found |= !list.is_empty();
        found(list);
    }

    /// Whether nothing more is to be expected.
    fn end(&mut self) -> Option<io::Result<()>> {
        let families_are_known = !self.open.iter().any(|open| matches!(open, Question::One(_)));
        match self.is_found {
            true if families_are_known && self.held.is_none() => Some(Ok(())),
            false if self.open.is_empty() => {
                let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                Some(Err(self.failure.take().unwrap_or_else(none)))
            }
            _ => None,
        }
    }
}

/// Does the work, tells what came of it, and ends the turn.
fn on_a_thread<T: Send + 'static>(
    turn: SemaphoreGuard<'static>,
    tell: Sender<T>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<()> {
    let look_up = move || {
        // Nobody may be there any more to hear it.
        let _ = tell.try_send(work());
        drop(turn);
    };
    thread::Builder::new().name("ioto-dns".into()).stack_size(STACK).spawn(look_up).map(|_| ())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;
    use crate::net::{Error, Step, connect_tcp};

    /// The turns are for the whole process, and tests count them.
    fn one_at_a_time() -> MutexGuard<'static, ()> {
        static TESTS: Mutex<()> = Mutex::new(());
        TESTS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(host: &str) -> io::Result<Vec<SocketAddr>> {
        let mut all = Vec::new();
        smol::block_on(resolve(host, 7, |list| all.extend(list))).map(|()| all)
    }

    /// What comes when each question is answered after so many milliseconds, and after how many of them.
    fn run(both: (u64, Answer), v6: (u64, Answer), v4: (u64, Answer)) -> (io::Result<()>, Vec<(String, u64)>) {
        let _turn = one_at_a_time();
        let script = std::sync::Arc::new(Mutex::new([Some(both), Some(v6), Some(v4)]));
        let ask = move |question| {
            let place = match question {
                Question::Both => 0,
                Question::One(Family::V6) => 1,
                Question::One(Family::V4) => 2,
            };
            let (after, answer) = script.lock().unwrap()[place].take().unwrap();
            thread::sleep(Duration::from_millis(after));
            answer
        };
        let (start, mut came) = (Instant::now(), Vec::new());
        let result = smol::block_on(resolve_with(ask, |list| {
            let list = list.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(" ");
            came.push((list, start.elapsed().as_millis() as u64));
        }));
        // They are free again for the next test.
        smol::block_on(async {
            let _all = [ALONE.acquire().await, ALONE.acquire().await];
        });
        (result, came)
    }

    fn list(addresses: &[&str]) -> Answer {
        Ok(addresses.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 7)).collect())
    }

    fn none() -> Answer {
        Err(io::Error::other("no such name"))
    }

    const NEVER: u64 = 1500;

    #[test]
    fn names_have_addresses_and_nonsense_has_none() {
        let all = found("localhost").unwrap();
        assert!(all.iter().all(|address| address.ip().is_loopback() && address.port() == 7) && !all.is_empty());
        assert!(found("not a name").is_err());
    }

    #[test]
    fn a_system_that_answers_is_believed_in_its_order() {
        let (result, came) = run((0, list(&["1.1.1.1", "::1"])), (0, none()), (0, none()));
        assert!(result.is_ok() && came.len() == 1 && came[0].0 == "1.1.1.1 ::1", "{came:?}");
        let (result, came) = run((0, none()), (0, list(&["::1"])), (0, none()));
        assert!(result.unwrap_err().to_string() == "no such name" && came.is_empty(), "{came:?}");
    }

    #[test]
    fn a_family_that_is_not_answered_does_not_delay_the_other() {
        let (result, came) = run((NEVER, none()), (NEVER, none()), (0, list(&["1.1.1.1"])));
        assert!(result.is_ok() && came.len() == 1 && came[0].0 == "1.1.1.1", "{came:?}");
        assert!((300..1200).contains(&came[0].1), "after the resolution delay: {came:?}");
        let (result, came) = run((NEVER, none()), (0, list(&["::1"])), (NEVER, list(&["1.1.1.1"])));
        assert!(result.is_ok() && came[0].0 == "::1" && (250..1200).contains(&came[0].1), "{came:?}");
        assert!(came.len() == 2 && came[1].0 == "1.1.1.1", "the late one comes too: {came:?}");
    }

    #[test]
    fn ipv6_goes_first_when_it_is_a_little_later() {
        let (_, came) = run((NEVER, none()), (20, list(&["::1"])), (0, list(&["1.1.1.1"])));
        let order: Vec<_> = came.iter().map(|(addresses, _)| addresses.as_str()).collect();
        assert_eq!(order, ["::1", "1.1.1.1"]);
    }

    #[test]
    fn a_slow_system_still_has_the_last_word() {
        let (result, came) = run((500, list(&["1.1.1.1"])), (0, none()), (0, none()));
        assert!(result.is_ok() && came.len() == 1 && came[0].0 == "1.1.1.1", "{came:?}");
        let (result, came) = run((500, none()), (0, none()), (0, none()));
        assert!(result.unwrap_err().to_string() == "no such name" && came.is_empty(), "{came:?}");
    }

    #[test]
    fn look_ups_that_hang_stop_neither_the_caller_nor_the_files() {
        let _turn = one_at_a_time();
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Arc::new(Mutex::new(wait));
        let hang = move |_| {
            let _ = wait.lock().unwrap().recv();
            list(&["1.1.1.1"])
        };
        smol::block_on(async {
            let start = Instant::now();
            for _ in 0..AT_ONCE + 2 {
                let late = async {
                    Timer::after(Duration::from_millis(300)).await;
                    Err(io::ErrorKind::TimedOut.into())
                };
                let result = resolve_with(hang.clone(), |_| {}).or(late).await;
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
            }
            smol::unblock(|| ()).await;
            let error = connect_tcp("localhost", 7, Duration::from_millis(50)).await.unwrap_err();
            assert!(matches!(error, Error::Timeout { step: Step::Resolve, .. }), "{error}");
            assert!(error.to_string().contains("localhost"), "{error}");
            assert!(start.elapsed() < Duration::from_secs(10));
            // As soon as the name server speaks again, so do we.
            drop(release);
            resolve("localhost", 7, |_| {}).await.unwrap();
        });
    }
}
