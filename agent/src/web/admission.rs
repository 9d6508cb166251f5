//! Who may connect: there are places for all connections, and places for those of one address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use smol::Timer;
use smol::lock::{Semaphore, SemaphoreGuardArc};

use super::descriptors::make_room;
use super::exchange::Peer;
use super::local::Local;
use super::watch::Eviction;
use crate::config::{FOREVER, WebLimits};

/// When others wait, a connection that has owed the head of its first or next request for so long makes room: a client that
/// connects to ask sends it at once.
const HEAD: Duration = Duration::from_millis(500);
/// How often that time is halved at most while many wait: who waited in the kernel's queue had time to send it there.
const HALVED: usize = 2;
/// When others wait, a connection that has been idle for so long makes room.
const IDLE: Duration = Duration::from_secs(1);
/// A connection waits so long for a place, and then all that follow do not wait, until there is one.
const FULL: Duration = Duration::from_secs(2);
/// But as long as the other threads may take to make room: only they know whether they can.
const ANSWER: Duration = Duration::from_millis(250);
/// How often room is looked for meanwhile.
const PAUSE: Duration = Duration::from_millis(20);

/// The places of a server, for all its threads.
pub(super) struct Admission {
    places: Arc<Semaphore>,
    /// How many places there are.
    count: usize,
    /// Connections that had to wait for their place, since there was one at once.
    waited: AtomicUsize,
    ceiling: u64,
    per_address: usize,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    /// Of each thread, when it last looked for room: how many of its connections owed a head, and how many there were.
    owing: Mutex<HashMap<ThreadId, (usize, usize)>>,
}

/// A place for one connection; free again when it is dropped.
pub(super) struct Place {
    _place: SemaphoreGuardArc,
    _of_address: Option<OfAddress>,
}

/// Why a connection gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// All places are taken, and nobody makes room.
    Full,
    /// All places of the client's address are taken.
    Address,
}

impl Refusal {
    /// What the client is told.
    pub fn status(self) -> u16 {
        match self {
            Refusal::Full => 503,
            Refusal::Address => 429,
        }
    }
}

/// Since when connections wait for a place.
#[derive(Default)]
pub(super) struct Crowd(Option<Instant>);

impl Admission {
    /// Places within these limits and those of the process.
    pub fn new(limits: &WebLimits) -> Self {
        let room = make_room(limits.connections);
        Self {
            places: Arc::new(Semaphore::new(room.connections)),
            count: room.connections,
            waited: AtomicUsize::new(0),
            ceiling: room.ceiling,
            per_address: limits.per_address,
            addresses: Mutex::default(),
            owing: Mutex::default(),
        }
    }

    /// A place for the connection whose socket has this number; it waits for one within reason, and those that deserve theirs
    /// less make room. While one waits here, the next wait in the kernel's queue.
    pub async fn admit(
        self: &Arc<Self>,
        peer: Peer,
        descriptor: u64,
        crowd: &mut Crowd,
        local: &Local,
    ) -> Result<Place, Refusal> {
        if descriptor >= self.ceiling {
            self.make_room(local);
            return Err(Refusal::Full);
        }
        let of_address = self.of_address(peer)?;
        let place = self.place(crowd, local).await;
        let place = place.map(|place| Place { _place: place, _of_address: of_address });
        place.ok_or(Refusal::Full)
    }

    /// Ends a connection that need not be, if there is one.
    pub fn make_room(&self, local: &Local) {
        self.evict(IDLE, local);
    }

    /// Another thread needs a place and has nobody to end.
    pub fn asked(&self, local: &Local) {
        if let Eviction::Later { flood: false } | Eviction::Nobody = self.evict_ours(IDLE, local) {
            local.crowded.set(true);
        }
    }

    /// Ends a connection of this thread, or else the others are asked.
    fn evict(&self, idle: Duration, local: &Local) -> Eviction {
        let eviction = self.evict_ours(idle, local);
        if eviction != Eviction::Evicted {
            local.ask_neighbours();
        }
        eviction
    }

    fn evict_ours(&self, idle: Duration, local: &Local) -> Eviction {
        let (us, count) = (thread::current().id(), local.connections.count());
        let others = self
            .owing()
            .iter()
            .filter(|(thread, _)| **thread != us)
            .fold((0, count), |sum, (_, found)| (sum.0 + found.0, sum.1 + found.1));
        let eviction = local.watch.evict(self.grace(), idle, others);
        self.owing().insert(us, (local.watch.owing(), count));
        eviction
    }

    /// A panic aborts: no lock is poisoned.
    fn owing(&self) -> MutexGuard<'_, HashMap<ThreadId, (usize, usize)>> {
        self.owing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn place(&self, crowd: &mut Crowd, local: &Local) -> Option<SemaphoreGuardArc> {
        if let Some(place) = self.places.try_acquire_arc() {
            crowd.0 = None;
            self.waited.store(0, Ordering::Relaxed);
            local.crowded.set(false);
            return Some(place);
        }
        let until = *crowd.0.get_or_insert_with(Instant::now) + FULL;
        let answered = Instant::now() + if local.neighbours.is_empty() { Duration::ZERO } else { ANSWER };
        let make_room = async {
            // Those of other threads who owe a head go before our idle ones: at first we do not know of them.
            let mut idle = if local.neighbours.is_empty() { IDLE } else { FOREVER };
            loop {
                let eviction = self.evict(std::mem::replace(&mut idle, IDLE), local);
                if matches!(eviction, Eviction::Later { flood: false } | Eviction::Nobody) {
                    // From now on connections end with the response that is sent, until there is a place at once.
                    local.crowded.set(true);
                }
                if eviction == Eviction::Nobody && Instant::now() >= until.max(answered) {
                    return None;
                }
                Timer::after(PAUSE).await;
            }
        };
        let place = smol::future::or(async { Some(self.places.acquire_arc().await) }, make_room).await;
        self.waited.fetch_add(usize::from(place.is_some()), Ordering::Relaxed);
        place
    }

