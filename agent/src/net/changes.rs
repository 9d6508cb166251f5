//! News of the network: addresses and routes that come up, as the kernel tells them (rtnetlink(7)).

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use smol::{Async, Timer};

/// New addresses and routes of IPv4 and IPv6 (linux/rtnetlink.h).
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
/// The flag of a route that takes the place of another: a lease that was renewed.
const NLM_F_REPLACE: u16 = 0x100;
/// The attribute with the address itself.
const IFA_ADDRESS: u16 = 1;
/// Addresses of this scope and beyond lead to nobody but neighbours.
const RT_SCOPE_LINK: u8 = 253;
/// The head of a message, of what it says about an address, and of an attribute.
const MESSAGE: usize = 16;
const ADDRESS: usize = 8;
const ATTRIBUTE: usize = 4;

/// An address comes with its routes.
const GATHER: Duration = Duration::from_millis(200);
/// A network that comes and goes is news so often at most.
const REST: Duration = Duration::from_secs(10);

/// Acts whenever the network may lead somewhere that it did not lead to before. Where the kernel does not tell, that is never.
pub async fn whenever_up(mut act: impl FnMut()) -> Infallible {
    let mut news = match News::open() {
        Ok(news) => news,
        Err(error) => {
            log::debug!("nothing tells when the network comes up: {error}");
            return std::future::pending().await;
        }
    };
    loop {
        news.wait().await;
        Timer::after(GATHER).await;
        news.discard();
        act();
        Timer::after(REST).await;
    }
}

/// What the kernel tells.
struct News {
    socket: Async<OwnedFd>,
    known: Known,
}

impl News {
    fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // The protocol of no name is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self { socket: Async::new_nonblocking(socket)?, known: Known::default() })
    }

    /// Resolves when something came up.
    async fn wait(&mut self) {
        loop {
            if self.read() {
                return;
            }
            if let Err(error) = self.socket.readable().await {
                log::debug!("nothing tells any more when the network comes up: {error}");
                return std::future::pending().await;
            }
        }
    }

    /// Passes over what came meanwhile.
    fn discard(&mut self) {
        while self.read() {}
    }

    /// Reads all there is, up to the first that is news.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 8192];
        loop {
            match recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((0, _)) => return false,
                Ok((count, _)) if self.known.is_news(&buffer[..count]) => return true,
                Ok(_) | Err(Errno::INTR) => {}
                // So much happened that some of it was lost.
                Err(Errno::NOBUFS) => return true,
                Err(_) => return false,
            }
        }
    }
}

/// The addresses that the kernel told of: it tells again with each renewal.
#[derive(Default)]
struct Known(HashSet<(u32, Vec<u8>)>);

impl Known {
    /// So many at a time; an IPv6 host may have a few on each interface.
    const MOST: usize = 256;

    /// Whether one of these messages is of something that came up. What cannot be understood is not.
    fn is_news(&mut self, mut messages: &[u8]) -> bool {
        let mut is_news = false;
        while let Some((message, rest)) = next(messages, u32_at(messages, 0), MESSAGE) {
            let body = &message[MESSAGE..];
            match (u16_at(message, 4), u16_at(message, 6)) {
                (Some(RTM_NEWADDR), _) => is_news |= address(body).is_some_and(|address| self.add(address)),
                (Some(RTM_DELADDR), _) => self.0.retain(|known| address(body).as_ref() != Some(known)),
                (Some(RTM_NEWROUTE), Some(flags)) => is_news |= flags & NLM_F_REPLACE == 0,
                _ => {}
            }
            messages = rest;
        }
        is_news
    }

    fn add(&mut self, address: (u32, Vec<u8>)) -> bool {
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        self.0.insert(address)
    }
}

/// The interface and the address that a message names, if that leads anywhere.
fn address(body: &[u8]) -> Option<(u32, Vec<u8>)> {
    let (scope, interface) = (*body.get(3)?, u32_at(body, 4)?);
    if scope >= RT_SCOPE_LINK {
        return None;
    }
    let mut attributes = body.get(ADDRESS..)?;
    while let Some((attribute, rest)) = next(attributes, u16_at(attributes, 0).map(u32::from), ATTRIBUTE) {
        if u16_at(attribute, 2) == Some(IFA_ADDRESS) {
            return Some((interface, attribute[ATTRIBUTE..].to_vec()));
        }
        attributes = rest;
    }
    None
}

/// The first part with its head, which says how long it is, and what is behind it; parts begin at multiples of four.
fn next(parts: &[u8], length: Option<u32>, head: usize) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(length?).ok().filter(|length| *length >= head)?;
    let part = parts.get(..length)?;
    Some((part, parts.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(MESSAGE + body.len()).unwrap_or_default();
        let head = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]].concat();
        [head, body.to_vec()].concat()
    }

    fn address_message(kind: u16, scope: u8, last: u8) -> Vec<u8> {
        let attribute = |kind: u16, value: &[u8]| {
            let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or_default();
            [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
        };
        let head = [&[2, 24, 0, scope][..], &2_u32.to_ne_bytes()].concat();
        message(kind, 0, &[head, attribute(2, &[10, 0, 0, 0]), attribute(IFA_ADDRESS, &[10, 0, 0, last])].concat())
    }

    #[test]
    fn an_address_is_news_once_until_it_goes() {
        let mut known = Known::default();
        assert!(known.is_news(&address_message(RTM_NEWADDR, 0, 1)));
        assert!(!known.is_news(&address_message(RTM_NEWADDR, 0, 1)), "a lease that is renewed");
        assert!(known.is_news(&address_message(RTM_NEWADDR, 0, 2)));
        assert!(!known.is_news(&address_message(RTM_DELADDR, 0, 1)));
        assert!(known.is_news(&address_message(RTM_NEWADDR, 0, 1)));
    }

    #[test]
    fn an_address_for_neighbours_alone_is_no_news() {
        assert!(!Known::default().is_news(&address_message(RTM_NEWADDR, RT_SCOPE_LINK, 1)));
    }

    #[test]
    fn a_route_is_news_unless_it_takes_the_place_of_another() {
        let mut known = Known::default();
        assert!(known.is_news(&message(RTM_NEWROUTE, 0x600, &[0; 12])));
        assert!(!known.is_news(&message(RTM_NEWROUTE, 0x600 | NLM_F_REPLACE, &[0; 12])));
    }

    #[test]
    fn what_is_behind_other_messages_is_heard() {
        let both = [message(99, 0, b"xyz "), address_message(RTM_NEWADDR, 0, 1)].concat();
        assert!(Known::default().is_news(&both));
    }

    #[test]
    fn broken_messages_are_no_news_and_do_no_harm() {
        let whole = [address_message(RTM_NEWADDR, 0, 1), message(RTM_NEWROUTE, NLM_F_REPLACE, &[0; 12])].concat();
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        println!("seed {seed}");
        for _ in 0..2000 {
            let mut broken = whole.clone();
            broken.truncate(random.usize(..=whole.len()));
            for _ in 0..random.usize(..4) {
                if let Some(byte) = random.choice(broken.iter_mut()) {
                    *byte = random.u8(..);
                }
            }
            Known::default().is_news(&broken);
        }
        assert!(!Known::default().is_news(&whole[..MESSAGE + ADDRESS]), "cut");
        assert!(!Known::default().is_news(&[]));
    }

    #[test]
    fn the_kernel_is_listened_to() {
        let mut news = News::open().unwrap_or_else(|error| panic!("{error}"));
        assert!(!news.read(), "nothing came up just now");
    }
}
