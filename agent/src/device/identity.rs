//! The claim id: the name that a device keeps for life.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::{Error, write_file};
use crate::config;

/// Digits and letters without I, L, O and U: nothing that people mistake on a label, few words that offend.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// 50 random bits: among a million devices the chance of any two alike is 1 in 2,000.
const LENGTH: usize = 10;

/// The longest name of a thing in AWS IoT and of a client on its broker.
const MAX: usize = 128;

/// The device's id: the configured one, else the one made at the first start and kept in
/// `STATE/config/device.json5` as `{id: '…'}`.
///
/// `state` is the state directory. A file that is there and holds no id is an error, not a reason for a new identity.
pub fn identity(state: &Path, config: &config::Device) -> Result<String, Error> {
    match config.id.as_deref() {
        None | Some("" | "auto") => kept(&state.join("config/device.json5")),
        Some(id) if usable(id) => Ok(id.into()),
        Some(id) => Err(Error::Id { id: id.into() }),
    }
}

fn kept(file: &Path) -> Result<String, Error> {
    match fs::read_to_string(file) {
        Ok(text) => read_id(&text)
            .filter(|id| usable(id))
            .map(str::to_owned)
            .ok_or_else(|| Error::Damaged { path: file.into() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let id = new_id().map_err(|source| Error::Random { source })?;
            write_file(file, 0o600, format!("{{id: '{id}'}}\n").as_bytes())
                .map_err(|source| Error::Write { path: file.into(), source })?;
            Ok(id)
        }
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(Error::Damaged { path: file.into() }),
        Err(source) => Err(Error::Read { path: file.into(), source }),
    }
}

/// The id in a text that begins as we write it; other members may follow. The whole file is read by `config`.
fn read_id(text: &str) -> Option<&str> {
    let body = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim_start();
    let value = ["id", "'id'", "\"id\""].iter().find_map(|key| body.strip_prefix(key))?;
    let value = value.trim_start().strip_prefix(':')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let (id, rest) = value[1..].split_once(quote)?;
    let rest = rest.trim_start();
    (rest.is_empty() || rest.starts_with(',')).then_some(id)
}

fn usable(id: &str) -> bool {
    (1..=MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_:".contains(&b))
}

fn new_id() -> io::Result<String> {
    let mut random = [0; LENGTH];
    fill_random(&mut random)?;
    Ok(random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}

/// *ring* waits until the kernel's generator is seeded, which matters in the first seconds of a device's life.
#[cfg(feature = "tls")]
fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    use ring::rand::{SecureRandom, SystemRandom};
    match SystemRandom::new().fill(bytes) {
        Ok(()) => Ok(()),
        Err(_) => read_random(bytes),
    }
}

#[cfg(not(feature = "tls"))]
fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    read_random(bytes)
}

fn read_random(bytes: &mut [u8]) -> io::Result<()> {
    File::open("/dev/urandom")?.read_exact(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    struct State(PathBuf);

    impl State {
        fn new() -> Self {
            Self(std::env::temp_dir().join(format!("ioto-identity-{:x}", fastrand::u64(..))))
        }

        fn with(text: &[u8]) -> Self {
            let state = Self::new();
            fs::create_dir_all(state.0.join("config")).unwrap();
            fs::write(state.file(), text).unwrap();
            state
        }

        fn file(&self) -> PathBuf {
            self.0.join("config/device.json5")
        }

        fn id(&self) -> Result<String, Error> {
            identity(&self.0, &config::Device::default())
        }
    }

    impl Drop for State {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_id_is_made_once_and_kept_in_a_private_file() {
        let state = State::new();
        let id = state.id().unwrap();
        assert_eq!(id.len(), 10);
        assert!(id.bytes().all(|b| ALPHABET.contains(&b)), "{id}");
        assert_eq!(state.id().unwrap(), id);
        assert_eq!(fs::read_to_string(state.file()).unwrap(), format!("{{id: '{id}'}}\n"));
        assert_eq!(fs::metadata(state.file()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn ids_use_the_whole_alphabet_and_differ() {
        let ids: HashSet<String> = (0..1000).map(|_| new_id().unwrap()).collect();
        assert_eq!(ids.len(), 1000);
        let used: HashSet<u8> = ids.iter().flat_map(|id| id.bytes()).collect();
        assert_eq!(used, ALPHABET.iter().copied().collect());
        let mut bytes = [0; 64];
        read_random(&mut bytes).unwrap();
        assert_ne!(bytes, [0; 64]);
    }

    #[test]
    fn the_configured_id_comes_first_and_writes_nothing() {
        let state = State::new();
        let id = |id: &str| identity(&state.0, &config::Device { id: Some(id.into()), ..Default::default() });
        assert_eq!(id("pump-7:west_2").unwrap(), "pump-7:west_2");
        assert!(!state.file().exists());
        assert_eq!(id("auto").unwrap(), id("").unwrap());
        for bad in ["two words", "a/b", "#", "d\u{e9}vice", &"x".repeat(129)] {
            assert!(matches!(id(bad), Err(Error::Id { .. })), "{bad}");
        }
    }

    #[test]
    fn a_file_that_a_person_or_the_setup_page_changed_is_read() {
        for text in ["{id:'ABC'}", "{ \"id\" : \"ABC\" , }", "\n{\n  id: 'ABC',\n  name: 'Pump'\n}\n"] {
            assert_eq!(State::with(text.as_bytes()).id().unwrap(), "ABC", "{text}");
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_and_stays() {
        for text in
            [&b""[..], b"{", b"{}", b"{id: ABC}", b"{id: 'ABC'", b"{id: ''}", b"{idea: 'ABC'}", b"\0\0\0", b"\xff\xfe"]
        {
            let state = State::with(text);
            let error = state.id().unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
            assert!(error.to_string().contains("device.json5"));
            assert_eq!(fs::read(state.file()).unwrap(), text);
        }
    }

    #[test]
    fn a_state_directory_that_cannot_be_made_is_named() {
        let error = identity(Path::new("/proc/nowhere"), &config::Device::default()).unwrap_err();
        assert!(matches!(error, Error::Write { .. }) && error.to_string().contains("/proc/nowhere/config"), "{error}");
    }
}
