//! Fields that are not plain on the disk: `encrypt: true`.
//!
//! A value is stored as `ioto-sealed:1:KEY:BASE64`: KEY names the key, and the base64 text is a random nonce of 12 bytes and what
//! AES-256-GCM makes of the value's JSON, bound to model, key and field, so that values cannot be moved. A key is good for four
//! thousand million values. SQLite only ever sees values in this form, so that log, change log and backups have no other.
//!
//! Those who may read an item get its values plain: so do exports, and the cloud, which has its own encryption. Copies from the
//! time before a field was encrypted (`PATH.corrupt-N`, `PATH.before`, backups) have it plain; remove them.
//!
//! The key file has a key a line, 64 hexadecimal digits: the first seals, the others still open; or 32 bytes, which are one
//! key.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;

use super::error::Error;
use super::query::Item;
use super::schema::Model;
use crate::net::base64;
use crate::sqlite::{beside, make_directory, make_file};

const MARK: &str = "ioto-sealed:1:";
/// Bytes of a key.
const KEY: usize = 32;
/// Keys of a file, at most.
const KEYS: usize = 8;

/// What is done with a value that cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unopened {
    /// It is an error, which names the field.
    Refused,
    /// It is left out.
    LeftOut,
}

/// The keys, as far as they were read.
pub(super) struct Vault {
    path: PathBuf,
    /// Whether the file is made when there is none; otherwise somebody else puts it there.
    is_ours: bool,
    keys: Mutex<Vec<Key>>,
    told: AtomicBool,
    /// The name of the key that the database was last sealed with.
    used: Mutex<Option<String>>,
}

struct Key {
    name: String,
    hex: String,
    key: LessSafeKey,
}

impl Vault {
    pub(super) fn new(path: &Path, is_ours: bool) -> Self {
        Self {
            path: path.into(),
            is_ours,
            keys: Mutex::default(),
            told: AtomicBool::new(false),
            used: Mutex::default(),
        }
    }

    /// The name of the first key. Makes one at the first use, `is_first`, where that is not left to others.
    pub(super) fn prepare(&self, is_first: bool) -> Result<Option<String>, Error> {
        let mut keys = self.lock();
        if let Err(reason) = self.read(&mut keys) {
            if !is_first || !self.is_ours || fs::exists(&self.path).unwrap_or(true) {
                log::error!("fields of the database that are sealed cannot be opened: {reason}");
                return Ok(None);
            }
            *keys = vec![Key::make()?];
            self.write(&keys)?;
            log::info!("made the key {} for fields that are sealed", self.path.display());
        }
        Ok(keys.first().map(|key| key.name.clone()))
    }

