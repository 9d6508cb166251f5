//! The sessions of users who logged in, and beside them those of visitors, whose place is bounded and never a user's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ring::digest::{Context, SHA256};

use super::compare::random;
use super::session_store;
use super::throttle::network;
use crate::config::Sessions as Settings;
use crate::net::hex;

/// Sessions of one user; another login ends the one that was unused longest.
const PER_USER: usize = 10;
/// Sessions of visitors from one address, or one network of IPv6.
const PER_ADDRESS: usize = 10;
/// Variables of a session, and bytes of their names and values together.
const VARIABLES: (usize, usize) = (32, 4096);
/// A session that is used is kept anew so often, or twice in the time that it lives unused, but not more often than changes:
/// each time wears the flash.
const KEEP_USE: Duration = Duration::from_secs(5 * 60);
/// And after so long when its variables changed.
const KEEP_CHANGE: Duration = Duration::from_secs(30);
/// Sessions that ended and are still to be removed from where they are kept.
const GONE: usize = 10_000;

/// The SHA-256 of an id: how long a search takes tells nothing about ids.
pub type Key = [u8; 32];

/// All sessions, in memory.
pub struct Sessions {
    settings: Settings,
    users: HashMap<Key, Session>,
    visitors: HashMap<Key, Session>,
    /// Those that ended, when sessions are kept.
    gone: Option<Vec<Key>>,
}

pub struct Session {
    /// The name of the user, and what shows that the password is still the same.
    pub user: Option<(String, String)>,
    pub address: Option<IpAddr>,
    pub created: Instant,
    pub used: Instant,
    pub variables: Vec<(String, String)>,
    /// When its variables changed.
    pub changed: Option<Instant>,
    /// Its last use that is kept.
    pub kept: Option<Instant>,
}

/// What is to be kept.
#[derive(Default)]
pub struct Changes {
    pub kept: Vec<(Key, String)>,
    pub removed: Vec<Key>,
    at: Option<Instant>,
}

/// A session that was found.
pub struct Found {
    pub key: Key,
    pub user: Option<(String, String)>,
}

impl Sessions {
    /// `are_kept`: what ends is remembered until it is removed there.
    pub fn new(settings: Settings, are_kept: bool) -> Self {
        Self { settings, users: HashMap::new(), visitors: HashMap::new(), gone: are_kept.then(Vec::new) }
    }

    /// Begins a user's session and returns its id of 128 random bits; nothing when the system has none.
    pub fn create(&mut self, user: (String, String), now: Instant) -> Option<String> {
        let id = hex::encode(&random::<16>()?);
        self.sweep(now);
        let name = user.0.clone();
        self.make_room(PER_USER, |session| session.user.as_ref().is_some_and(|(user, _)| *user == name));
        self.make_room(self.settings.limit, |_| true);
        self.users.insert(key(&id), Session::new(Some(user), None, now));
        Some(id)
    }

    /// Begins a visitor's session, with an id that nobody but this client knows, or a new one.
    pub fn visit(&mut self, id: Option<String>, address: Option<IpAddr>, now: Instant) -> Option<String> {
        let id = match id {
            Some(id) => id,
            None => hex::encode(&random::<16>()?),
        };
        let address = address.map(network);
        let settings = &self.settings;
        self.visitors.retain(|_, session| session.is_alive(settings, now));
        make_room(&mut self.visitors, PER_ADDRESS, |session| address.is_some() && session.address == address);
        make_room(&mut self.visitors, self.settings.limit, |_| true);
        self.visitors.insert(key(&id), Session::new(None, address, now));
        Some(id)
    }

    /// A session that lives, which lives on.
    pub fn find(&mut self, id: &str, now: Instant) -> Option<Found> {
        let key = key(id);
        let settings = self.settings.clone();
        let session = self.get_mut(&key)?;
        if !session.is_alive(&settings, now) {
            self.remove(&key);
            return None;
        }
        session.used = now;
        Some(Found { key, user: session.user.clone() })
    }

    /// Ends a session.
    pub fn remove(&mut self, key: &Key) {
        self.visitors.remove(key);
        if self.users.remove(key).is_some() {
            self.forget([*key]);
        }
    }

