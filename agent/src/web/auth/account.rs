//! The users of the configuration, ready to be verified.

use std::collections::HashMap;
use std::sync::Arc;

use super::password::{Hash, Stored};
use crate::config::Auth;

/// A user.
#[derive(Debug)]
pub struct Account {
    /// The name to log in with.
    pub name: String,
    pub role: String,
    /// `None`: no password fits.
    pub password: Option<Stored>,
    ha1: Vec<Stored>,
}

impl Account {
    /// What digest authentication verifies, if this user has it for that digest.
    pub fn ha1(&self, hash: Hash) -> Option<&str> {
        self.ha1.iter().chain(&self.password).find_map(|stored| match stored {
            Stored::Ha1(found, ha1) if *found == hash => Some(ha1.as_str()),
            _ => None,
        })
    }
}

/// All users by name. What a stored password lacks goes to the log, and shuts out its user alone.
pub fn accounts(auth: &Auth) -> HashMap<String, Arc<Account>> {
    let account = |user: &crate::config::User| {
        let read = |key: &str, text: &str| match Stored::parse(text) {
            Ok(stored) => Some(stored),
            Err(error) => {
                log::warn!("web.auth.users: {}: `{key}` {error}; it is not used", user.name);
                None
            }
        };
        let password = match user.password.is_empty() {
            true => None,
            false => read("password", user.password.expose()),
        };
        if password.as_ref().is_some_and(Stored::is_weak) {
            log::warn!(
                "web.auth.users: {}: the password is quick to guess; make a new one with `ioto password`",
                user.name
            );
        }
        let ha1 = user.ha1.iter().filter_map(|ha1| read("ha1", ha1.expose())).collect();
        let account = Account { name: user.name.clone(), role: user.role.clone(), password, ha1 };
        (user.name.clone(), Arc::new(account))
    };
    auth.users.iter().map(account).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Secret, User};

    #[test]
    fn an_unknown_format_shuts_out_its_user_alone() {
        let md5 = format!("MD5:{}", "0".repeat(32));
        let sha = format!("SHA256:{}", "1".repeat(64));
        let user = |name: &str, password: &str, ha1: &[&str]| User {
            name: name.into(),
            password: Secret::new(password),
            ha1: ha1.iter().map(|ha1| Secret::new(*ha1)).collect(),
            role: "user".into(),
        };
        let users = vec![user("old", &md5, &[]), user("odd", "BF1:1:2:3", &[&sha]), user("none", "", &[])];
        let accounts = accounts(&Auth { users, ..Auth::default() });
        assert!(accounts["old"].password.is_some() && accounts["old"].ha1(Hash::Md5).is_some());
        assert!(accounts["old"].ha1(Hash::Sha256).is_none());
        assert!(accounts["odd"].password.is_none() && accounts["odd"].ha1(Hash::Sha256).is_some());
        assert!(accounts["none"].password.is_none());
    }
}
