//! The users of the configuration, ready to be verified.

use std::collections::HashMap;
use std::sync::Arc;

use super::password::{Hash, Stored};
use crate::config::{Auth, Roles, Token, User};

/// A user.
#[derive(Debug)]
pub struct Account {
    /// The name to log in with.
    pub name: String,
    pub role: String,
    /// `None`: no password fits.
    pub password: Option<Stored>,
    ha1: Vec<Stored>,
    /// A digest of what is stored: a session ends when the password is another.
    pub proof: String,
}

impl Account {
    /// The name of the user.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What digest authentication verifies, if this user has it for that digest.
    pub fn ha1(&self, hash: Hash) -> Option<&str> {
        self.ha1.iter().chain(&self.password).find_map(|stored| match stored {
            Stored::Ha1(found, ha1) if *found == hash => Some(ha1.as_str()),
            _ => None,
        })
    }
}

/// Who may come in, and what each may do. It is replaced as a whole when that changes.
#[derive(Clone, Default)]
pub struct People {
    pub accounts: HashMap<String, Arc<Account>>,
    pub tokens: HashMap<String, Arc<Account>>,
    pub roles: Roles,
}

impl People {
    /// The people of the configuration; what their owner should know goes to the log.
    pub fn new(auth: &Auth) -> Self {
        let (accounts, warnings) = accounts(auth);
        warnings.iter().for_each(|warning| log::warn!("{warning}"));
        Self { accounts, tokens: tokens(auth), roles: auth.roles.clone() }
    }

    /// The user of that name, if what is stored of the password is still the same.
    pub fn find(&self, name: &str, proof: &str) -> Option<&Arc<Account>> {
        self.accounts.get(name).filter(|account| account.proof == proof)
    }
}

/// All users by name, and what their owner should know: what a stored password lacks shuts out its user alone.
pub fn accounts(auth: &Auth) -> (HashMap<String, Arc<Account>>, Vec<String>) {
    let mut warnings = Vec::new();
    let mut account = |user: &User| {
        let mut read = |key: &str, text: &str| {
            let stored = Stored::parse(text);
            let problem = match &stored {
                Err(error) => format!("{error}; it is not used"),
                Ok(stored) if key == "password" && stored.is_weak() => {
                    "is quick to guess; make a new one with `ioto password`".to_owned()
                }
                Ok(_) => return stored.ok(),
            };
            warnings.push(format!("web.auth.users.{}: `{key}` {problem}", user.name));
            stored.ok()
        };
        let password = Some(user.password.expose()).filter(|text| !text.is_empty());
        let password = password.and_then(|text| read("password", text));
        let ha1 = user.ha1.iter().filter_map(|ha1| read("ha1", ha1.expose())).collect();
        let mut proof = user.password.expose().to_owned();
        user.ha1.iter().for_each(|ha1| proof.extend(["\n", ha1.expose()]));
        let proof = Hash::Sha256.of(&proof).chars().take(32).collect();
        let account = Account { name: user.name.clone(), role: user.role.clone(), password, ha1, proof };
        (user.name.clone(), Arc::new(account))
    };
    let accounts = auth.users.iter().map(&mut account).collect();
    (accounts, warnings)
}

/// What the owner of these users should know: passwords that are quick to guess, or of no use.
pub fn warnings(auth: &Auth) -> Vec<String> {
    accounts(auth).1
}

/// The tokens by their SHA-256 in hexadecimal digits, each as a user with its name and role.
pub fn tokens(auth: &Auth) -> HashMap<String, Arc<Account>> {
    let token = |token: &Token| {
        let (name, role) = (token.name.clone(), token.role.clone());
        let account = Account { name, role, password: None, ha1: Vec::new(), proof: String::new() };
        let digits = token.hash.expose().strip_prefix("SHA256:").unwrap_or_default();
        (digits.to_ascii_lowercase(), Arc::new(account))
    };
    auth.tokens.iter().map(token).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Secret;

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
        let (accounts, warnings) = accounts(&Auth { users, ..Auth::default() });
        assert!(warnings.len() == 2 && warnings[0].contains("users.old: `password` is quick to guess"), "{warnings:?}");
        assert!(warnings[1].contains("users.odd: `password` is in no known format"), "{warnings:?}");
        assert!(accounts["old"].password.is_some() && accounts["old"].ha1(Hash::Md5).is_some());
        assert!(accounts["old"].ha1(Hash::Sha256).is_none());
        assert!(accounts["odd"].password.is_none() && accounts["odd"].ha1(Hash::Sha256).is_some());
        assert!(accounts["none"].password.is_none());
    }
}
