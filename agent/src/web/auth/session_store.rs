//! Where sessions outlive the server. The room of the web server knows no database: who has one lends it by a trait.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::sessions::{Key, Session};
use crate::net::{hex, utc_ms};

/// What a [`SessionStore`] answers, later; the error is a text for the log.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Keeps a text for each session, by a key of 32 bytes. The key is a digest of the session's id: who reads the store can use
/// none of them.
///
/// The server reads all once, before the first request of a session. It writes at a login and a logout, before they are
/// answered, and when a session was used for some minutes.
pub trait SessionStore: Send + Sync + 'static {
    /// All that was kept.
    fn load(&self) -> Answer<'_, Vec<(Vec<u8>, String)>>;

    /// Keeps texts, in place of those that are there, and removes others; all or nothing, and safe when it is answered.
    fn write(&self, kept: Vec<(Vec<u8>, String)>, removed: Vec<Vec<u8>>) -> Answer<'_, ()>;
}

/// A session as a text. Its times are those of the clock on the wall.
pub(super) fn write(session: &Session, now: Instant) -> String {
    let wall = |at: Instant| {
        let age = i64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(i64::MAX);
        utc_ms().saturating_sub(age)
    };
    let variables: Map<_, _> = session.variables.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let (user, proof) = session.user.clone().unwrap_or_default();
    let (created, used) = (wall(session.created), wall(session.used));
    json!({"user": user, "proof": proof, "created": created, "used": used, "variables": variables}).to_string()
}

/// The session of a text; nothing when it is malformed, or of a time that this device cannot tell.
pub(super) fn read(key: &[u8], text: &str, now: Instant) -> Option<(Key, Session)> {
    let value: Value = serde_json::from_str(text).ok()?;
    let text = |name: &str| value.get(name)?.as_str().map(str::to_owned);
    let time = |name: &str| {
        // A clock that was set back since then makes a session no older than new.
        let age = utc_ms().saturating_sub(value.get(name)?.as_i64()?).max(0);
        now.checked_sub(Duration::from_millis(age.unsigned_abs()))
    };
    let variables = value.get("variables")?.as_object()?.iter();
    let variables = variables.map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    let user = Some((text("user").filter(|user| !user.is_empty())?, text("proof")?));
    let (created, used) = (time("created")?, time("used")?);
    let mut session = Session::new(user, None, created);
    session.variables = variables.collect::<Option<_>>()?;
    session.used = used;
    session.kept = Some(used);
    session.fits().then_some((key.try_into().ok()?, session))
}

/// A key as the log may show it: a few digits of it.
pub(super) fn show(key: &[u8]) -> String {
    hex::encode(key.get(..4).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_as_it_was_written_and_garbage_is_none() {
        let now = Instant::now();
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        let mut session = Session::new(Some(("jo".into(), "p".into())), None, ago(100));
        session.used = ago(40);
        session.variables = vec![("a".into(), "1".into())];
        let text = write(&session, now);
        let (key, found) = read(&[7; 32], &text, now).unwrap();
        assert_eq!((key, &found.user, &found.variables), ([7; 32], &session.user, &session.variables));
        let age = now.duration_since(found.used).as_millis().abs_diff(40_000);
        assert!(age < 100 && now.duration_since(found.created).as_secs_f64().round() as u64 == 100, "{age}");
        assert!(read(&[7; 31], &text, now).is_none());
        for bad in ["", "x", "{}", "[]", &text.replace("jo", ""), &text.replace("\"1\"", "1"), &text[1..]] {
            assert!(read(&[7; 32], bad, now).is_none(), "{bad}");
        }
        let large = text.replace("\"1\"", &format!("\"{}\"", "x".repeat(5000)));
        assert!(read(&[7; 32], &large, now).is_none());
    }
}
