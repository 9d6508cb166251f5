//! The sessions of users who logged in. Only a login makes one: visitors cannot fill the table.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use ring::digest::{SHA256, digest};

use super::account::Account;
use super::compare::{hex, random};
use crate::config::Sessions as Settings;

/// Sessions of one user; another login ends the one that was unused longest.
const PER_USER: usize = 10;

/// All sessions, in memory.
pub struct Sessions {
    settings: Settings,
    /// By the SHA-256 of their id: how long a search takes tells nothing about ids.
    all: HashMap<[u8; 32], Session>,
}

struct Session {
    account: Arc<Account>,
    xsrf: String,
    created: Instant,
    used: Instant,
}

impl Sessions {
    pub fn new(settings: Settings) -> Self {
        Self { settings, all: HashMap::new() }
    }

    /// Begins a session and returns its id and its XSRF token, 128 random bits each; nothing when the system has none.
    pub fn create(&mut self, account: Arc<Account>, now: Instant) -> Option<(String, String)> {
        let (id, xsrf) = (hex(&random::<16>()?), hex(&random::<16>()?));
        self.all.retain(|_, session| session.is_alive(&self.settings, now));
        let name = account.name.clone();
        self.make_room(PER_USER, |session| session.account.name == name);
        self.make_room(self.settings.limit, |_| true);
        self.all.insert(key(&id), Session { account, xsrf: xsrf.clone(), created: now, used: now });
        Some((id, xsrf))
    }

    /// The user and the XSRF token of a session that lives, which lives on.
    pub fn find(&mut self, id: &str, now: Instant) -> Option<(Arc<Account>, String)> {
        let key = key(id);
        let session = self.all.get_mut(&key)?;
        if !session.is_alive(&self.settings, now) {
            self.all.remove(&key);
            return None;
        }
        session.used = now;
        Some((session.account.clone(), session.xsrf.clone()))
    }

    /// Ends a session.
    pub fn remove(&mut self, id: &str) {
        self.all.remove(&key(id));
    }

    /// Ends of those sessions the one that was unused longest, until there are fewer than `limit`.
    fn make_room(&mut self, limit: usize, which: impl Fn(&Session) -> bool) {
        while self.all.values().filter(|session| which(session)).count() >= limit.max(1) {
            let those = self.all.iter().filter(|(_, session)| which(session));
            let Some(key) = those.min_by_key(|(_, session)| session.used).map(|(key, _)| *key) else { return };
            self.all.remove(&key);
        }
    }
}

impl Session {
    fn is_alive(&self, settings: &Settings, now: Instant) -> bool {
        now.saturating_duration_since(self.used) < settings.idle
            && now.saturating_duration_since(self.created) < settings.absolute
    }
}

fn key(id: &str) -> [u8; 32] {
    digest(&SHA256, id.as_bytes()).as_ref().try_into().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Auth, Secret, User};
    use crate::web::auth::account::accounts;

    fn sessions(limit: usize) -> Sessions {
        let settings = Settings {
            limit,
            idle: Duration::from_secs(30),
            absolute: Duration::from_secs(100),
            ..Settings::default()
        };
        Sessions::new(settings)
    }

    fn account(name: &str) -> Arc<Account> {
        let user = User { name: name.into(), password: Secret::default(), ha1: vec![], role: "user".into() };
        accounts(&Auth { users: vec![user], ..Auth::default() }).0[name].clone()
    }

    #[test]
    fn a_session_ends_when_it_is_unused_and_after_its_time() {
        let (mut sessions, start) = (sessions(10), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let (id, xsrf) = sessions.create(account("jo"), start).unwrap();
        assert!(id.len() == 32 && xsrf.len() == 32 && id != xsrf);
        for seconds in [29, 58, 87, 99] {
            let (account, token) = sessions.find(&id, at(seconds)).unwrap();
            assert_eq!((account.name.as_str(), &token), ("jo", &xsrf));
        }
        assert!(sessions.find(&id, at(100)).is_none());
        let (id, _) = sessions.create(account("jo"), start).unwrap();
        assert!(sessions.find(&id, at(30)).is_none() && sessions.all.is_empty());
        let (id, _) = sessions.create(account("jo"), start).unwrap();
        sessions.remove(&id);
        assert!(sessions.find(&id, start).is_none() && sessions.find("", start).is_none());
    }

    #[test]
    fn many_logins_end_the_oldest_and_first_those_of_the_same_user() {
        let (mut sessions, start) = (sessions(12), Instant::now());
        let at = |millis: u64| start + Duration::from_millis(millis);
        let (mo, _) = sessions.create(account("mo"), at(0)).unwrap();
        let jo: Vec<_> = (1..=25).map(|n| sessions.create(account("jo"), at(n)).unwrap().0).collect();
        assert!(sessions.find(&mo, at(30)).is_some());
        assert_eq!(jo.iter().filter(|id| sessions.find(id, at(31)).is_some()).count(), PER_USER);
        for n in 0..20 {
            sessions.create(account(&n.to_string()), at(40 + n)).unwrap();
            assert!(sessions.all.len() <= 12);
        }
    }
}
