//! Slows down who guesses passwords: per address and per user, nobody else.
//!
//! An address is locked for longer and longer. The name of a user is slowed down later and less, since anyone can fail in
//! anyone's name, and only for addresses that failed before: the owner, who comes from an address that did not, is always
//! heard. To lock the owner out, an attacker would need a new network every second; even then an address from which the user
//! logged in before stays open.
//!
//! An attempt is counted before it is verified, so that many at once do not get through together. Names of users that do not
//! exist are counted alike: nobody learns which do.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Attempts in a row that need not wait, from one address.
const FREE: u32 = 5;
/// Attempts in a row that need not wait, as one user.
const FREE_USER: u32 = 10;
/// The first wait; each further attempt doubles it.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait for a user's name.
const USER: Duration = Duration::from_secs(60);
/// The longest wait for an address.
const ADDRESS: Duration = Duration::from_secs(15 * 60);
const OF_USER: (u32, Duration) = (FREE_USER, USER);
const OF_ADDRESS: (u32, Duration) = (FREE, ADDRESS);
/// After so long without an attempt all is forgotten.
const FORGET: Duration = Duration::from_secs(30 * 60);
/// Names and addresses that are remembered, each.
const ENTRIES: usize = 1024;
/// Addresses that did not fail before and are heard although the user's name must wait: so many at once, then one each second.
const STRANGERS: u32 = 100;
/// Pairs of a user and an address that are remembered to be right.
const KNOWN: usize = 256;
/// How long they are.
const KNOWN_TIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The attempts of late.
#[derive(Default)]
pub struct Throttle {
    users: HashMap<String, Attempts>,
    addresses: HashMap<IpAddr, Attempts>,
    known: HashMap<(String, IpAddr), Instant>,
}

#[derive(Clone, Copy)]
struct Attempts {
    count: u32,
    last: Instant,
    until: Instant,
    /// Strangers that are heard, and since when there is one more each second.
    strangers: (u32, Instant),
}

impl Throttle {
    /// Counts an attempt to log in as `user` from `address`; a process on this device has none. Returns how often the address
    /// failed before.
    ///
    /// # Errors
    /// How long to wait before the next; this one is not to be verified.
    pub fn attempt(&mut self, user: &str, address: Option<IpAddr>, now: Instant) -> Result<u32, Duration> {
        if let Some(wait) = self.address_wait(address, now) {
            return Err(wait);
        }
        let address = address.map(network);
        let is_known = address.is_some_and(|address| self.is_known(user, address, now));
        let failures = address.map(|address| self.addresses.get(&address).map_or(0, |attempts| attempts.failures(now)));
        if let Some(attempts) = self.users.get_mut(user).filter(|_| !is_known) {
            let wait = attempts.until.saturating_duration_since(now);
            if !wait.is_zero() && (failures != Some(0) || !attempts.hears_stranger(now)) {
                return Err(wait);
            }
        }
        count(&mut self.users, user.to_owned(), OF_USER, now);
        if let Some(address) = address {
            count(&mut self.addresses, address, OF_ADDRESS, now);
        }
        // Whoever speaks for all clients behind a socket of this device is between those who failed and those who did not.
        Ok(failures.unwrap_or(1))
    }

    /// How long the address must wait, whoever asks from it.
    pub fn address_wait(&self, address: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let attempts = self.addresses.get(&network(address?))?;
        Some(attempts.until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// The attempt was wrong: the wait begins now, however long it took to find out.
    pub fn failed(&mut self, user: &str, address: Option<IpAddr>, now: Instant) {
        if let Some(attempts) = self.users.get_mut(user) {
            attempts.until = now + attempts.wait(OF_USER);
        }
        if let Some(attempts) = address.and_then(|address| self.addresses.get_mut(&network(address))) {
            attempts.until = now + attempts.wait(OF_ADDRESS);
        }
    }

    /// The attempt was right. The address gets back this attempt alone: its owner may know one password and guess others.
    pub fn succeeded(&mut self, user: &str, address: Option<IpAddr>, now: Instant) {
        self.users.remove(user);
        if let Some(address) = address.map(network) {
            if self.known.len() >= KNOWN {
                let oldest = self.known.iter().min_by_key(|(_, at)| **at).map(|(pair, _)| pair.clone());
                oldest.map(|pair| self.known.remove(&pair));
            }
            self.known.insert((user.to_owned(), address), now);
        }
        if let Some(attempts) = address.and_then(|address| self.addresses.get_mut(&network(address))) {
            attempts.count = attempts.count.saturating_sub(1);
            if attempts.count < FREE {
                attempts.until = now;
            }
        }
    }

    /// Whether the user logged in from there lately.
    fn is_known(&self, user: &str, address: IpAddr, now: Instant) -> bool {
        let at = self.known.get(&(user.to_owned(), address));
        at.is_some_and(|at| now.saturating_duration_since(*at) < KNOWN_TIME)
    }
}

impl Attempts {
    /// How long the next attempt must wait.
    fn wait(&self, (free, longest): (u32, Duration)) -> Duration {
        let doublings = self.count.checked_sub(free);
        let wait =
            doublings.map(|times| FIRST.saturating_mul(1u32.checked_shl(times).unwrap_or(u32::MAX)).min(longest));
        wait.unwrap_or_default()
    }

    /// How often it failed of late.
    fn failures(&self, now: Instant) -> u32 {
        if now.saturating_duration_since(self.last) > FORGET { 0 } else { self.count }
    }

    /// Whether one more may try who did not fail before.
    fn hears_stranger(&mut self, now: Instant) -> bool {
        let (left, since) = self.strangers;
        let more = now.saturating_duration_since(since).as_secs();
        let left = left.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(STRANGERS);
        self.strangers = (left.saturating_sub(1), since + Duration::from_secs(more));
        left > 0
    }
}

/// One client has many addresses of IPv6: all of its network count as one.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !(u128::from(u64::MAX))).into()),
        address => address,
    }
}

