//! Verifies passwords for all connections: one at a time, slowed down for who guesses, remembered for who is right.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ring::hmac;

use super::super::Error;
use super::account::{Account, People, accounts};
use super::compare::random;
use super::digest::Response;
use super::hasher::Hasher;
use super::keeper::Keeper;
use super::nonces::{Nonces, Worth};
use super::password::{Hash, verify};
use super::session_store::SessionStore;
use super::throttle::Throttle;
use crate::config::{Auth, User, Web};
use crate::net::{Holder, hex};

/// A right password is known again from the same address for so long: a hash for each request would be too slow.
const REMEMBER: Duration = Duration::from_secs(10 * 60);
/// Right passwords that are remembered.
const REMEMBERED: usize = 256;

/// Why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such user, or the password is another.
    Wrong,
    /// Too many attempts; the next is possible after this time.
    Wait(Duration),
    /// Too many log in at the same time.
    Busy,
    /// The password is right, and the nonce is too old or was used before.
    Stale,
}

/// Users and what is known about their attempts.
pub struct Authority {
    pub settings: Auth,
    people: RwLock<Arc<People>>,
    throttle: Mutex<Throttle>,
    hasher: Hasher,
    key: hmac::Key,
    forms: hmac::Key,
    /// Keyed digests of user, password and address.
    remembered: Mutex<HashMap<[u8; 32], Instant>>,
    nonces: Mutex<Nonces>,
    pub keeper: Keeper,
}

