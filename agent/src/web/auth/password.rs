//! Passwords as they are stored, and their verification.
//!
//! New ones are hashed with argon2id (RFC 9106, with the parameters that OWASP recommends) and written as PHC strings.
//! `SHA256:hex` and `MD5:hex`, the digests of `user:realm:password` in files of another agent, are accepted: they are quick
//! to guess, so that their owner is warned.

use std::fmt;

use argon2::password_hash::{PasswordHash, PasswordHasher, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use md5::{Digest, Md5};
use ring::digest::{SHA256, digest};

use super::compare::{random, same};
use crate::net::hex;

/// Kibibytes of memory that one hash takes.
const MEMORY: u32 = 19 * 1024;
/// Passes over that memory.
const PASSES: u32 = 2;
/// What a stored hash may ask for at most, in kibibytes, passes and lanes: more would stop a small device.
const MOST: (u32, u32, u32) = (256 * 1024, 16, 8);
/// Bytes of a password, of a user's name and of a realm at most.
pub const LONGEST: usize = 256;
/// Kibibytes that are asked for at least, of which only those are touched that the hash takes. Smaller pieces glibc keeps when
/// they are given back, for each thread that ever had one: in its eyes 32 MiB are not much. Larger ones go to the kernel.
const UNKEPT: usize = 33 * 1024;
/// A hash with the parameters of new ones that belongs to no password: unknown users are given it, to take as long as others.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGtub3dzIGl0$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// The two digests that digest authentication knows (RFC 7616 §3.3); SHA-512/256 is as rare in clients as it is in stored
/// passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// For clients of old only.
    Md5,
    /// What everyone should use.
    Sha256,
}

/// A stored password that can be verified.
#[derive(Clone, PartialEq, Eq)]
pub enum Stored {
    /// A PHC string of argon2.
    Argon2(String),
    /// A digest of `user:realm:password` in hexadecimal digits, lower case.
    Ha1(Hash, String),
}

/// Why a stored password is of no use.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// It is none of the formats that are known.
    Format,
    /// Its parameters would take more memory or time than a device should give.
    Costly,
    /// The password is empty or longer than [`LONGEST`] bytes.
    Length,
    /// The system gives no random bytes.
    Random,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Format => f.write_str(
                "is in no known format, expected '$argon2id$…' as `ioto password` makes it, 'SHA256:…' or 'MD5:…'",
            ),
            Error::Costly => {
                f.write_str("takes too much memory or time to verify; make a new one with `ioto password`")
            }
            Error::Length => write!(f, "must have 1 to {LONGEST} bytes"),
            Error::Random => f.write_str("cannot be hashed: the system gives no random bytes"),
        }
    }
}

impl std::error::Error for Error {}

/// Hidden: a hash can be guessed at, and a digest is as good as the password.
impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Hash {
    /// Its name in a header (RFC 7616 §3.3) and in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Hash::Md5 => "MD5",
            Hash::Sha256 => "SHA-256",
        }
    }

    /// The digest of a text in hexadecimal digits, lower case.
    pub fn of(self, text: &str) -> String {
        match self {
            Hash::Md5 => hex::encode(&Md5::digest(text)),
            Hash::Sha256 => hex::encode(digest(&SHA256, text.as_bytes()).as_ref()),
        }
    }

    /// What digest authentication keeps in place of the password (RFC 7616 §3.4.2).
    pub fn ha1(self, user: &str, realm: &str, password: &str) -> String {
        self.of(&format!("{user}:{realm}:{password}"))
    }

    /// How such a value is stored.
    pub fn stored(self, ha1: &str) -> String {
        let prefix = if self == Hash::Md5 { "MD5" } else { "SHA256" };
        format!("{prefix}:{ha1}")
    }
}

impl Stored {
    /// Reads a stored password.
    ///
    /// # Errors
    /// [`Error::Format`] and [`Error::Costly`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        for (prefix, hash, digits) in [("SHA256:", Hash::Sha256, 64), ("MD5:", Hash::Md5, 32)] {
            if let Some(ha1) = text.strip_prefix(prefix) {
                let is_ha1 = ha1.len() == digits && ha1.bytes().all(|byte| byte.is_ascii_hexdigit());
                return is_ha1.then(|| Stored::Ha1(hash, ha1.to_ascii_lowercase())).ok_or(Error::Format);
            }
        }
        let parsed = PasswordHash::new(text).map_err(|_| Error::Format)?;
        Algorithm::try_from(parsed.algorithm).map_err(|_| Error::Format)?;
        let params = Params::try_from(&parsed).map_err(|_| Error::Format)?;
        if parsed.hash.is_none() || parsed.salt.is_none() {
            return Err(Error::Format);
        }
        match params.m_cost() > MOST.0 || params.t_cost() > MOST.1 || params.p_cost() > MOST.2 {
            true => Err(Error::Costly),
            false => Ok(Stored::Argon2(text.to_owned())),
        }
    }

    /// Whether it is quick to guess when the file is stolen.
    pub fn is_weak(&self) -> bool {
        matches!(self, Stored::Ha1(..))
    }
}

