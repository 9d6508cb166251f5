//! Happy eyeballs (RFC 8305): of several ways, the first one that works.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use smol::Timer;
use smol::stream::Stream;

/// After so long the next address is tried as well (RFC 8305 §5, "Connection Attempt Delay").
const DELAY: Duration = Duration::from_millis(250);

/// Addresses of one host that are tried. A name with more of them is a load balancer: the first ones do.
const ADDRESSES: usize = 8;

/// The addresses in the order in which they are tried: that of the resolver (RFC 6724), with the families taking turns, so
/// that a family whose way leads nowhere delays the other by one attempt and not by all of its own (RFC 8305 §4).
pub(super) fn order(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let prefers_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for address in addresses {
        let family = if address.is_ipv6() == prefers_v6 { &mut first } else { &mut second };
        if !family.contains(address) {
            family.push(*address);
        }
    }
    let mut second = second.into_iter();
    let mut ordered = Vec::new();
    for address in first {
        ordered.push(address);
        ordered.extend(second.next());
    }
    ordered.extend(second);
    ordered.truncate(ADDRESSES);
    ordered
}

/// Attempts one address after the other, the next one when one fails or takes long, and returns what comes of the first one
/// that succeeds. The others are dropped. The error is that of the address that failed last. Addresses that come while
/// others are attempted wait behind those that came before.
pub(super) async fn race<T, A>(
    mut found: impl Stream<Item = Vec<SocketAddr>> + Unpin,
    attempt: impl Fn(SocketAddr) -> A,
) -> io::Result<T>
where
    A: Future<Output = io::Result<T>>,
{
    let mut known: Vec<SocketAddr> = Vec::new();
    let mut waiting = VecDeque::new();
    let mut is_all = false;
    let mut running: Vec<(SocketAddr, Pin<Box<A>>)> = Vec::new();
    let mut next = Timer::after(Duration::ZERO);
    let mut refusal = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    poll_fn(|cx| {
        while !is_all {
            match Pin::new(&mut found).poll_next(cx) {
                Poll::Ready(Some(addresses)) => {
                    let mut addresses = order(&addresses);
                    addresses.retain(|address| !known.contains(address));
                    addresses.truncate(ADDRESSES.saturating_sub(known.len()));
                    known.extend(&addresses);
                    waiting.extend(addresses);
                }
                Poll::Ready(None) => is_all = true,
                Poll::Pending => break,
            }
        }
        loop {
            let mut failed = false;
            let mut index = 0;
            while let Some((address, future)) = running.get_mut(index) {
                match future.as_mut().poll(cx) {
                    Poll::Ready(Ok(won)) => return Poll::Ready(Ok(won)),
                    Poll::Ready(Err(error)) => {
                        log::debug!("{address}: {error}");
                        refusal = error;
                        failed = true;
                        running.remove(index);
                    }
                    Poll::Pending => index += 1,
                }
            }
            if waiting.is_empty() {
                return match is_all && running.is_empty() {
                    true => Poll::Ready(Err(std::mem::replace(&mut refusal, io::ErrorKind::NotFound.into()))),
                    false => Poll::Pending,
                };
            }
            if !failed && !running.is_empty() && Pin::new(&mut next).poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(address) = waiting.pop_front() {
                running.push((address, Box::pin(attempt(address))));
                next = Timer::after(DELAY);
            }
        }
    })
    .await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::RefCell;
    use std::time::Instant;

    use smol::stream::{self, StreamExt};

    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_the_first_one_stays_first() {
        let all = addresses(&["[::1]:1", "[::2]:1", "[::1]:1", "[::3]:1", "1.1.1.1:1", "1.1.1.2:1"]);
        assert_eq!(order(&all), addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"]));
        let v4_first = addresses(&["1.1.1.1:1", "[::1]:1", "1.1.1.2:1"]);
        assert_eq!(order(&v4_first), addresses(&["1.1.1.1:1", "[::1]:1", "1.1.1.2:1"]));
        let many: Vec<SocketAddr> = (0..50).map(|n| SocketAddr::from(([10, 0, 0, n], 1))).collect();
        assert_eq!(order(&many).len(), ADDRESSES);
        assert_eq!(order(&[]), []);
    }

    /// What comes of a race in which the last part of each address says what it does: 1 connects, 2 is refused, 3 is a black
    /// hole, 4 connects after 400 ms; who was tried, and how long it took.
    fn run(list: &[&str]) -> (io::Result<SocketAddr>, Vec<SocketAddr>, Duration) {
        let (tried, start) = (RefCell::new(Vec::new()), Instant::now());
        let attempt = |address: SocketAddr| {
            tried.borrow_mut().push(address);
            async move {
                match address.port() {
                    1 => Ok(address),
                    2 => Err(io::ErrorKind::ConnectionRefused.into()),
                    3 => smol::future::pending().await,
                    _ => {
                        Timer::after(Duration::from_millis(400)).await;
                        Ok(address)
                    }
                }
            }
        };
        let result = smol::block_on(race(stream::once(addresses(list)), attempt));
        (result, tried.into_inner(), start.elapsed())
    }

    #[test]
    fn a_family_that_leads_nowhere_costs_a_quarter_of_a_second() {
        let (result, tried, took) = run(&["[::1]:3", "[::2]:3", "[::3]:3", "127.0.0.1:1"]);
        assert_eq!(result.unwrap(), addresses(&["127.0.0.1:1"])[0]);
        assert_eq!(tried, addresses(&["[::1]:3", "127.0.0.1:1"]));
        assert!(took >= DELAY && took < Duration::from_secs(2), "{took:?}");
    }

    #[test]
    fn a_refusal_is_not_waited_for() {
        let (result, tried, took) = run(&["[::1]:2", "127.0.0.1:2", "127.0.0.2:1", "127.0.0.3:1"]);
        assert_eq!(result.unwrap(), addresses(&["127.0.0.2:1"])[0]);
        assert_eq!(tried.len(), 3);
        assert!(took < DELAY, "{took:?}");
    }

    #[test]
    fn the_first_that_succeeds_wins_and_need_not_be_the_last_tried() {
        let (result, tried, _) = run(&["[::1]:4", "127.0.0.1:3", "[::2]:3"]);
        assert_eq!(result.unwrap(), addresses(&["[::1]:4"])[0]);
        assert_eq!(tried.len(), 2);
    }

    #[test]
    fn addresses_that_come_late_are_tried_while_others_hang() {
        let start = Instant::now();
        let (first, second) = (addresses(&["127.0.0.1:3"]), addresses(&["127.0.0.1:3", "[::1]:1"]));
        let late = stream::once_future(Box::pin(async move {
            Timer::after(Duration::from_millis(400)).await;
            second
        }));
        let attempt = async |address: SocketAddr| match address.port() {
            1 => Ok(address),
            _ => smol::future::pending().await,
        };
        let result = smol::block_on(race(stream::once(first).chain(late), attempt));
        assert_eq!(result.unwrap(), addresses(&["[::1]:1"])[0]);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }

    #[test]
    fn without_a_way_the_refusal_is_told() {
        let (result, ..) = run(&["[::1]:2", "127.0.0.1:2"]);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(run(&[]).0.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