impl Authority {
    pub fn new(settings: &Web) -> Result<Self, Error> {
        let settings = settings.auth.clone();
        let secret = random::<32>().ok_or_else(|| Error::Setting("the system gives no random bytes".to_owned()))?;
        // One key for each purpose, from the secret that the servers of one name may share.
        let key = |purpose: &str| match settings.secret.is_empty() {
            true => hmac::Key::new(hmac::HMAC_SHA256, &[&secret, purpose.as_bytes()].concat()),
            false => hmac::Key::new(hmac::HMAC_SHA256, format!("{purpose}:{}", settings.secret.expose()).as_bytes()),
        };
        let nonce_key = [&secret[..], settings.secret.expose().as_bytes()].concat();
        Ok(Self {
            people: RwLock::new(Arc::new(People::new(&settings))),
            forms: key("forms"),
            nonces: Mutex::new(Nonces::new(&nonce_key, settings.nonce_time, settings.nonces, Instant::now())),
            keeper: Keeper::new(settings.sessions.clone(), None),
            settings,
            throttle: Mutex::default(),
            hasher: Hasher::default(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            remembered: Mutex::default(),
        })
    }

    /// Keeps sessions there from the beginning on.
    pub fn keep_sessions(&mut self, store: Option<Arc<dyn SessionStore>>) {
        self.keeper = Keeper::new(self.settings.sessions.clone(), store);
    }

    /// Whether a user of that role, or without one somebody unknown, has an ability.
    pub fn can(&self, account: Option<&Account>, ability: &str) -> bool {
        self.people().roles.can(account.map_or("public", |account| &account.role), ability)
    }

    /// Who may come in now.
    pub fn people(&self) -> Arc<People> {
        self.people.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Other people may come in from now on. Sessions of users who are not among them, or have another password, end.
    pub fn set_people(&self, people: People) {
        let people = Arc::new(people);
        *self.people.write().unwrap_or_else(PoisonError::into_inner) = people.clone();
        locked(&self.remembered).clear();
        self.keeper.sessions().retain(|name, proof| people.find(name, proof).is_some());
    }

    /// Adds a user, or replaces the one of that name.
    ///
    /// # Errors
    /// The role is none of `web.auth.roles`, or the stored password is in no known format.
    pub fn set_user(&self, user: User) -> Result<(), Error> {
        let mut people = People::clone(&self.people());
        if !people.roles.has(&user.role) {
            return Err(Error::Setting(format!("'{}' is no role of web.auth.roles", user.role)));
        }
        let (accounts, warnings) = accounts(&Auth { users: vec![user], ..Auth::default() });
        if let Some(unusable) = warnings.iter().find(|warning| warning.ends_with("it is not used")) {
            return Err(Error::Setting(unusable.clone()));
        }
        people.accounts.extend(accounts);
        self.set_people(people);
        Ok(())
    }

    /// Removes a user; `false`: there is none of that name.
    pub fn remove_user(&self, name: &str) -> bool {
        let mut people = People::clone(&self.people());
        let was_there = people.accounts.remove(name).is_some();
        if was_there {
            self.set_people(people);
        }
        was_there
    }

    /// The user of that name and password. Takes the same time for users who do not exist.
    ///
    /// # Errors
    /// Why not.
    pub async fn verify(&self, user: &str, password: &str, from: Option<IpAddr>) -> Result<Arc<Account>, Refused> {
        let now = Instant::now();
        let people = self.people();
        let account = people.accounts.get(user);
        let tag = self.tag(user, password, from);
        if let Some(wait) = locked(&self.throttle).address_wait(from, now) {
            return Err(Refused::Wait(wait));
        }
        if let Some(account) = account.filter(|_| self.remembers(&tag, now)) {
            return Ok(account.clone());
        }
        let failures = locked(&self.throttle).attempt(user, from, now).map_err(Refused::Wait)?;
        let (name, realm, password) = (user.to_owned(), self.settings.realm.clone(), password.to_owned());
        let stored = account.and_then(|account| account.password.clone());
        let work = move || verify(&name, &realm, &password, stored.as_ref());
        let is_right = self.hasher.run(failures, work).await.ok_or(Refused::Busy)?;
        match (is_right, account) {
            (true, Some(account)) => {
                let now = Instant::now();
                locked(&self.throttle).succeeded(user, from, now);
                self.remember(tag, now);
                Ok(account.clone())
            }
            _ => {
                locked(&self.throttle).failed(user, from, Instant::now());
                // A name that nobody has may be a password at the wrong place.
                let user = account.map_or("an unknown user", |account| &account.name);
                log::info!("a login as {user} failed{}", from.map_or(String::new(), |from| format!(", from {from}")));
                Err(Refused::Wrong)
            }
        }
    }

    /// How long that address must wait before its next attempt.
    pub fn address_wait(&self, from: Option<IpAddr>) -> Option<Duration> {
        locked(&self.throttle).address_wait(from, Instant::now())
    }

    /// The user whose password made the response of digest authentication, for this method and target.
    ///
    /// # Errors
    /// Why not.
    pub fn digest(
        &self,
        response: &Response,
        hash: Hash,
        (method, target): (&str, &str),
        from: Option<IpAddr>,
    ) -> Result<Arc<Account>, Refused> {
        let (now, user) = (Instant::now(), &response.username);
        let Some(count) = response.count().filter(|_| response.fits(hash, &self.settings.realm, target)) else {
            return Err(Refused::Wrong);
        };
        if let Some(wait) = locked(&self.throttle).address_wait(from, now) {
            return Err(Refused::Wait(wait));
        }
        // Who proved the password with this nonce is not locked out by others who guess.
        let is_known = locked(&self.nonces).is_known(&response.nonce, user);
        if !is_known {
            locked(&self.throttle).attempt(user, from, now).map_err(Refused::Wait)?;
        }
        let people = self.people();
        let account = people.accounts.get(user);
        let ha1 = account.and_then(|account| account.ha1(hash));
        let is_right = response.is_right(hash, ha1.unwrap_or_default(), method);
        let Some(account) = account.filter(|_| is_right && ha1.is_some()) else {
            if is_known {
                locked(&self.throttle).attempt(user, from, now).map_err(Refused::Wait)?;
            }
            return Err(Refused::Wrong);
        };
        if !is_known {
            locked(&self.throttle).succeeded(user, from, now);
        }
        match locked(&self.nonces).spend(&response.nonce, user, count, now) {
            Worth::Fresh => Ok(account.clone()),
            Worth::Stale => Err(Refused::Stale),
        }
    }

    /// The name and role behind a bearer token. It has 256 random bits and is looked up by its digest: it cannot be guessed,
    /// neither at once nor bit by bit.
    pub fn token(&self, token: &str) -> Option<Arc<Account>> {
        self.people().tokens.get(&Hash::Sha256.of(token)).cloned()
    }

    /// The user whose certificate that is: its fingerprint is before its common name, its e-mail addresses and host names.
    pub fn certified(&self, holder: &Holder) -> Option<Arc<Account>> {
        let people = self.people();
        let account = match &people.certificates {
            None => holder.names().find_map(|name| people.accounts.get(name)),
            Some(all) => {
                let own = all.get(&format!("SHA256:{}", holder.fingerprint));
                own.or_else(|| holder.names().find_map(|name| all.get(name)))
            }
        };
        account.cloned()
    }

    /// A new nonce for a challenge.
    pub fn nonce(&self) -> Option<String> {
        locked(&self.nonces).make(Instant::now())
    }

    /// The token that belongs to the cookie of a visitor's form.
    pub fn form_token(&self, cookie: &str) -> String {
        hex::encode(hmac::sign(&self.forms, cookie.as_bytes()).as_ref().get(..16).unwrap_or_default())
    }

    fn tag(&self, user: &str, password: &str, from: Option<IpAddr>) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        let address = from.map(|from| from.to_canonical().to_string()).unwrap_or_default();
        for part in [user, password, &address] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.sign().as_ref().try_into().unwrap_or_default()
    }

    fn remembers(&self, tag: &[u8; 32], now: Instant) -> bool {
        locked(&self.remembered).get(tag).is_some_and(|at| now.saturating_duration_since(*at) < REMEMBER)
    }

    fn remember(&self, tag: [u8; 32], now: Instant) {
        let mut all = locked(&self.remembered);
        if all.len() >= REMEMBERED {
            all.retain(|_, at| now.saturating_duration_since(*at) < REMEMBER);
        }
        if all.len() >= REMEMBERED {
            let oldest = all.iter().min_by_key(|(_, at)| **at).map(|(tag, _)| *tag);
            oldest.map(|tag| all.remove(&tag));
        }
        all.insert(tag, now);
    }
}

/// A panic aborts: no lock is poisoned.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Secret, User};

    fn authority() -> Authority {
        let password = Secret::new(Hash::Sha256.stored(&Hash::Sha256.ha1("jo", "web", "right")));
        let jo = User { name: "jo".into(), password, ha1: vec![], role: "user".into() };
        Authority::new(&Web { auth: Auth { users: vec![jo], ..Auth::default() }, ..Web::default() }).unwrap()
    }

    #[test]
    fn who_guesses_waits_and_who_was_right_does_not() {
        let authority = authority();
        let [home, away] = ["10.0.0.1", "10.0.0.2"].map(|text| Some(text.parse::<IpAddr>().unwrap()));
        smol::block_on(async {
            authority.verify("jo", "right", home).await.unwrap();
            for user in ["jo", "jo", "nobody", "jo", "jo"] {
                assert_eq!(authority.verify(user, "wrong", away).await.unwrap_err(), Refused::Wrong);
            }
            assert!(matches!(authority.verify("jo", "right", away).await, Err(Refused::Wait(_))));
            for _ in 0..100 {
                authority.verify("jo", "right", home).await.unwrap();
            }
        });
    }
}
