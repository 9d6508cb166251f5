//! Writes a response to a file while it comes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use smol::Task;

use super::{Error, Response};

/// Bytes of each of the two buffers: one is filled while the other is written.
const BUFFER: usize = 256 * 1024;

/// A file that is written on a thread where that may take its time.
pub(super) struct Sink {
    path: PathBuf,
    file: Option<File>,
    /// What is being written now.
    writing: Option<Task<Written>>,
}

/// The file and the buffer come back with the result.
type Written = (File, Vec<u8>, io::Result<()>);

impl Sink {
    /// Makes or empties the file.
    pub async fn create(path: &Path) -> Result<Self, Error> {
        Self::open(path, OpenOptions::new().write(true).create(true).truncate(true).clone()).await
    }

    /// Goes on after what is there.
    pub async fn append(path: &Path) -> Result<Self, Error> {
        Self::open(path, OpenOptions::new().append(true).clone()).await
    }

    async fn open(path: &Path, how: OpenOptions) -> Result<Self, Error> {
        let place = path.to_owned();
        let opened = smol::unblock(move || how.open(&place)).await;
        let file = opened.map_err(|source| Error::File { path: path.into(), source })?;
        Ok(Self { path: path.into(), file: Some(file), writing: None })
    }

    /// Begins to write the first bytes of a buffer; returns another one, when what was begun before is done.
    async fn write(&mut self, buffer: Vec<u8>, length: usize) -> Result<Vec<u8>, Error> {
        let spare = self.settle().await?;
        if let Some(mut file) = self.file.take() {
            self.writing = Some(smol::unblock(move || {
                let result = file.write_all(buffer.get(..length).unwrap_or_default());
                (file, buffer, result)
            }));
        }
        Ok(spare.unwrap_or_else(|| vec![0; BUFFER]))
    }

    /// Waits until all is written.
    async fn settle(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let Some(writing) = self.writing.take() else { return Ok(None) };
        let (file, buffer, result) = writing.await;
        self.file = Some(file);
        result.map_err(|source| Error::File { path: self.path.clone(), source })?;
        Ok(Some(buffer))
    }

    /// What was written is on the disk when this returns.
    pub async fn sync(mut self) -> Result<(), Error> {
        self.settle().await?;
        let Some(file) = self.file.take() else { return Ok(()) };
        let synced = smol::unblock(move || file.sync_all()).await;
        synced.map_err(|source| Error::File { path: self.path.clone(), source })
    }
}

/// Writes what comes, at most `limit` bytes, and returns how many that were. What came before an error is written too.
pub(super) async fn pour(response: &mut Response, sink: &mut Sink, limit: Option<u64>) -> Result<u64, Error> {
    let (mut buffer, mut total) = (vec![0; BUFFER], 0);
    loop {
        let (filled, end) = fill(response, &mut buffer).await;
        total += filled as u64;
        if let Some(limit) = limit.filter(|limit| total > *limit) {
            return Err(Error::TooLarge { limit: usize::try_from(limit).unwrap_or(usize::MAX) });
        }
        if filled > 0 {
            buffer = sink.write(buffer, filled).await?;
        }
        match end {
            None => {}
            Some(Ok(())) => {
                sink.settle().await?;
                return Ok(total);
            }
            Some(Err(error)) => {
                sink.settle().await?;
                return Err(error);
            }
        }
    }
}

/// Fills the buffer unless the body ends before; so many bytes, and the end.
async fn fill(response: &mut Response, buffer: &mut [u8]) -> (usize, Option<Result<(), Error>>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match response.read(buffer.get_mut(filled..).unwrap_or_default()).await {
            Ok(0) => return (filled, Some(Ok(()))),
            Ok(got) => filled += got,
            Err(error) => return (filled, Some(Err(error))),
        }
    }
    (filled, None)
}
