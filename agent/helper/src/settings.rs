//! The settings that were made: kept on the data partition, so that they outlive an update of the system and a read-only root.

use crate::files::{self, SETTINGS};
use ioto_wire::{MAX_FRAME, Request};
use std::fs;
use std::path::{Path, PathBuf};

/// More are not applied: a network for each of some interfaces, the zone and the name.
const MAX: usize = 32;

/// Keeps a setting, in place of the one before.
pub fn keep(request: &Request) -> Result<(), String> {
    let name = match request {
        Request::Network(profile) => format!("network-{}", profile.interface),
        other => other.verb().name().into(),
    };
    let path = Path::new(SETTINGS).join(format!("{name}.json"));
    // The passphrase of a wireless network is in it.
    files::write_whole(&path, &request.encode(), 0o600)
        .map_err(|error| format!("{} can not be written: {error}", path.display()))?;
    Ok(())
}

/// All that were kept, with their files; those that are not valid with the reason.
pub fn all() -> Vec<(PathBuf, Result<Request, String>)> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(SETTINGS).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths.truncate(MAX);
    let read = |path: &Path| match fs::read(path) {
        Ok(content) if content.len() <= MAX_FRAME => Request::decode(&content).map_err(|error| error.to_string()),
        Ok(_) => Err("it is too large".into()),
        Err(error) => Err(error.to_string()),
    };
    paths.into_iter().map(|path| (path.clone(), read(&path))).collect()
}