    /// Ends the sessions of users of which `is_there` says no.
    pub fn retain(&mut self, is_there: impl Fn(&str, &str) -> bool) {
        let ended = |session: &Session| session.user.as_ref().is_none_or(|(name, proof)| !is_there(name, proof));
        self.end(ended);
    }

    /// The value of a variable.
    pub fn get(&self, key: &Key, name: &str) -> Option<String> {
        let session = self.users.get(key).or_else(|| self.visitors.get(key))?;
        session.variables.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
    }

    /// Sets a variable, or removes it; `false`: there is no room for it, or no such session.
    pub fn set(&mut self, key: &Key, name: &str, value: Option<&str>, now: Instant) -> bool {
        let Some(session) = self.get_mut(key) else { return false };
        let before = session.variables.clone();
        session.variables.retain(|(found, _)| found != name);
        session.variables.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        if !session.fits() {
            session.variables = before;
            return false;
        }
        if session.variables != before {
            session.changed = Some(now);
        }
        true
    }

    /// What is to be kept now; with `all` also what could wait.
    pub fn changes(&mut self, now: Instant, all: bool) -> Changes {
        self.sweep(now);
        let Some(gone) = &self.gone else { return Changes::default() };
        let pause = self.pause();
        let due = self.users.iter().filter(|(_, session)| session.is_due(now, pause, all));
        let kept: Vec<_> = due.map(|(key, session)| (*key, session_store::write(session, now))).collect();
        // What only ended by itself can wait until something else is written.
        let removed = if all || !kept.is_empty() { gone.clone() } else { Vec::new() };
        Changes { kept, removed, at: Some(now) }
    }

    /// Whether [`Sessions::changes`] has something of that session.
    pub fn is_due(&self, key: &Key, now: Instant) -> bool {
        self.gone.is_some() && self.users.get(key).is_some_and(|session| session.is_due(now, self.pause(), false))
    }

    /// These changes are kept.
    pub fn are_kept(&mut self, changes: &Changes) {
        for (key, _) in &changes.kept {
            if let Some(session) = self.users.get_mut(key) {
                session.kept = changes.at;
                session.changed = session.changed.filter(|at| Some(*at) > changes.at);
            }
        }
        if let Some(gone) = &mut self.gone {
            gone.retain(|key| !changes.removed.contains(key));
        }
    }

    /// Takes over what was kept; what cannot be read, or has ended, is to be removed there.
    pub fn restore(&mut self, kept: Vec<(Vec<u8>, String)>, now: Instant) {
        for (stored, text) in kept {
            match session_store::read(&stored, &text, now) {
                Some((key, session)) if !self.gone.as_ref().is_some_and(|gone| gone.contains(&key)) => {
                    self.users.entry(key).or_insert(session);
                }
                Some(_) => {}
                None => {
                    log::warn!("the session {} cannot be read, it is removed", session_store::show(&stored));
                    stored.try_into().into_iter().for_each(|key| self.forget([key]));
                }
            }
        }
        self.sweep(now);
        self.make_room(self.settings.limit.saturating_add(1), |_| true);
    }

    /// How many sessions of users there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    fn get_mut(&mut self, key: &Key) -> Option<&mut Session> {
        match self.users.get_mut(key) {
            Some(session) => Some(session),
            None => self.visitors.get_mut(key),
        }
    }

    fn pause(&self) -> Duration {
        (self.settings.idle / 2).clamp(KEEP_CHANGE, KEEP_USE)
    }

    fn sweep(&mut self, now: Instant) {
        let settings = self.settings.clone();
        self.end(|session| !session.is_alive(&settings, now));
    }

    fn make_room(&mut self, limit: usize, which: impl Fn(&Session) -> bool) {
        let ended = make_room(&mut self.users, limit, which);
        self.forget(ended);
    }

    /// Ends the sessions of users for which it says yes.
    fn end(&mut self, which: impl Fn(&Session) -> bool) {
        let ended: Vec<Key> = self.users.iter().filter(|(_, session)| which(session)).map(|(key, _)| *key).collect();
        self.users.retain(|_, session| !which(session));
        self.forget(ended);
    }

    fn forget(&mut self, keys: impl IntoIterator<Item = Key>) {
        if let Some(gone) = &mut self.gone {
            gone.extend(keys);
            // Nothing could be written for long. The oldest have ended by their time.
            let excess = gone.len().saturating_sub(GONE);
            gone.drain(..excess);
        }
    }
}