/// A PHC string for a new password. Takes 19 MiB and up to a second of this thread.
///
/// # Errors
/// [`Error::Length`] and [`Error::Random`].
pub fn hash(password: &str) -> Result<String, Error> {
    if password.is_empty() || password.len() > LONGEST {
        return Err(Error::Length);
    }
    let salt = SaltString::encode_b64(&random::<16>().ok_or(Error::Random)?).map_err(|_| Error::Random)?;
    let params = Params::new(MEMORY, PASSES, 1, None).map_err(|_| Error::Costly)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password(password.as_bytes(), &salt).map(|hash| hash.to_string()).map_err(|_| Error::Random)
}

/// Whether `password` is that of `user`; `None` where there is no such user, or its stored password is of no use. It always
/// takes the time of one argon2 hash, so that nobody can tell who exists. Blocks for that time.
pub fn verify(user: &str, realm: &str, password: &str, stored: Option<&Stored>) -> bool {
    let (phc, ha1) = match stored {
        Some(Stored::Argon2(phc)) => (phc.as_str(), None),
        Some(Stored::Ha1(hash, ha1)) => (NOBODY, Some((hash, ha1))),
        None => (NOBODY, None),
    };
    let is_hashed = is_hash_of(password, phc).unwrap_or(false);
    match ha1 {
        Some((hash, ha1)) => same(hash.ha1(user, realm, password).as_bytes(), ha1.as_bytes()),
        None => is_hashed && stored.is_some(),
    }
}

/// Whether that is the hash of the password; `None`: it cannot be told.
fn is_hash_of(password: &str, phc: &str) -> Option<bool> {
    let phc = PasswordHash::new(phc).ok()?;
    let algorithm = Algorithm::try_from(phc.algorithm).ok()?;
    let version = phc.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
    let params = Params::try_from(&phc).ok()?;
    let mut decoded = [0; 64];
    let salt = phc.salt?.decode_b64(&mut decoded).ok()?;
    let expected = phc.hash?;
    let mut found = vec![0; expected.len()];
    let Some(memory) = memory(params.block_count()) else {
        log::error!("a password cannot be verified: there is too little memory");
        return None;
    };
    let argon2 = Argon2::new(algorithm, version, params);
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut found, memory).ok()?;
    Some(same(&found, expected.as_bytes()))
}

/// Memory that the process has only until it is dropped.
fn memory(blocks: usize) -> Option<Vec<Block>> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(blocks.max(UNKEPT)).ok()?;
    memory.resize(blocks, Block::default());
    Some(memory)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_verified_by_its_hash_and_no_other_is() {
        let phc = hash("open sesame").unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert_ne!(hash("open sesame").unwrap(), phc);
        let stored = Stored::parse(&phc).unwrap();
        assert!(verify("joe", "web", "open sesame", Some(&stored)) && !stored.is_weak());
        assert!(!verify("joe", "web", "open Sesame", Some(&stored)));
        assert!(!verify("joe", "web", "", Some(&stored)));
        assert!(!verify("joe", "web", "open sesame", None));
        assert_eq!(hash(""), Err(Error::Length));
        assert_eq!(hash(&"x".repeat(257)), Err(Error::Length));
        assert_eq!(format!("{stored:?}"), "***");
    }

    #[test]
    fn a_hash_of_another_program_is_verified() {
        // echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32, a vector of the reference implementation.
        let phc = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let stored = Stored::parse(phc).unwrap();
        assert!(verify("joe", "web", "password", Some(&stored)));
        assert!(!verify("joe", "web", "Password", Some(&stored)));
    }

    #[test]
    fn entries_of_old_files_are_verified_with_user_and_realm() {
        // RFC 7616 §3.9.1.
        let (user, realm, password) = ("Mufasa", "http-auth@example.org", "Circle of Life");
        let rows = [
            ("MD5:3d78807defe7de2157e2b0b6573a855f", Hash::Md5),
            ("SHA256:7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232", Hash::Sha256),
        ];
        for (text, hash) in rows {
            let stored = Stored::parse(text).unwrap();
            assert_eq!(hash.stored(&hash.ha1(user, realm, password)), text);
            assert!(verify(user, realm, password, Some(&stored)) && stored.is_weak());
            assert!(!verify("Simba", realm, password, Some(&stored)));
            assert!(!verify(user, "web", password, Some(&stored)));
        }
    }

    #[test]
    fn what_is_no_stored_password_is_refused() {
        for text in [
            "",
            "secret",
            "MD5:",
            "MD5:3d78807defe7de2157e2b0b6573a855",
            "SHA256:zz87c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232",
            "SHA512:00",
            "BF1:128:salt:hash",
            "$2b$10$abcdefghijklmnopqrstuv",
            "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGtub3dzIGl0",
            "$argon2id$v=19$m=19456,t=2,p=1",
            "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
        ] {
            assert_eq!(Stored::parse(text), Err(Error::Format), "{text}");
        }
        let costly = NOBODY.replace("m=19456", "m=4000000");
        assert_eq!(Stored::parse(&costly), Err(Error::Costly));
        Stored::parse(NOBODY).unwrap();
    }
}
