//! A response as a file that is whole or not there, fetched in as many parts as it takes.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use smol::Timer;

use super::save::{Sink, pour};
use super::{Error, Request, Response, ranges};
use crate::net::Backoff;

/// The ceiling of the first wait before the rest is asked for, and of all.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Bytes of the note beside a part: a URL and an entity tag.
const MAX_NOTE: u64 = 64 * 1024;

/// A download in the making, see [`Request::download`].
///
/// The bytes go to `FILE.part`, and that becomes `FILE` when all of it is there and on the disk. When it breaks off,
/// [`retries`](Request::retries) asks for the rest after a wait; with [`resume`](Self::resume) a later download, perhaps of
/// another run of the program, does so too. What the whole was is noted in `FILE.part.note`: when it is another one now, it is
/// begun anew (`If-Range`, RFC 9110 §13.1.5), so that a file is never put together from two versions. A server that gives
/// neither a strong `ETag` nor a `Last-Modified` that is old enough is asked for all of it again.
///
/// ```no_run
/// # async fn run(client: ioto::fetch::Client) -> Result<(), ioto::fetch::Error> {
/// let saved = client
///     .get("https://example.com/image.raucb")
///     .retries(10)
///     .download("/var/lib/ioto/image.raucb")
///     .resume(true)
///     .limit(512 << 20)
///     .run()
///     .await?;
/// println!("{} bytes, {} of them were here before", saved.length, saved.resumed);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a download does nothing until it runs"]
pub struct Download {
    request: Request,
    path: PathBuf,
    resume: bool,
    limit: Option<u64>,
}

/// What a download brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Bytes of the whole file.
    pub length: u64,
    /// Bytes of it that an earlier run had brought.
    pub resumed: u64,
}

/// The part that is there, and what it is a part of.
struct Part {
    length: u64,
    validator: String,
}

impl Download {
    pub(super) fn new(request: Request, path: PathBuf) -> Self {
        Self { request, path, resume: false, limit: None }
    }

    /// Goes on with the part that an earlier run has left, and leaves one when it fails.
    pub fn resume(mut self, yes: bool) -> Self {
        self.resume = yes;
        self
    }

    /// Takes at most so many bytes.
    pub fn limit(mut self, bytes: u64) -> Self {
        self.limit = Some(bytes);
        self
    }

    /// Downloads.
    ///
    /// # Errors
    /// [`Error::Status`] when the server answers with anything but the content.
    pub async fn run(mut self) -> Result<Saved, Error> {
        // The bytes of a range are counted as they are sent, so they are taken as they are.
        self.request.plan.compressed = false;
        let url = match &self.request.url {
            Ok(url) => url.to_string(),
            Err(_) => return Err(self.request.fault()),
        };
        let files = Files::of(&self.path);
        let mut part = match self.resume {
            true => files.part(&url).await,
            false => None,
        };
        let resumed = part.as_ref().map_or(0, |part| part.length);
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut left = self.request.plan.retries;
        loop {
            let error = match self.attempt(&files, &url, part).await {
                Ok(Whole { length, anew }) => {
                    return Ok(Saved { length, resumed: if anew { 0 } else { resumed } });
                }
                Err(error) => error,
            };
            part = files.part(&url).await;
            if left == 0 || !error.is_transient() {
                if !self.resume || part.is_none() {
                    files.remove().await;
                }
                return Err(error);
            }
            left -= 1;
            let wait = backoff.next();
            log::debug!("{error}; the rest in {wait:?}");
            Timer::after(wait).await;
        }
    }

