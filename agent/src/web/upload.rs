//! Forms with files (`multipart/form-data`, RFC 7578): the files go to temporary ones as they arrive.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use smol::io::AsyncReadExt;

use super::multipart::{ENOUGH, Multipart, PartHead, Step};
use super::{Error, Exchange, Form, leftovers};

/// Bytes that are received, and written, at once.
const BLOCK: usize = 32 * 1024;
/// Bytes of heads and boundaries beside the content that a body may have by its length.
const ENVELOPE: u64 = 1 << 20;

/// How much one request may upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadLimits {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Number of files.
    pub files: usize,
    /// Bytes of the values of all other fields together.
    pub fields: u64,
}

/// A form with files.
#[derive(Debug, Default)]
pub struct Uploads {
    /// The fields that are no files.
    pub form: Form,
    /// The files in their order.
    pub files: Vec<Upload>,
}

/// A file that was uploaded. It is removed with this value, unless [`Upload::keep`] was called or `web.upload.remove` is off.
#[derive(Debug)]
pub struct Upload {
    name: String,
    file_name: String,
    content_type: Option<String>,
    path: PathBuf,
    size: u64,
    remove: bool,
    /// Open for as long as the file has a hidden name: it is nobody's leftover.
    held: Option<File>,
}

impl Upload {
    /// The name of the form's field.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the client calls the file. Any text: show it, but never make a path of it.
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// The type that the client says it has.
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// Where the content is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Gives the file a name that is not hidden, for the caller to move or remove. One with the hidden name that it has until
    /// then would be removed at the next start.
    pub fn keep(mut self) -> PathBuf {
        self.remove = false;
        self.show();
        self.path.clone()
    }
}

impl Upload {
    /// Takes the dot off its name.
    fn show(&mut self) {
        let name = self.path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix('.'));
        let Some(path) = name.map(|name| self.path.with_file_name(name)) else { return };
        match fs::rename(&self.path, &path) {
            Ok(()) => self.path = path,
            Err(error) => log::warn!("the uploaded file {} keeps its hidden name: {error}", self.path.display()),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.remove {
            if let Err(error) = fs::remove_file(&self.path) {
                // The action may have moved it.
                if error.kind() != io::ErrorKind::NotFound {
                    log::warn!("the uploaded file {} cannot be removed: {error}", self.path.display());
                }
            }
        }
    }
}

impl Uploads {
    /// The first file of that field.
    pub fn file(&self, name: &str) -> Option<&Upload> {
        self.files.iter().find(|file| file.name == name)
    }
}

impl Exchange {
    /// What `web.limits.upload`, `uploads` and `body` allow.
    pub fn upload_limits(&self) -> UploadLimits {
        let limits = &self.shared.settings.limits;
        UploadLimits { bytes: limits.upload, files: limits.uploads, fields: limits.body }
    }

    /// Where [`Exchange::uploads`] puts files unless it is told otherwise: `web.upload.dir`.
    pub fn upload_dir(&self) -> &Path {
        &self.shared.settings.upload.dir
    }

    /// Receives a form with files, `multipart/form-data`. The files are streamed to new files of random names in `dir`, which
    /// is made when it is missing; memory does not grow with them. They are removed when the result is dropped, at the latest
    /// when the action returns or is cut off.
    ///
    /// ```
    /// use ioto::web::{Error, Exchange};
    ///
    /// async fn firmware(exchange: &mut Exchange) -> Result<(), Error> {
    ///     let uploads = exchange.uploads(exchange.upload_dir(), exchange.upload_limits()).await?;
    ///     let image = uploads.file("image").ok_or_else(|| Error::status(400, "send an image"))?;
    ///     exchange.send("text/plain", format!("{} has {} bytes\n", image.file_name(), image.size())).await
    /// }
    /// ```
    ///
    /// # Errors
    /// 415 when the body is something else, 400 when it is malformed, 413 when it is more than the limits allow, 507 when the
    /// disk is full; those of [`Body`](super::Body).
    pub async fn uploads(&self, dir: &Path, limits: UploadLimits) -> Result<Uploads, Error> {
        let media = self.media_type()?;
        if !media.is("multipart/form-data") {
            return Err(Error::status(415, "expected multipart/form-data"));
        }
        let mut parser = Multipart::new(&media).map_err(malformed)?;
        let most = limits.bytes.saturating_add(limits.fields).saturating_add(ENVELOPE);
        if self.transfer.borrow().remaining().is_some_and(|length| length > most) {
            return Err(crate::http1::Error::BodyTooLarge.into());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut receiver = Receiver {
            dir,
            remove: self.shared.settings.upload.remove,
            left: limits,
            uploads: Uploads::default(),
            part: Part::None,
        };
        let mut body = self.body();
        let (mut buffer, mut start, mut end) = (vec![0; BLOCK + ENOUGH], 0, 0);
        loop {
            let input = buffer.get(start..end).unwrap_or_default();
            match parser.step(input).map_err(malformed)? {
                Step::Part { used, head } => {
                    receiver.begin(head)?;
                    start += used;
                }
                Step::Data { length } => {
                    receiver.data(input.get(..length).unwrap_or_default()).await?;
                    start += length;
                }
                Step::PartEnd { used } => {
                    receiver.end().await?;
                    start += used;
                }
                Step::End => return Ok(receiver.uploads),
                Step::More { used: 0 } => {
                    buffer.copy_within(start..end, 0);
                    (start, end) = (0, end - start);
                    match body.read(buffer.get_mut(end..).unwrap_or_default()).await? {
                        0 => return Err(malformed("it ends in the middle of a part")),
                        read => end += read,
                    }
                }
                Step::More { used } => start += used,
            }
        }
    }
}

fn malformed(what: &str) -> Error {
    Error::status(400, format!("the form is malformed: {what}"))
}

/// Where the parts of a form go.
struct Receiver<'a> {
    dir: &'a Path,
    remove: bool,
    left: UploadLimits,
    uploads: Uploads,
    part: Part,
}

