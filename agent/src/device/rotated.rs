//! A log file: rotated here when it is full, or by somebody else who moves it away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that is appended to. `FILE.1` is the last one that was full, `FILE.2` the one before it.
pub struct RotatedFile {
    path: PathBuf,
    size: u64,
    count: usize,
    open: Option<Open>,
}

struct Open {
    file: File,
    inode: (u64, u64),
    length: u64,
    /// The last write ended within a line.
    torn: bool,
}

impl RotatedFile {
    /// Opens or makes the file, and its directory. A file is set aside when it would get longer than `size`; `count` of them are kept.
    ///
    /// # Errors
    /// It can not be written, or is no file.
    pub fn open(path: &Path, size: u64, count: usize) -> io::Result<Self> {
        let mut sink = Self { path: path.to_owned(), size, count, open: None };
        sink.current()?;
        Ok(sink)
    }

    /// The file that has the name now.
    fn current(&mut self) -> io::Result<&mut Open> {
        let is_ours = self.open.as_ref().is_some_and(|open| {
            fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == open.inode)
        });
        if !is_ours {
            self.open = None;
        }
        match &mut self.open {
            Some(open) => Ok(open),
            none => {
                if let Some(directory) = self.path.parent() {
                    fs::create_dir_all(directory)?;
                }
                // Neither a link to elsewhere nor a pipe that nobody reads.
                let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
                let file =
                    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(&self.path)?;
                let found = file.metadata()?;
                if !found.is_file() {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
                }
                Ok(none.insert(Open { file, inode: (found.dev(), found.ino()), length: found.len(), torn: false }))
            }
        }
    }

    /// Sets the file aside, and the oldest of those away.
    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        if self.count == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.count).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.numbered(1))
    }

    fn numbered(&self, number: usize) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }

    /// Lines that go into one file.
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let open = self.current()?;
        if open.torn {
            open.write(b"\n")?;
        }
        open.write(lines)
    }
}

impl Open {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.length += written as u64;
            self.torn = bytes.get(..written).is_some_and(|done| !done.ends_with(b"\n"));
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

impl RotatedFile {
    /// Appends whole lines, each with its LF.
    ///
    /// # Errors
    /// Some of the lines may be lost.
    pub fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.write_lines(lines)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display())))
    }

    /// Opens the file that has the name now, at the next line.
    pub fn reopen(&mut self) {
        self.open = None;
    }

    fn write_lines(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut rest = lines;
        while !rest.is_empty() {
            let size = self.size;
            let length = self.current()?.length;
            let part = front(rest, size.saturating_sub(length));
            if part == 0 && length > 0 {
                self.rotate()?;
                continue;
            }
            // A line that is longer than a file is a file.
            let part = if part == 0 { first_line(rest) } else { part };
            let (now, later) = rest.split_at(part);
            self.append(now)?;
            rest = later;
        }
        Ok(())
    }
}

/// The length of the whole lines at the beginning that have room.
fn front(lines: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(lines.len());
    lines.get(..room).and_then(|fitting| fitting.iter().rposition(|byte| *byte == b'\n')).map_or(0, |end| end + 1)
}

fn first_line(lines: &[u8]) -> usize {
    lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |end| end + 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Self {
            let name = format!("ioto-access-{}-{:x}", std::process::id(), fastrand::u64(..));
            Self(std::env::temp_dir().join(name))
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.0.join(name)).unwrap_or_default()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn full_files_are_set_aside_and_the_oldest_removed() {
        let dir = Dir::new();
        let mut sink = RotatedFile::open(&dir.0.join("log"), 20, 2).unwrap();
        for n in 0..10 {
            sink.write(format!("line {n}\nline {n}b\n").as_bytes()).unwrap();
        }
        assert_eq!(dir.read("log"), "line 9\nline 9b\n");
        assert_eq!(dir.read("log.1"), "line 8\nline 8b\n");
        assert_eq!(dir.read("log.2"), "line 7\nline 7b\n");
        assert!(!dir.0.join("log.3").exists());
        sink.write(b"a line that is longer than any file\nx\n").unwrap();
        assert_eq!(
            (dir.read("log.1"), dir.read("log")),
            ("a line that is longer than any file\n".into(), "x\n".into())
        );
        let mut sink = RotatedFile::open(&dir.0.join("alone"), 20, 0).unwrap();
        (0..10).for_each(|n| sink.write(format!("line number {n}\n").as_bytes()).unwrap());
        assert_eq!((dir.read("alone"), dir.read("alone.1")), ("line number 9\n".into(), String::new()));
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let dir = Dir::new();
        let path = dir.0.join("log");
        let mut sink = RotatedFile::open(&path, 1000, 2).unwrap();
        sink.write(b"one\n").unwrap();
        fs::rename(&path, dir.0.join("log.old")).unwrap();
        sink.write(b"two\n").unwrap();
        fs::remove_file(&path).unwrap();
        sink.write(b"three\n").unwrap();
        sink.reopen();
        sink.write(b"four\n").unwrap();
        assert_eq!((dir.read("log.old"), dir.read("log")), ("one\n".into(), "three\nfour\n".into()));
    }

    #[test]
    fn what_is_no_file_is_not_written_to() {
        let dir = Dir::new();
        fs::create_dir_all(&dir.0).unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.0.join("link")).unwrap();
        assert!(RotatedFile::open(&dir.0.join("link"), 1000, 2).is_err());
        assert!(RotatedFile::open(Path::new("/dev/full"), 1000, 2).is_err());
        assert!(RotatedFile::open(&dir.0, 1000, 2).is_err());
    }

    #[test]
    fn a_line_that_was_torn_is_ended_before_the_next() {
        let dir = Dir::new();
        let mut sink = RotatedFile::open(&dir.0.join("log"), 1000, 2).unwrap();
        sink.write(b"half").unwrap();
        sink.write(b"whole\n").unwrap();
        assert_eq!(dir.read("log"), "half\nwhole\n");
    }
}