    /// Notes which key the database was last sealed with.
    pub(super) fn expect(&self, name: Option<&str>) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = name.map(str::to_owned);
    }

    /// Why what is sealed cannot be opened, if it cannot.
    pub(super) fn trouble(&self) -> Option<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut keys = self.lock();
        if let Err(reason) = self.read(&mut keys) {
            return Some(reason);
        }
        let used = used.filter(|used| keys.iter().all(|key| key.name != *used))?;
        Some(format!("the database is sealed with the key {used}, which is not in {}", self.path.display()))
    }

    /// Adds a new key in front of the others, where the file is ours.
    pub(super) fn renew(&self) -> Result<(), Error> {
        let mut keys = self.lock();
        if let Err(reason) = self.read(&mut keys) {
            log::warn!("the keys from before are not known: {reason}");
        }
        if self.is_ours {
            keys.insert(0, Key::make()?);
            keys.truncate(KEYS);
            self.write(&keys)?;
        } else {
            keys.clear();
            self.read(&mut keys).map_err(|reason| self.fail(reason))?;
        }
        Ok(())
    }

    /// Forgets all keys but the first: nothing is sealed with them any more.
    pub(super) fn forget(&self) -> Result<(), Error> {
        let mut keys = self.lock();
        keys.truncate(1);
        match self.is_ours {
            true => self.write(&keys),
            false => Ok(()),
        }
    }

    /// The item with its sealed fields sealed.
    pub(super) fn seal(&self, model: &Model, key: &str, item: &mut Item) -> Result<(), Error> {
        for field in model.fields().iter().filter(|field| field.encrypted()) {
            if let Some(value) = item.get_mut(field.name()) {
                *value = self.seal_value(model, key, field.name(), value)?;
            }
        }
        Ok(())
    }

    /// The item with its sealed fields opened: of all, or of those that are named.
    pub(super) fn open(
        &self,
        model: &Model,
        key: &str,
        item: &mut Item,
        (fields, unopened): (&[String], Unopened),
    ) -> Result<(), Error> {
        let is_asked = |name: &str| fields.is_empty() || fields.iter().any(|field| field == name);
        for field in model.fields().iter().filter(|field| field.encrypted() && is_asked(field.name())) {
            let Some(value) = item.get_mut(field.name()).filter(|value| is_sealed(value)) else { continue };
            match self.open_value(model, key, field.name(), value) {
                Ok(open) => *value = open,
                Err(error) if unopened == Unopened::Refused => return Err(error),
                Err(error) => {
                    if !self.told.swap(true, Ordering::Relaxed) {
                        log::error!("{error}");
                    }
                    item.shift_remove(field.name());
                }
            }
        }
        Ok(())
    }

    pub(super) fn seal_value(&self, model: &Model, key: &str, field: &str, value: &Value) -> Result<Value, Error> {
        let mut keys = self.lock();
        let fail = |reason: String| sealed(model, key, field, reason);
        self.read(&mut keys).map_err(fail)?;
        let Some(first) = keys.first() else { return Err(fail("there is no key".into())) };
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| fail("there are no random numbers".into()))?;
        let mut bytes = value.to_string().into_bytes();
        let place = Aad::from(place(model, key, field));
        let done = first.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), place, &mut bytes);
        done.map_err(|_| fail("the value is too long".into()))?;
        let bytes = [&nonce[..], &bytes].concat();
        Ok(format!("{MARK}{}:{}", first.name, base64::encode(&bytes)).into())
    }

    pub(super) fn open_value(&self, model: &Model, key: &str, field: &str, value: &Value) -> Result<Value, Error> {
        let fail = |reason: String| sealed(model, key, field, reason);
        let text = value.as_str().and_then(|text| text.strip_prefix(MARK)).and_then(|text| text.split_once(':'));
        let Some((name, text)) = text else { return Err(fail("it is not sealed".into())) };
        let mut keys = self.lock();
        self.read(&mut keys).map_err(fail)?;
        let Some(key_of_it) = keys.iter().find(|key| key.name == name) else {
            let known: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
            let known = known.join(", ");
            return Err(fail(format!("it needs the key {name}, and {} has {known}", self.path.display())));
        };
        let damaged = || fail("it was changed, or is of another item".into());
        let mut bytes = base64::decode(text).filter(|bytes| bytes.len() >= NONCE_LEN).ok_or_else(damaged)?;
        let mut sealed = bytes.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&bytes).map_err(|_| damaged())?;
        let open = key_of_it.key.open_in_place(nonce, Aad::from(place(model, key, field)), &mut sealed);
        serde_json::from_slice(open.map_err(|_| damaged())?).map_err(|_| damaged())
    }

    /// Whether a value is sealed with the first key.
    pub(super) fn is_current(&self, value: &Value) -> bool {
        let name = self.lock().first().map(|key| format!("{MARK}{}:", key.name));
        value.as_str().zip(name).is_some_and(|(text, name)| text.starts_with(&name))
    }

    /// Reads the file, unless that was done: it may come later than the database.
    fn read(&self, keys: &mut Vec<Key>) -> Result<(), String> {
        if !keys.is_empty() {
            return Ok(());
        }
        let bytes = fs::read(&self.path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!("there is no key file {}: put it back", self.path.display()),
            _ => format!("the key file {} cannot be read: {error}", self.path.display()),
        })?;
        let unfit =
            || format!("the key file {} is none: it has to have 64 hexadecimal digits a line", self.path.display());
        if bytes.len() == KEY {
            keys.extend(Key::new(&bytes));
        } else {
            let text = String::from_utf8(bytes).map_err(|_| unfit())?;
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty()).take(KEYS) {
                keys.push(Key::read(line).ok_or_else(unfit)?);
            }
        }
        if keys.is_empty() { Err(unfit()) } else { Ok(()) }
    }

    fn write(&self, keys: &[Key]) -> Result<(), Error> {
        let text: String = keys.iter().map(|key| format!("{}\n", key.hex)).collect();
        let fresh = beside(&self.path, ".new");
        let written = || -> std::io::Result<()> {
            make_directory(&self.path)?;
            let mut file = make_file(&fresh)?;
            file.set_len(0)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &self.path)?;
            let directory = self.path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(directory)?.sync_all()
        };
        written().map_err(|source| Error::file("write the key", &self.path, source))
    }

    fn fail(&self, reason: String) -> Error {
        Error::file("use the key", &self.path, std::io::Error::other(reason))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key {
    fn make() -> Result<Self, Error> {
        let mut bytes = [0; KEY];
        let made = SystemRandom::new().fill(&mut bytes).ok().and_then(|()| Self::new(&bytes));
        made.ok_or_else(|| Error::file("make a key from", "/dev/urandom", std::io::Error::other("no random numbers")))
    }

    fn new(bytes: &[u8]) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?);
        // What a key is called says nothing of it.
        let name = hex(&digest(&SHA256, bytes).as_ref()[..4]);
        Some(Self { name, hex: hex(bytes), key })
    }

    fn read(line: &str) -> Option<Self> {
        let digits = line.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> =
            digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()).collect();
        Self::new(&bytes.filter(|bytes| bytes.len() == KEY && line.len() == 2 * KEY)?)
    }
}

/// Whether a value is in its sealed form.
pub(super) fn is_sealed(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with(MARK))
}

fn place(model: &Model, key: &str, field: &str) -> Vec<u8> {
    [model.name(), key, field].join("\0").into_bytes()
}

fn sealed(model: &Model, key: &str, field: &str, reason: String) -> Error {
    Error::Sealed { model: model.name().into(), key: key.into(), field: field.into(), reason }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
