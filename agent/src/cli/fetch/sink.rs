//! Where the body of a response goes: standard output or a file, from the beginning or from where it broke off.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ioto::fetch::{Response, Url};

use super::failure::Failure;
use super::plan::{Output, Resume};

/// An output that is not opened before there is something to write: a failure leaves the file as it was.
#[derive(Debug)]
pub struct Sink {
    /// Nothing: the standard output.
    path: Option<PathBuf>,
    /// Bytes that are there and stay.
    pub offset: u64,
    file: Option<File>,
    is_terminal: bool,
    /// Nobody reads what is written to the standard output: enough was read.
    pub is_deserted: bool,
}

impl Sink {
    /// For the response to a URL.
    pub fn new(output: &Output, resume: Option<Resume>, url: &Url) -> Result<Self, Failure> {
        let path = match output {
            Output::Standard => None,
            Output::File(path) => Some(path.clone()),
            Output::Remote => Some(remote_name(url)?),
        };
        let offset = match (resume, &path) {
            (None, _) | (Some(Resume::End), None) => 0,
            (Some(Resume::At(offset)), _) => offset,
            (Some(Resume::End), Some(path)) => path.metadata().map_or(0, |metadata| metadata.len()),
        };
        let is_terminal = path.is_none() && io::stdout().is_terminal();
        Ok(Self { path, offset, file: None, is_terminal, is_deserted: false })
    }

    /// Whether the response has what is asked for: true when the file is complete already.
    pub fn check(&self, response: &Response) -> Result<bool, Failure> {
        if self.offset == 0 {
            return Ok(false);
        }
        let range = response.header("content-range").unwrap_or_default();
        let offset = self.offset;
        match response.status() {
            206 if first_of(range) == Some(offset) => Ok(false),
            416 if range.strip_prefix("bytes */").and_then(|size| size.trim().parse().ok()) == Some(offset) => Ok(true),
            200 | 206 | 416 => Err(Failure::new(
                Failure::RANGE,
                format!("{} does not go on at byte {offset}; fetch it from the beginning, without -C", response.url()),
            )),
            // Not found, for example: its body says so, and is no part of the file.
            status => Err(Failure::new(Failure::RANGE, format!("{} answers {status}", response.url()))),
        }
    }

    /// Writes some of it.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.is_terminal && bytes.contains(&0) {
            return Err(Failure::new(Failure::WRITE, "this is no text for a terminal; give -o FILE, or -o - | cat"));
        }
        if self.file.is_none() {
            self.open()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        match file.write_all(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && self.path.is_none() => {
                self.is_deserted = true;
                Ok(())
            }
            other => other.map_err(|error| self.failure(&error)),
        }
    }

    /// An empty body makes an empty file.
    pub fn open(&mut self) -> Result<(), Failure> {
        let opened = match &self.path {
            None => io::stdout().as_fd().try_clone_to_owned().map(File::from),
            Some(path) if self.offset > 0 => open_at(path, self.offset),
            Some(path) => File::create(path),
        };
        self.file = Some(opened.map_err(|error| self.failure(&error))?);
        Ok(())
    }

    fn failure(&self, error: &io::Error) -> Failure {
        let name = self.path.as_ref().map_or("standard output".into(), |path| path.display().to_string());
        Failure::new(Failure::WRITE, format!("cannot write {name}: {error}"))
    }
}

fn open_at(path: &Path, offset: u64) -> io::Result<File> {
    use std::io::{Seek, SeekFrom};
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(file)
}

/// The first byte of `bytes 5-9/10`.
fn first_of(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// The last name of the path, as it stands there: no directory is made, and none is left.
fn remote_name(url: &Url) -> Result<PathBuf, Failure> {
    let path = url.target().split('?').next().unwrap_or_default();
    match path.rsplit('/').next() {
        Some(name) if !matches!(name, "" | "." | "..") => Ok(name.into()),
        _ => Err(Failure::new(Failure::WRITE, format!("-O: {url} ends with no name of a file; give one with -o"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_is_the_last_of_the_path() {
        let name = |url: &str| remote_name(&url.parse().unwrap());
        assert_eq!(name("http://h/a/b.txt?x=/y").unwrap(), PathBuf::from("b.txt"));
        assert_eq!(name("http://h/a%2Fb").unwrap(), PathBuf::from("a%2Fb"));
        for url in ["http://h", "http://h/", "http://h/a/", "http://h/..", "http://h/a/.."] {
            assert_eq!(name(url).unwrap_err().status, Failure::WRITE, "{url}");
        }
    }

    #[test]
    fn the_first_byte_of_a_range_is_read() {
        assert_eq!(first_of("bytes 5-9/10"), Some(5));
        assert_eq!((first_of("bytes */10"), first_of("5-9"), first_of("")), (None, None, None));
    }
}