    /// Asks for the rest, and takes it if it is one.
    async fn attempt(&mut self, files: &Files, url: &str, part: Option<Part>) -> Result<Whole, Error> {
        let Some(mut request) = self.request.again() else { return Err(self.request.fault()) };
        request.plan.retries = 0;
        if let Some(part) = &part {
            request = request.range(part.length, None).header("If-Range", &part.validator);
            request.plan.offset = part.length;
        }
        let mut response = request.send().await?;
        let have = part.map_or(0, |part| part.length);
        match response.status() {
            200 => self.take(&mut response, files, url, 0).await,
            206 if have > 0 && response.range().is_some_and(|range| range.first == have) => {
                self.take(&mut response, files, url, have).await
            }
            // All of it was there already: only its name was not.
            416 if have > 0 && ranges::size_of_whole(response.headers()) == Some(have) => {
                files.finish(Sink::append(&files.part).await?).await?;
                Ok(Whole { length: have, anew: false })
            }
            206 | 416 if have > 0 => {
                files.remove().await;
                Err(Error::Changed { host: response.url().host().into() })
            }
            status => Err(Error::Status { url: response.url().to_string(), status }),
        }
    }

    async fn take(&self, response: &mut Response, files: &Files, url: &str, have: u64) -> Result<Whole, Error> {
        let whole = match have {
            0 => response.remaining(),
            _ => response.range().and_then(|range| range.size),
        };
        if let Some(limit) = self.limit.filter(|limit| whole.is_some_and(|whole| whole > *limit)) {
            return Err(Error::TooLarge { limit: usize::try_from(limit).unwrap_or(usize::MAX) });
        }
        let mut sink = match have {
            0 => {
                files.note(url, ranges::validator(response.headers())).await?;
                Sink::create(&files.part).await?
            }
            _ => Sink::append(&files.part).await?,
        };
        let left = self.limit.map(|limit| limit.saturating_sub(have));
        let length = have + pour(response, &mut sink, left).await?;
        if whole.is_some_and(|whole| whole != length) {
            files.remove().await;
            return Err(Error::Changed { host: response.url().host().into() });
        }
        files.finish(sink).await?;
        Ok(Whole { length, anew: have == 0 })
    }
}

struct Whole {
    length: u64,
    anew: bool,
}

/// The file and those beside it.
struct Files {
    whole: PathBuf,
    part: PathBuf,
    note: PathBuf,
}

impl Files {
    fn of(path: &Path) -> Self {
        let beside = |end: &str| {
            let mut name = OsString::from(path);
            name.push(end);
            PathBuf::from(name)
        };
        Self { whole: path.into(), part: beside(".part"), note: beside(".part.note") }
    }

    /// The part that is there, if it is one of this URL and it is known which version of it.
    async fn part(&self, url: &str) -> Option<Part> {
        let (part, note) = (self.part.clone(), self.note.clone());
        let (length, note) = smol::unblock(move || {
            let length = fs::metadata(part).ok()?.len();
            let short = fs::metadata(&note).ok()?.len() <= MAX_NOTE;
            Some((length, fs::read_to_string(note).ok().filter(|_| short)?))
        })
        .await?;
        let (of, validator) = note.trim_end().split_once('\n')?;
        (of == url && length > 0 && !validator.is_empty()).then(|| Part { length, validator: validator.into() })
    }

    /// Notes what comes; without validator that nothing can be gone on with.
    async fn note(&self, url: &str, validator: Option<String>) -> Result<(), Error> {
        let (path, part) = (self.note.clone(), self.part.clone());
        let text = validator.map(|validator| format!("{url}\n{validator}\n"));
        let written = smol::unblock(move || {
            // First the old part, lest it be taken for one of the new version.
            gone(fs::remove_file(part))?;
            match text {
                Some(text) => fs::write(path, text),
                None => gone(fs::remove_file(path)),
            }
        });
        written.await.map_err(|source| Error::File { path: self.note.clone(), source })
    }

    /// The part becomes the file.
    async fn finish(&self, sink: Sink) -> Result<(), Error> {
        sink.sync().await?;
        let (part, note, whole) = (self.part.clone(), self.note.clone(), self.whole.clone());
        let renamed = smol::unblock(move || {
            fs::rename(part, whole)?;
            gone(fs::remove_file(note))
        });
        renamed.await.map_err(|source| Error::File { path: self.whole.clone(), source })
    }

    async fn remove(&self) {
        let (part, note) = (self.part.clone(), self.note.clone());
        smol::unblock(move || {
            let _ = fs::remove_file(part);
            let _ = fs::remove_file(note);
        })
        .await;
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
