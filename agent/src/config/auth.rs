//! `web.auth`: users, their roles and how they prove who they are; with the limits and times of sessions and nonces.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::node::{Node, Value, quote};
use super::roles::{PUBLIC, Roles};
use super::section::{Section, text};
use super::{Secret, units};

/// How a client proves who its user is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthType {
    /// Name and password with each request (RFC 7617).
    #[default]
    Basic,
    /// A digest of name, password and nonce (RFC 7616).
    Digest,
    /// By a session alone.
    Session,
    /// By a client certificate alone.
    Certificate,
}

/// The digest of digest authentication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthAlgorithm {
    /// What browsers of today know.
    #[default]
    Sha256,
    /// For clients of old.
    Md5,
}

/// A member of `web.auth.users`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The key.
    pub name: String,
    /// `password` as it is stored, `'$argon2id$…'`; empty: this user cannot log in by password.
    pub password: Secret,
    /// `ha1`, for digest authentication: `'SHA256:…'`, `'MD5:…'` or both in a list.
    pub ha1: Vec<Secret>,
    /// `role`
    pub role: String,
}

/// A member of `web.auth.tokens`: a program's way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The key.
    pub name: String,
    /// `token`: the SHA-256 of the token, as `'SHA256:…'`. The token itself is nowhere.
    pub hash: Secret,
    /// `role`
    pub role: String,
}

/// A member of `web.auth.certificates`: whose a client certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateUser {
    /// The key: a name in the certificate, or `SHA256:` and the hexadecimal digits of its fingerprint, small letters.
    pub name: String,
    /// `user`: one of `web.auth.users`; empty where there is a role.
    pub user: String,
    /// `role`: of somebody who is no user, and is called by the key.
    pub role: String,
}

/// Where sessions are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionStorage {
    /// In the database when it runs, else in memory.
    #[default]
    Auto,
    /// In memory: a restart ends them.
    Memory,
    /// In the database: they outlive a restart.
    Database,
}

/// `web.sessions`, with `web.limits.sessions` and `web.timeouts.session`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// `cookie`: its name.
    pub cookie: String,
    /// `sameSite`: `Lax`, `Strict` or `None`.
    pub same_site: &'static str,
    /// `httpOnly`: scripts cannot read the cookie.
    pub http_only: bool,
    /// `store`: where they are kept; those of visitors always in memory.
    pub storage: SessionStorage,
    /// `web.limits.sessions`: in all, of users, and as many of visitors; a new one takes the place of the one that was unused longest.
    pub limit: usize,
    /// `web.timeouts.session`: without a request.
    pub idle: Duration,
    /// `web.timeouts.login`: in all; then the user logs in again.
    pub absolute: Duration,
}

/// `web.auth`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// `users`
    pub users: Vec<User>,
    /// `tokens`
    pub tokens: Vec<Token>,
    /// `certificates`: whose they are. Without any, a certificate is of the user whose name it bears.
    pub certificates: Vec<CertificateUser>,
    /// `roles`
    pub roles: Roles,
    /// `realm`: what users are told they log in to; a part of stored digests.
    pub realm: String,
    /// `authType`: of routes that do not say their own.
    pub auth_type: AuthType,
    /// `algorithm`: of routes that do not say their own.
    pub algorithm: AuthAlgorithm,
    /// `secret`: signs the nonces of digest authentication and the tokens of forms. Empty: random bytes, anew at each start.
    pub secret: Secret,
    /// `requireTlsForBasic`: passwords are taken over TLS only, by Basic and by a login.
    pub require_tls: bool,
    /// `login`: the path that a name and password are posted to; empty: no sessions.
    pub login: String,
    /// `logout`: the path that ends a session.
    pub logout: String,
    /// `web.sessions`
    pub sessions: Sessions,
    /// `web.limits.digest`: nonces in use.
    pub nonces: usize,
    /// `web.timeouts.digest`: of a nonce.
    pub nonce_time: Duration,
}

const TYPES: [(&str, AuthType); 4] = [
    ("basic", AuthType::Basic),
    ("digest", AuthType::Digest),
    ("session", AuthType::Session),
    ("certificate", AuthType::Certificate),
];
const ALGORITHMS: [(&str, AuthAlgorithm); 2] = [("SHA-256", AuthAlgorithm::Sha256), ("MD5", AuthAlgorithm::Md5)];
const STORAGES: [(&str, SessionStorage); 3] =
    [("auto", SessionStorage::Auto), ("memory", SessionStorage::Memory), ("database", SessionStorage::Database)];
const SAME_SITE: [(&str, &str); 3] = [("Lax", "Lax"), ("Strict", "Strict"), ("None", "None")];
/// Bytes of `secret` at least.
const SECRET: usize = 16;
/// Bytes of a name or realm.
const LONGEST: usize = 128;

