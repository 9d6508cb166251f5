//! Places on the device, and files that are written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

/// The agent's state, and the directory of updates below it.
pub const AGENT_STATE: &str = "/var/lib/ioto";
/// What only the helper writes.
pub const STATE: &str = "/var/lib/ioto-helper";
/// The settings that were made, one file each.
pub const SETTINGS: &str = "/var/lib/ioto-helper/settings";
/// While this file exists, a factory reset is not finished.
pub const RESET_MARKER: &str = "/var/lib/ioto-helper/reset";

/// Makes the helper's directories; the audit log in them may be read by the group `ioto`.
pub fn make_state(group: Option<u32>) -> io::Result<()> {
    make_directory(STATE, 0o750)?;
    give(&File::open(STATE)?, group)?;
    make_directory(SETTINGS, 0o700)
}

/// To root and this group. Without the right to do so, only the agent's reading of the log is lost.
pub fn give(file: &File, group: Option<u32>) -> io::Result<()> {
    let found = file.metadata()?;
    match found.uid() == 0 && group.is_none_or(|group| group == found.gid()) {
        true => Ok(()),
        false => match fchown(file, Some(0), group) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        },
    }
}

fn make_directory(path: &str, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fs::symlink_metadata(path)?.is_dir() {
            true => Ok(()),
            false => Err(io::Error::other(format!("{path} is not a directory"))),
        },
        other => other,
    }
}

/// Whether it was changed: the same content is not written again.
pub fn write_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o777 == mode)
        && fs::read(path).is_ok_and(|found| found == content)
    {
        return Ok(false);
    }
    let (directory, temporary) = beside(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    // The mode is meant whatever the umask is.
    let written = file
        .set_permissions(fs::Permissions::from_mode(mode))
        .and_then(|()| file.write_all(content))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(directory)?.sync_all()?;
    Ok(true)
}

/// Makes or replaces a symbolic link.
pub fn link_whole(path: &Path, target: &str) -> io::Result<()> {
    let (directory, temporary) = beside(path)?;
    std::os::unix::fs::symlink(target, &temporary)?;
    if let Err(error) = fs::rename(&temporary, path) {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(directory)?.sync_all()
}

/// The directory, and the name of a temporary file in it that does not exist: one left by a power cut is removed.
fn beside(path: &Path) -> io::Result<(&Path, std::path::PathBuf)> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let temporary = directory.join(format!(".{}.ioto-new", name.to_string_lossy()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok((directory, temporary)),
    }
}