fn count<K: Hash + Eq + Clone>(all: &mut HashMap<K, Attempts>, key: K, (free, longest): (u32, Duration), now: Instant) {
    if all.len() >= ENTRIES && !all.contains_key(&key) {
        make_room(all, now);
    }
    let attempts = all.entry(key).or_insert(Attempts { count: 0, last: now, until: now, strangers: (STRANGERS, now) });
    attempts.count = attempts.failures(now).saturating_add(1);
    attempts.last = now;
    attempts.until = now + attempts.wait((free, longest));
}

/// Forgets what is old; else the entry with the fewest attempts, so that a flood of new names frees nobody who waits.
fn make_room<K: Hash + Eq + Clone>(all: &mut HashMap<K, Attempts>, now: Instant) {
    all.retain(|_, attempts| now.saturating_duration_since(attempts.last) <= FORGET);
    if all.len() >= ENTRIES {
        let least = all.iter().min_by_key(|(_, attempts)| (attempts.count, attempts.last)).map(|(key, _)| key.clone());
        least.map(|key| all.remove(&key));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    /// Fails as often as allowed at once, and returns how often, and the wait.
    fn fail(throttle: &mut Throttle, user: &str, from: Option<IpAddr>, now: Instant) -> (u32, Duration) {
        for count in 0.. {
            if let Err(wait) = throttle.attempt(user, from, now) {
                return (count, wait);
            }
        }
        unreachable!()
    }

    #[test]
    fn the_wait_doubles_up_to_its_limit() {
        let (mut throttle, mut now) = (Throttle::default(), Instant::now());
        assert_eq!(fail(&mut throttle, "jo", None, now), (10, Duration::from_secs(1)));
        for expected in [2, 4, 8, 16, 32, 60, 60] {
            now += throttle.attempt("jo", None, now).unwrap_err();
            assert_eq!(fail(&mut throttle, "jo", None, now), (1, Duration::from_secs(expected)));
        }
        let mut longest = Duration::ZERO;
        for user in 0..60 {
            let wait = fail(&mut throttle, &user.to_string(), address("10.0.0.1"), now).1;
            longest = longest.max(wait);
            now += wait;
        }
        assert_eq!(longest, ADDRESS);
        now += FORGET + Duration::from_secs(1);
        assert_eq!(fail(&mut throttle, "jo", address("10.0.0.1"), now).0, 5);
    }

    #[test]
    fn other_users_and_addresses_do_not_wait() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        fail(&mut throttle, "jo", address("10.0.0.1"), now);
        throttle.attempt("jo", address("10.0.0.2"), now).unwrap();
        throttle.attempt("mo", address("10.0.0.1"), now).unwrap_err();
        throttle.attempt("mo", address("10.0.0.2"), now).unwrap();
        fail(&mut throttle, "a", address("2001:db8::1"), now);
        throttle.attempt("b", address("2001:db8::ffff:2"), now).unwrap_err();
        throttle.attempt("b", address("2001:db8:0:1::1"), now).unwrap();
        fail(&mut throttle, "c", address("::ffff:10.0.0.3"), now);
        throttle.attempt("d", address("10.0.0.3"), now).unwrap_err();
    }

    #[test]
    fn a_success_frees_the_user_and_not_the_address() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let from = address("10.0.0.1");
        for _ in 0..100 {
            assert_eq!(throttle.attempt("jo", from, now), Ok(0));
            throttle.succeeded("jo", from, now);
        }
        for _ in 0..5 {
            throttle.attempt("victim", from, now).unwrap();
            match throttle.attempt("jo", from, now) {
                Ok(_) => throttle.succeeded("jo", from, now),
                Err(_) => break,
            }
        }
        throttle.attempt("other", from, now).unwrap_err();
    }

    #[test]
    fn many_who_guess_lock_each_other_out_and_not_the_owner() {
        let (mut throttle, mut now) = (Throttle::default(), Instant::now());
        let home = address("192.168.1.7");
        throttle.attempt("jo", home, now).unwrap();
        throttle.succeeded("jo", home, now);
        let guess =
            |throttle: &mut Throttle, number: u32, now| throttle.attempt("jo", Some(IpAddr::V4(number.into())), now);
        for number in 0..50 {
            assert_eq!(guess(&mut throttle, number, now), Ok(0));
        }
        for number in 0..50 {
            assert!(guess(&mut throttle, number, now).unwrap_err() > Duration::from_secs(50));
        }
        assert_eq!(throttle.attempt("jo", address("192.168.1.8"), now).unwrap(), 0, "the owner, from another address");
        for number in 50..109 {
            assert_eq!(guess(&mut throttle, number, now).unwrap(), 0);
        }
        guess(&mut throttle, 109, now).unwrap_err();
        throttle.attempt("jo", home, now).unwrap();
        now += Duration::from_secs(2);
        assert_eq!((110..200).filter(|number| guess(&mut throttle, *number, now).is_ok()).count(), 2);
    }

    #[test]
    fn a_flood_of_names_fills_no_memory_and_frees_nobody() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        fail(&mut throttle, "jo", None, now);
        for number in 0..5000u32 {
            throttle.attempt(&number.to_string(), Some(IpAddr::V4(number.into())), now).unwrap();
        }
        assert!(throttle.users.len() <= ENTRIES && throttle.addresses.len() <= ENTRIES);
        throttle.attempt("jo", None, now).unwrap_err();
    }
}