impl Session {
    pub fn new(user: Option<(String, String)>, address: Option<IpAddr>, now: Instant) -> Self {
        Self { user, address, created: now, used: now, variables: Vec::new(), changed: None, kept: None }
    }

    /// Whether its variables are within their bounds.
    pub fn fits(&self) -> bool {
        let bytes: usize = self.variables.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.variables.len() <= VARIABLES.0 && bytes <= VARIABLES.1
    }

    fn is_alive(&self, settings: &Settings, now: Instant) -> bool {
        now.saturating_duration_since(self.used) < settings.idle
            && now.saturating_duration_since(self.created) < settings.absolute
    }

    fn is_due(&self, now: Instant, pause: Duration, all: bool) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        match self.kept {
            None => true,
            Some(kept) => {
                let changed = self.changed.is_some_and(|at| all || since(at) >= KEEP_CHANGE);
                let used = if all { self.used > kept } else { since(kept) >= pause };
                changed || used
            }
        }
    }
}

/// The token of a session against requests that pages of other sites make. Who has it does not have the id.
pub fn xsrf(id: &str) -> String {
    let mut context = Context::new(&SHA256);
    context.update(b"xsrf:");
    context.update(id.as_bytes());
    hex::encode(context.finish().as_ref().get(..16).unwrap_or_default())
}

fn key(id: &str) -> Key {
    ring::digest::digest(&SHA256, id.as_bytes()).as_ref().try_into().unwrap_or_default()
}