/// The part that arrives.
enum Part {
    None,
    Field(String, Vec<u8>),
    /// The last of the files.
    File(Sink),
}

impl Receiver<'_> {
    fn begin(&mut self, head: PartHead) -> Result<(), Error> {
        // A browser sends an empty file name when no file was chosen.
        let Some(file_name) = head.file_name.filter(|name| !name.is_empty()) else {
            self.part = Part::Field(head.name, Vec::new());
            return Ok(());
        };
        self.left.files =
            self.left.files.checked_sub(1).ok_or_else(|| Error::status(413, "there are too many files"))?;
        let (path, file) = create(self.dir).map_err(storage)?;
        let held = Some(file.try_clone().map_err(storage)?);
        let (name, content_type) = (head.name, head.content_type);
        self.uploads.files.push(Upload { name, file_name, content_type, path, size: 0, remove: true, held });
        self.part = Part::File(Sink { file: Some(file), buffer: Vec::with_capacity(BLOCK) });
        Ok(())
    }

    async fn data(&mut self, data: &[u8]) -> Result<(), Error> {
        let left = match &self.part {
            Part::File(_) => &mut self.left.bytes,
            _ => &mut self.left.fields,
        };
        *left = left.checked_sub(data.len() as u64).ok_or(crate::http1::Error::BodyTooLarge)?;
        match &mut self.part {
            Part::None => {}
            Part::Field(_, value) => value.extend_from_slice(data),
            Part::File(sink) => {
                if let Some(file) = self.uploads.files.last_mut() {
                    file.size += data.len() as u64;
                }
                sink.write(data).await.map_err(storage)?;
            }
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.part, Part::None) {
            Part::None => {}
            Part::Field(name, value) => {
                let value = String::from_utf8(value).map_err(|_| malformed("a field is not UTF-8"))?;
                self.uploads.form.push(name, value)?;
            }
            Part::File(mut sink) => {
                sink.flush().await.map_err(storage)?;
                // Only now: what is not complete is of no use to anyone.
                if let Some(file) = self.uploads.files.last_mut() {
                    file.remove = self.remove;
                    if !self.remove {
                        file.show();
                        file.held = None;
                    }
                }
            }
        }
        Ok(())
    }
}

fn storage(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::status(507, "there is no room for the file")
        }
        // Not as the error of a body would be explained.
        _ => Error::failed(error),
    }
}

/// A new file that nobody else can open.
fn create(dir: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        let path = dir.join(leftovers::name());
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) if leftovers::hold(&file) => return Ok((path, file)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes blocks on another thread: flash may be slow, and other clients wait.
struct Sink {
    file: Option<File>,
    buffer: Vec<u8>,
}

impl Sink {
    async fn write(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let room = BLOCK.saturating_sub(self.buffer.len()).min(data.len());
            let (now, later) = data.split_at(room);
            self.buffer.extend_from_slice(now);
            data = later;
            if self.buffer.len() >= BLOCK {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        let Some(mut file) = self.file.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let mut buffer = std::mem::take(&mut self.buffer);
        let (file, buffer) = smol::unblock(move || {
            file.write_all(&buffer)?;
            buffer.clear();
            io::Result::Ok((file, buffer))
        })
        .await?;
        (self.file, self.buffer) = (Some(file), buffer);
        Ok(())
    }
}
