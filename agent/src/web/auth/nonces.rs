//! The nonces of digest authentication: each holds its time and is signed, so that only those in use are kept.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ring::hmac;

use super::compare::{random, same};
use crate::net::base64;

/// A client may send requests on several connections: counts may come late by so many.
const WINDOW: u32 = 64;
const TIME: usize = 8;
const RANDOM: usize = 8;
const SIGNATURE: usize = 16;

/// What a nonce is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// This nonce with this count is used for the first time.
    Fresh,
    /// Too old, used before, or not of this server: the client gets another one.
    Stale,
}

/// Makes nonces and knows those in use.
pub struct Nonces {
    key: hmac::Key,
    start: Instant,
    life: Duration,
    limit: usize,
    used: HashMap<[u8; TIME + RANDOM], Use>,
    /// Nonces made up to then, in milliseconds, are stale when they are not known: what was known of them is forgotten.
    floor: Option<u64>,
}

struct Use {
    user: String,
    highest: u32,
    /// Bit `n` is the count `highest - n`.
    seen: u64,
}

impl Nonces {
    /// Nonces that live so long, of which at most `limit` are in use.
    pub fn new(secret: &[u8], life: Duration, limit: usize, now: Instant) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self { key, start: now, life, limit: limit.max(1), used: HashMap::new(), floor: None }
    }

    /// A new nonce; nothing when the system gives no random bytes.
    pub fn make(&self, now: Instant) -> Option<String> {
        let mut bytes = self.age(now).to_be_bytes().to_vec();
        bytes.extend_from_slice(&random::<RANDOM>()?);
        let signature = hmac::sign(&self.key, &bytes);
        bytes.extend_from_slice(signature.as_ref().get(..SIGNATURE)?);
        Some(base64::encode(&bytes))
    }

    /// Whether that user proved the password with this nonce before.
    pub fn is_known(&self, nonce: &str, user: &str) -> bool {
        self.open(nonce).is_some_and(|id| self.used.get(&id).is_some_and(|used| used.user == user))
    }

    /// Uses a nonce with a count; to be called when the response was right, so that strangers use up nothing.
    pub fn spend(&mut self, nonce: &str, user: &str, count: u32, now: Instant) -> Worth {
        let Some(id) = self.open(nonce).filter(|id| self.is_alive(id, now)) else { return Worth::Stale };
        if let Some(used) = self.used.get_mut(&id) {
            return if used.user == user && used.spend(count) { Worth::Fresh } else { Worth::Stale };
        }
        if self.floor.is_some_and(|floor| made(&id) <= floor) {
            return Worth::Stale;
        }
        if self.used.len() >= self.limit {
            self.make_room(now);
        }
        self.used.insert(id, Use { user: user.to_owned(), highest: count, seen: 1 });
        Worth::Fresh
    }

    /// Time and random bytes of a nonce of ours.
    fn open(&self, nonce: &str) -> Option<[u8; TIME + RANDOM]> {
        let bytes = base64::decode(nonce).filter(|bytes| bytes.len() == TIME + RANDOM + SIGNATURE)?;
        let (id, signature) = bytes.split_at_checked(TIME + RANDOM)?;
        let expected = hmac::sign(&self.key, id);
        same(signature, expected.as_ref().get(..SIGNATURE)?).then(|| id.try_into().ok()).flatten()
    }

    fn is_alive(&self, id: &[u8; TIME + RANDOM], now: Instant) -> bool {
        u128::from(self.age(now).saturating_sub(made(id))) <= self.life.as_millis()
    }

    /// Forgets what is dead, else the oldest; nonces as old as that one are stale from now on.
    fn make_room(&mut self, now: Instant) {
        let (age, life) = (self.age(now), self.life.as_millis());
        self.used.retain(|id, _| u128::from(age.saturating_sub(made(id))) <= life);
        if self.used.len() < self.limit {
            return;
        }
        if let Some(oldest) = self.used.keys().min_by_key(|id| made(id)).copied() {
            self.used.remove(&oldest);
            self.floor = self.floor.max(Some(made(&oldest)));
        }
    }

    fn age(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

/// When a nonce was made, in milliseconds after the start.
fn made(id: &[u8; TIME + RANDOM]) -> u64 {
    id.iter().take(TIME).fold(0, |time, byte| time << 8 | u64::from(*byte))
}

impl Use {
    /// Whether this count comes for the first time and not too late.
    fn spend(&mut self, count: u32) -> bool {
        if let Some(ahead) = count.checked_sub(self.highest).filter(|ahead| *ahead > 0) {
            self.seen = if ahead < WINDOW { self.seen << ahead | 1 } else { 1 };
            self.highest = count;
            return true;
        }
        let behind = self.highest - count;
        let bit = if behind < WINDOW { 1u64 << behind } else { return false };
        let is_new = self.seen & bit == 0;
        self.seen |= bit;
        is_new
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn nonces(limit: usize) -> (Nonces, Instant) {
        let now = Instant::now();
        (Nonces::new(b"secret", Duration::from_secs(60), limit, now), now)
    }

    #[test]
    fn each_count_is_good_once_also_out_of_order() {
        let (mut nonces, now) = nonces(10);
        let nonce = nonces.make(now).unwrap();
        assert!(!nonces.is_known(&nonce, "jo"));
        for (count, expected) in [
            (3, true),
            (3, false),
            (1, true),
            (1, false),
            (2, true),
            (70, true),
            (6, false),
            (7, true),
            (200, true),
            (70, false),
        ] {
            assert_eq!(nonces.spend(&nonce, "jo", count, now) == Worth::Fresh, expected, "{count}");
        }
        assert!(nonces.is_known(&nonce, "jo") && !nonces.is_known(&nonce, "mo"));
        assert_eq!(nonces.spend(&nonce, "mo", 300, now), Worth::Stale);
    }

    #[test]
    fn an_old_nonce_and_one_of_another_server_are_stale() {
        let (mut nonces, now) = nonces(10);
        let nonce = nonces.make(now).unwrap();
        assert_eq!(nonces.spend(&nonce, "jo", 1, now + Duration::from_secs(60)), Worth::Fresh);
        assert_eq!(nonces.spend(&nonce, "jo", 2, now + Duration::from_secs(61)), Worth::Stale);
        let other = Nonces::new(b"other", Duration::from_secs(60), 10, now).make(now).unwrap();
        for forged in [other.as_str(), "", "AAAA", &nonce[1..]] {
            assert_eq!(nonces.spend(forged, "jo", 1, now), Worth::Stale, "{forged}");
        }
        let mut bytes = base64::decode(&nonce).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(nonces.spend(&base64::encode(&bytes), "jo", 9, now), Worth::Stale);
            bytes[at] ^= 1;
        }
    }

    #[test]
    fn what_is_forgotten_cannot_be_replayed() {
        let (mut nonces, start) = nonces(3);
        let at = |millis: u64| start + Duration::from_millis(millis);
        let all: Vec<_> = (0..10).map(|n| nonces.make(at(n * 10)).unwrap()).collect();
        for nonce in &all {
            assert_eq!(nonces.spend(nonce, "jo", 1, at(100)), Worth::Fresh);
            assert!(nonces.used.len() <= 3);
        }
        for nonce in &all {
            assert_eq!(nonces.spend(nonce, "jo", 1, at(100)), Worth::Stale);
        }
        assert_eq!(nonces.spend(&all[9], "jo", 2, at(100)), Worth::Fresh);
    }
}
