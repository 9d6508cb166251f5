//! Files as the response of an action, and how long a body an action takes.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;

use super::files::answer;
use super::open_files::Opened;
use super::{Error, Exchange};
use crate::config::Route;

impl Exchange {
    /// Answers with a file of the device, as a route for files does: with its type by the extension, an entity tag, conditions
    /// and ranges. The path is the action's: nothing keeps it beneath `web.documents`, so do not make it of what a client
    /// says. A field `Content-Type` that the action set stays.
    ///
    /// ```
    /// use ioto::web::{Error, Exchange};
    ///
    /// async fn report(exchange: &mut Exchange) -> Result<(), Error> {
    ///     exchange.set_header("Content-Disposition", "attachment; filename=\"report.csv\"")?;
    ///     exchange.send_file("/var/lib/ioto/report.csv").await
    /// }
    /// ```
    ///
    /// # Errors
    /// 404 when there is no such file, or it is none that can be sent whole; 412 when a condition of the request fails; those of
    /// [`Exchange::send`].
    pub async fn send_file(&mut self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let there_is_none = || Error::status(404, "there is no such file");
        // A pipe or a device would make the whole server wait in open.
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(there_is_none()),
            Err(error) => return Err(Error::failed(format!("{}: {error}", path.display()))),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(there_is_none());
        }
        let tag = self.local.etags.tag(&file, &metadata).await?;
        let found = Opened::new(path.to_string_lossy().into_owned(), file, &metadata, tag, self.local.reactor.now())?;
        found.fields.iter().for_each(|(name, _)| self.headers.remove(name));
        answer(self, Rc::new(found), false).await
    }

    /// Refuses a body that is longer than `web.limits.body` before any of it is read, where a route does not say `stream`. Of
    /// a body without a length no more can be read. Forms with files have limits of their own.
    pub(super) fn limit_body(&mut self, route: Option<&Route>) -> Result<(), Error> {
        let limit = self.shared.settings.limits.body;
        if route.is_none_or(|route| route.stream)
            || self.media_type().is_ok_and(|media| media.is("multipart/form-data"))
        {
            return Ok(());
        }
        let transfer = self.transfer.get_mut();
        if transfer.remaining().is_some_and(|length| length > limit) {
            return Err(crate::http1::Error::BodyTooLarge.into());
        }
        transfer.budget = Some(limit);
        Ok(())
    }
}
