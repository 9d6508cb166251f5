//! Files that are whole or not there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a file of this mode so that a power cut leaves the old content or the new one, never a part.
///
/// The bytes go to a temporary file in the same directory, are forced to the disk and renamed over `path`; then the
/// directory is forced to the disk. Missing directories are made.
pub fn write_file(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
    };
    fs::create_dir_all(directory)?;
    let temporary = directory.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = write_new(&temporary, mode, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(directory)?.sync_all()
}

fn write_new(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    // A file that a killed process left behind may have other rights.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_is_replaced_as_a_whole_and_is_private() {
        let root = std::env::temp_dir().join(format!("ioto-private-{:x}", fastrand::u64(..)));
        let file = root.join("new/place/file");
        write_file(&file, 0o600, b"one, and longer").unwrap();
        write_file(&file, 0o600, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "the temporary file is gone");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_path_without_a_name_is_refused() {
        assert_eq!(write_file(Path::new("/"), 0o600, b"").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