impl Default for Sessions {
    fn default() -> Self {
        Self {
            cookie: "-web-session-".into(),
            same_site: "Lax",
            http_only: true,
            storage: SessionStorage::Auto,
            limit: 100,
            idle: Duration::from_secs(30 * 60),
            absolute: Duration::from_secs(12 * 60 * 60),
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            users: Vec::new(),
            tokens: Vec::new(),
            certificates: Vec::new(),
            roles: Roles::default(),
            realm: "web".into(),
            auth_type: AuthType::default(),
            algorithm: AuthAlgorithm::default(),
            secret: Secret::default(),
            require_tls: true,
            login: String::new(),
            logout: String::new(),
            sessions: Sessions::default(),
            nonces: 1000,
            nonce_time: Duration::from_secs(60),
        }
    }
}

const NO_USERS: &str = "this build is without the Cargo feature `users`";

/// In a build without users: what guards something is refused, what only bounds them is of no effect.
fn refuse_all(web: &Section) {
    for key in ["auth", "sessions"].into_iter().filter(|key| web.has(key)) {
        web.value(key, (), |()| Json::Null, |_| Err(NO_USERS.to_owned()));
    }
    let (limits, timeouts) = (web.section("limits"), web.section("timeouts"));
    for (section, key) in [
        (&limits, "sessions"),
        (&limits, "digest"),
        (&timeouts, "session"),
        (&timeouts, "login"),
        (&timeouts, "digest"),
    ] {
        if section.has(key) {
            section.value(key, (), |()| Json::Null, |_| Ok(()));
            section.no_effect(key);
        }
    }
}

impl Auth {
    /// Reads `web.auth` and what belongs to it in the sections beside it.
    ///
    /// The realm is the name of the server where nothing else is said.
    pub(super) fn read(web: &Section, realm_default: Option<&str>) -> Self {
        let mut d = Self::default();
        if cfg!(not(feature = "users")) {
            refuse_all(web);
            return d;
        }
        let s = web.section("auth");
        if let Some(name) = realm_default.filter(|name| name.len() <= LONGEST) {
            d.realm = name.to_owned();
        }
        let roles = s.value("roles", Roles::default(), show_roles, roles);
        let place = s.section("users");
        let users = s.map("users", |user: &User| json!({"password": "***", "role": user.role}), user);
        for (name, user) in users.iter().filter(|(_, user)| !roles.has(&user.role)) {
            place.problem(name, format!("expected a role of web.auth.roles, found {}", quote(&user.role)));
        }
        let place = s.section("tokens");
        let tokens = s.map("tokens", |token: &Token| json!({"token": "***", "role": token.role}), token);
        for (name, token) in tokens.iter().filter(|(_, token)| !roles.has(&token.role)) {
            place.problem(name, format!("expected a role of web.auth.roles, found {}", quote(&token.role)));
        }
        let place = s.section("certificates");
        let certificates = s.map("certificates", show_certificate, certificate);
        for (name, one) in &certificates {
            if !one.user.is_empty() && users.iter().all(|(user, _)| *user != one.user) {
                place.problem(name, format!("expected a user of web.auth.users, found {}", quote(&one.user)));
            }
            if one.user.is_empty() && !roles.has(&one.role) {
                place.problem(name, format!("expected a role of web.auth.roles, found {}", quote(&one.role)));
            }
        }
        if !s.flag("track", true) {
            // The count of a nonce is always tracked: a response that was seen on its way is worth nothing.
            s.no_effect("track");
        }
        let secret = s.secret("secret");
        if !secret.is_empty() && secret.expose().len() < SECRET {
            s.problem("secret", format!("is quick to guess, expected at least {SECRET} random characters, or none"));
        }
        Self {
            secret,
            certificates: certificates.into_iter().map(|(_, one)| one).collect(),
            tokens: tokens.into_iter().map(|(_, token)| token).collect(),
            users: users.into_iter().map(|(_, user)| user).collect(),
            roles,
            realm: s.value("realm", d.realm, |realm| Json::from(realm.as_str()), realm),
            auth_type: s.choice("authType", &TYPES, d.auth_type),
            algorithm: s.choice("algorithm", &ALGORITHMS, d.algorithm),
            require_tls: s.flag("requireTlsForBasic", d.require_tls),
            login: s.value("login", d.login, |path| Json::from(path.as_str()), path),
            logout: s.value("logout", d.logout, |path| Json::from(path.as_str()), path),
            sessions: Sessions::read(web),
            nonces: web.section("limits").count("digest", 10..=100_000, d.nonces),
            nonce_time: web.section("timeouts").duration(
                "digest",
                Duration::from_secs(1)..=Duration::from_secs(3600),
                d.nonce_time,
            ),
        }
    }