    /// How long a head may be owed now. A queue of silent connections that is several times as long as there are places would
    /// otherwise hold up who comes after it for as many times.
    fn grace(&self) -> Duration {
        let halved = (self.waited.load(Ordering::Relaxed).saturating_mul(2) / self.count.max(1)).min(HALVED);
        HEAD / (1 << halved)
    }

    fn of_address(self: &Arc<Self>, peer: Peer) -> Result<Option<OfAddress>, Refusal> {
        let Peer::Tcp(address) = peer else { return Ok(None) };
        let Some(origin) = origin(address.ip()) else { return Ok(None) };
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = addresses.entry(origin).or_insert(0);
        if *count >= self.per_address {
            return Err(Refusal::Address);
        }
        *count += 1;
        Ok(Some(OfAddress { admission: self.clone(), origin }))
    }
}

/// A connection of an address.
struct OfAddress {
    admission: Arc<Admission>,
    origin: IpAddr,
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut addresses = self.admission.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = addresses.entry(self.origin) {
            *entry.get_mut() = entry.get().saturating_sub(1);
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// What counts as one address: an IPv4 address, or the IPv6 network that one host can choose all its addresses from. `None`
/// for this machine itself, where a proxy may speak for everybody. (Its other addresses, 127.0.0.2 and so on, are nobody's
/// unless a program asks for them.)
fn origin(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) | IpAddr::V6(Ipv6Addr::LOCALHOST) => None,
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
        address => Some(address),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn admission(connections: usize, per_address: usize) -> Arc<Admission> {
        Arc::new(Admission::new(&WebLimits { connections, per_address, ..WebLimits::default() }))
    }

    fn admit(admission: &Arc<Admission>, address: &str, crowd: &mut Crowd) -> Result<Place, Refusal> {
        let peer = Peer::Tcp((address.parse::<IpAddr>().unwrap(), 7).into());
        smol::block_on(admission.admit(peer, 9, crowd, &Local::new(vec![]).unwrap()))
    }

    #[test]
    fn one_address_takes_no_more_than_its_share() {
        let (admission, mut crowd) = (admission(100, 2), Crowd::default());
        let mut admit = |address: &str| admit(&admission, address, &mut crowd);
        let first = admit("10.0.0.1").unwrap();
        let _second = admit("::ffff:10.0.0.1").unwrap();
        assert_eq!(admit("10.0.0.1").err(), Some(Refusal::Address));
        let _other = admit("10.0.0.2").unwrap();
        drop(first);
        let _again = admit("10.0.0.1").unwrap();
        let _network = [admit("2001:db8::1").unwrap(), admit("2001:db8::2:0:0:1").unwrap()];
        assert_eq!(admit("2001:db8::3").err(), Some(Refusal::Address));
        let _neighbour = admit("2001:db8:0:1::1").unwrap();
        let _local: Vec<Place> = (0..5).flat_map(|_| [admit("127.0.0.1").unwrap(), admit("::1").unwrap()]).collect();
    }

    #[test]
    fn addresses_that_are_gone_are_forgotten() {
        let admission = admission(10, 2);
        for last in 1..=200 {
            drop(admit(&admission, &format!("10.0.0.{last}"), &mut Crowd::default()).unwrap());
        }
        assert_eq!(admission.addresses.lock().unwrap().len(), 0);
    }

    #[test]
    fn the_first_waits_for_a_place_and_the_next_are_told_at_once() {
        let (admission, mut crowd) = (admission(1, 10), Crowd::default());
        let only = admit(&admission, "10.0.0.1", &mut crowd).unwrap();
        let start = Instant::now();
        assert_eq!(admit(&admission, "10.0.0.1", &mut crowd).err(), Some(Refusal::Full));
        assert!(start.elapsed() >= FULL, "{:?}", start.elapsed());
        let start = Instant::now();
        for _ in 0..10 {
            assert_eq!(admit(&admission, "10.0.0.1", &mut crowd).err(), Some(Refusal::Full));
        }
        assert!(start.elapsed() < FULL, "{:?}", start.elapsed());
        drop(only);
        let _again = admit(&admission, "10.0.0.1", &mut crowd).unwrap();
        assert!(crowd.0.is_none());
    }

    #[test]
    fn a_socket_above_the_ceiling_is_refused() {
        let mut admission = Admission::new(&WebLimits::default());
        admission.ceiling = 50;
        let (admission, local, mut crowd) = (Arc::new(admission), Local::new(vec![]).unwrap(), Crowd::default());
        let mut admit = |descriptor| smol::block_on(admission.admit(Peer::Unix, descriptor, &mut crowd, &local));
        assert_eq!(admit(50).err(), Some(Refusal::Full));
        assert!(admit(49).is_ok());
    }
}