/// Ends of those sessions the one that was unused longest, until there are fewer than `limit`. Returns what ended.
fn make_room(all: &mut HashMap<Key, Session>, limit: usize, which: impl Fn(&Session) -> bool) -> Vec<Key> {
    let mut ended = Vec::new();
    while all.values().filter(|session| which(session)).count() >= limit.max(1) {
        let those = all.iter().filter(|(_, session)| which(session));
        let Some(key) = those.min_by_key(|(_, session)| session.used).map(|(key, _)| *key) else { break };
        all.remove(&key);
        ended.push(key);
    }
    ended
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sessions(limit: usize, are_kept: bool) -> Sessions {
        let settings = Settings {
            limit,
            idle: Duration::from_secs(30),
            absolute: Duration::from_secs(100),
            ..Settings::default()
        };
        Sessions::new(settings, are_kept)
    }

    fn user(name: &str) -> (String, String) {
        (name.into(), "proof".into())
    }

    #[test]
    fn a_session_ends_when_it_is_unused_and_after_its_time() {
        let (mut sessions, start) = (sessions(10, false), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let id = sessions.create(user("jo"), start).unwrap();
        assert!(id.len() == 32 && xsrf(&id).len() == 32 && id != xsrf(&id));
        for seconds in [29, 58, 87, 99] {
            assert_eq!(sessions.find(&id, at(seconds)).unwrap().user, Some(user("jo")));
        }
        assert!(sessions.find(&id, at(100)).is_none());
        let id = sessions.create(user("jo"), start).unwrap();
        assert!(sessions.find(&id, at(30)).is_none() && sessions.users.is_empty());
        let id = sessions.create(user("jo"), start).unwrap();
        sessions.remove(&key(&id));
        assert!(sessions.find(&id, start).is_none() && sessions.find("", start).is_none());
    }

    #[test]
    fn many_logins_end_the_oldest_and_first_those_of_the_same_user() {
        let (mut sessions, start) = (sessions(12, false), Instant::now());
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mo = sessions.create(user("mo"), at(0)).unwrap();
        let jo: Vec<_> = (1..=25).map(|n| sessions.create(user("jo"), at(n)).unwrap()).collect();
        assert!(sessions.find(&mo, at(30)).is_some());
        assert_eq!(jo.iter().filter(|id| sessions.find(id, at(31)).is_some()).count(), PER_USER);
        for n in 0..20 {
            sessions.create(user(&n.to_string()), at(40 + n)).unwrap();
            assert!(sessions.users.len() <= 12);
        }
    }

    #[test]
    fn visitors_take_no_place_of_a_user_nor_of_other_addresses() {
        let (mut sessions, start) = (sessions(30, false), Instant::now());
        let at = |millis: u64| start + Duration::from_millis(millis);
        let address = |text: &str| Some(text.parse().unwrap());
        let jo = sessions.create(user("jo"), start).unwrap();
        let other = sessions.visit(None, address("10.0.0.1"), start).unwrap();
        for n in 0..1000 {
            sessions.visit(None, address("2001:db8::7"), at(n)).unwrap();
        }
        assert_eq!(sessions.visitors.len(), 11);
        assert!(sessions.find(&other, at(1000)).is_some());
        for n in 0..1000u32 {
            sessions.visit(None, Some(IpAddr::V4(n.into())), at(1000)).unwrap();
        }
        assert_eq!(sessions.visitors.len(), 30);
        assert!(sessions.find(&jo, at(1000)).is_some());
    }

    #[test]
    fn variables_are_bounded() {
        let (mut sessions, now) = (sessions(10, false), Instant::now());
        let id = sessions.visit(None, None, now).unwrap();
        let key = sessions.find(&id, now).unwrap().key;
        assert!(sessions.set(&key, "a", Some("1"), now) && sessions.set(&key, "a", Some("2"), now));
        assert_eq!(sessions.get(&key, "a").as_deref(), Some("2"));
        assert!(!sessions.set(&key, "b", Some(&"x".repeat(4096)), now));
        for n in 0..31 {
            assert!(sessions.set(&key, &format!("v{n}"), Some("x"), now));
        }
        assert!(!sessions.set(&key, "one more", Some("x"), now) && sessions.set(&key, "a", None, now));
        assert_eq!((sessions.get(&key, "a"), sessions.get(&key, "v30").as_deref()), (None, Some("x")));
        assert!(!sessions.set(&[0; 32], "a", Some("x"), now));
    }

    #[test]
    fn what_changed_is_kept_and_seldom_what_was_only_used() {
        let settings = Settings { limit: 3, ..Settings::default() };
        let (mut sessions, start) = (Sessions::new(settings.clone(), true), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let id = sessions.create(user("jo"), start).unwrap();
        let key = key(&id);
        let first = sessions.changes(start, false);
        assert_eq!((first.kept.len(), first.removed.len()), (1, 0));
        assert_eq!(sessions.changes(start, false).kept.len(), 1, "what was not kept is tried again");
        sessions.are_kept(&first);
        sessions.find(&id, at(299)).unwrap();
        assert!(!sessions.is_due(&key, at(299)) && sessions.changes(at(299), false).kept.is_empty());
        assert!(sessions.is_due(&key, at(300)));
        let second = sessions.changes(at(300), false);
        sessions.are_kept(&second);
        assert!(sessions.set(&key, "a", Some("1"), at(310)));
        assert!(!sessions.is_due(&key, at(320)) && sessions.is_due(&key, at(340)));
        let third = sessions.changes(at(310), true);
        sessions.are_kept(&third);
        // Another server takes it over, with its variables, and removes what it cannot read.
        let mut restored = Sessions::new(settings, true);
        let rows = third.kept.iter().map(|(key, text)| (key.to_vec(), text.clone()));
        restored.restore(rows.chain([(vec![1; 32], "x".into()), (vec![2], "x".into())]).collect(), start);
        assert_eq!(restored.get(&key, "a").as_deref(), Some("1"));
        assert_eq!(restored.changes(start, true).removed, [[1; 32]]);
        // What has ended in the meantime does not come back.
        sessions.remove(&key);
        sessions.restore(third.kept.iter().map(|(key, text)| (key.to_vec(), text.clone())).collect(), start);
        assert!(sessions.len() == 0 && sessions.changes(start, true).removed.contains(&key));
    }
}