    /// What a route says of its own: role, type and algorithm.
    pub(super) fn read_route(&self, s: &Section) -> (String, AuthType, AuthAlgorithm) {
        let role = s.text("role", PUBLIC);
        let auth_type = s.choice("authType", &TYPES, self.auth_type);
        let algorithm = s.choice("algorithm", &ALGORITHMS, self.algorithm);
        if role == PUBLIC {
            return (String::new(), auth_type, algorithm);
        }
        if cfg!(not(feature = "users")) {
            s.problem("role", format!("{NO_USERS}, so nobody could enter"));
        } else if !self.roles.knows(&role) {
            s.problem("role", format!("expected a role or an ability of web.auth.roles, found {}", quote(&role)));
        }
        if auth_type == AuthType::Session && self.login.is_empty() {
            s.problem("role", "needs web.auth.login, the path of the login that begins a session");
        }
        if auth_type == AuthType::Digest {
            let (able, lacking): (Vec<_>, Vec<_>) = self
                .users
                .iter()
                .filter(|user| self.roles.can(&user.role, &role))
                .partition(|user| user.has_ha1(algorithm));
            if !lacking.is_empty() {
                let text = format!(
                    "digest authentication cannot verify {}: expected ha1: '{}:…' there, as `ioto password USER \
                     --realm '{}'` makes it",
                    lacking.iter().map(|user| user.name.as_str()).collect::<Vec<_>>().join(", "),
                    algorithm.prefix(),
                    self.realm
                );
                // Where some can enter, the others are shut out alone.
                match able.is_empty() {
                    true => s.problem("role", text),
                    false => s.note("role", &text),
                }
            }
        }
        (role, auth_type, algorithm)
    }
}

impl AuthAlgorithm {
    fn prefix(self) -> &'static str {
        match self {
            AuthAlgorithm::Sha256 => "SHA256",
            AuthAlgorithm::Md5 => "MD5",
        }
    }
}

impl User {
    fn has_ha1(&self, algorithm: AuthAlgorithm) -> bool {
        let is_one = |secret: &Secret| {
            secret.expose().strip_prefix(algorithm.prefix()).is_some_and(|rest| rest.starts_with(':'))
        };
        is_one(&self.password) || self.ha1.iter().any(is_one)
    }
}

impl Sessions {
    fn read(web: &Section) -> Self {
        let (d, s, timeouts) = (Self::default(), web.section("sessions"), web.section("timeouts"));
        let range = || Duration::from_secs(1)..=units::FOREVER;
        Self {
            cookie: s.value("cookie", d.cookie, |name| Json::from(name.as_str()), cookie_name),
            same_site: s.choice("sameSite", &SAME_SITE, d.same_site),
            http_only: s.flag("httpOnly", d.http_only),
            storage: s.choice("store", &STORAGES, d.storage),
            limit: web.section("limits").count("sessions", 1..=100_000, d.limit),
            idle: timeouts.duration("session", range(), d.idle),
            absolute: timeouts.duration("login", range(), d.absolute),
        }
    }
}

fn user(name: &str, node: &Node) -> Result<User, String> {
    if name.is_empty() || name.len() > LONGEST || name.contains(':') || name.chars().any(char::is_control) {
        return Err(format!("is no name for a user, expected 1 to {LONGEST} bytes without `:` and control characters"));
    }
    let Value::Object(members) = &node.value else {
        return Err(format!("expected {{password: '…', role: '…'}}, found {}", node.describe()));
    };
    let mut user =
        User { name: name.to_owned(), password: Secret::default(), ha1: Vec::new(), role: PUBLIC.to_owned() };
    // A value may be a secret at the wrong place: it is never quoted.
    let secret = |key: &str, node: &Node| match &node.value {
        Value::Text(text) => Ok(Secret::new(text.as_str())),
        _ => Err(format!("expected a text for `{key}`")),
    };
    for member in members {
        match (member.key.as_str(), &member.node.value) {
            (_, Value::Null) => {}
            ("password", _) => user.password = secret("password", &member.node)?,
            ("ha1", Value::List(items)) => {
                user.ha1 = items.iter().map(|item| secret("ha1", item)).collect::<Result<_, _>>()?;
            }
            ("ha1", _) => user.ha1 = vec![secret("ha1", &member.node)?],
            ("role", _) => user.role = text(&member.node)?,
            (key, _) if key.starts_with('_') => {}
            (key, _) => return Err(format!("unknown key {}, expected password, ha1 or role", quote(key))),
        }
    }
    Ok(user)
}

fn token(name: &str, node: &Node) -> Result<Token, String> {
    let Value::Object(members) = &node.value else {
        return Err(format!("expected {{token: 'SHA256:…', role: '…'}}, found {}", node.describe()));
    };
    let mut token = Token { name: name.to_owned(), hash: Secret::default(), role: PUBLIC.to_owned() };
    for member in members {
        match (member.key.as_str(), &member.node.value) {
            ("token", Value::Text(text)) => token.hash = Secret::new(text.as_str()),
            ("role", _) => token.role = text(&member.node)?,
            (key, _) if key.starts_with('_') => {}
            (key, _) => return Err(format!("expected texts as `token` and `role`, found {}", quote(key))),
        }
    }
    let digits = token.hash.expose().strip_prefix("SHA256:").unwrap_or_default();
    match digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(token),
        // A token at the wrong place is never quoted.
        false => Err("expected token: 'SHA256:…' as `ioto password token` makes it".into()),
    }
}

/// `{user}` or `{role}` for the name in a certificate, or for its fingerprint in any of the usual forms.
fn certificate(key: &str, node: &Node) -> Result<CertificateUser, String> {
    let expected = || format!("expected {{user: '…'}} or {{role: '…'}}, found {}", node.describe());
    let digits = key.split_once(':').filter(|(hash, _)| hash.eq_ignore_ascii_case("SHA256")).map(|(_, digits)| digits);
    let name = match digits.map(|digits| digits.replace(':', "").to_ascii_lowercase()) {
        Some(digits) if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
            format!("SHA256:{digits}")
        }
        Some(_) => return Err("expected SHA256: and the 64 hexadecimal digits of a fingerprint".into()),
        None if key.is_empty() || key.chars().any(char::is_control) => {
            return Err("expected a name in the certificate, or 'SHA256:…'".into());
        }
        None => key.to_owned(),
    };
    let mut one = CertificateUser { name, user: String::new(), role: String::new() };
    let Value::Object(members) = &node.value else { return Err(expected()) };
    for member in members {
        match (member.key.as_str(), &member.node.value) {
            (_, Value::Null) => {}
            ("user", _) => one.user = text(&member.node)?,
            ("role", _) => one.role = text(&member.node)?,
            (key, _) if key.starts_with('_') => {}
            (key, _) => return Err(format!("unknown key {}, expected user or role", quote(key))),
        }
    }
    if one.user.is_empty() == one.role.is_empty() { Err(expected()) } else { Ok(one) }
}

fn show_certificate(one: &CertificateUser) -> Json {
    if one.user.is_empty() { json!({"role": one.role}) } else { json!({"user": one.user}) }
}

fn show_roles(roles: &Roles) -> Json {
    roles.iter().map(|(role, held)| (role.to_owned(), held.collect::<Json>())).collect()
}

/// `{role: [abilities and roles]}`, or a list of roles of which each holds those before it.
fn roles(node: &Node) -> Result<Roles, String> {
    let direct: Vec<(String, Vec<String>)> = match &node.value {
        Value::Object(members) => members
            .iter()
            .map(|member| match &member.node.value {
                Value::List(held) => Ok((member.key.clone(), held.iter().map(text).collect::<Result<_, _>>()?)),
                _ => Err(format!("expected a list for {}, found {}", quote(&member.key), member.node.describe())),
            })
            .collect::<Result<_, String>>()?,
        Value::List(items) => {
            let names = items.iter().map(text).collect::<Result<Vec<_>, _>>()?;
            let before = |index: usize| names.get(..index).and_then(<[_]>::last).cloned().into_iter().collect();
            names.iter().enumerate().map(|(index, name)| (name.clone(), before(index))).collect()
        }
        _ => return Err(format!("expected an object as {{admin: ['user']}}, found {}", node.describe())),
    };
    Roles::new(&direct)
}

fn realm(node: &Node) -> Result<String, String> {
    let realm = text(node)?;
    let is_good = !realm.is_empty() && realm.len() <= LONGEST && realm.bytes().all(|b| matches!(b, b' '..=b'~'));
    match is_good && !realm.contains(['"', '\\']) {
        true => Ok(realm),
        false => {
            Err(format!("expected 1 to {LONGEST} printable ASCII characters without quotes, found {}", quote(&realm)))
        }
    }
}

fn path(node: &Node) -> Result<String, String> {
    let path = text(node)?;
    match path.is_empty() || path.starts_with('/') {
        true => Ok(path),
        false => Err(format!("expected a path as '/login', found {}", quote(&path))),
    }
}

fn cookie_name(node: &Node) -> Result<String, String> {
    let name = text(node)?;
    match super::web::is_token(&name) && name.len() <= LONGEST {
        true => Ok(name),
        false => Err(format!("expected the name of a cookie, found {}", quote(&name))),
    }
}
