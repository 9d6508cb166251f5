//! Uploads as browsers send them: `multipart/form-data` (RFC 7578).

use std::path::{Path, PathBuf};

use super::parts::Part;
use crate::net::hex;

/// The fields and files of an upload. Files are read while they are sent, and the whole goes with its length.
///
/// ```no_run
/// # async fn upload(client: ioto::fetch::Client) -> Result<(), ioto::fetch::Error> {
/// use ioto::fetch::Multipart;
///
/// let upload = Multipart::new()
///     .text("title", "the roof")
///     .file("image", "/var/lib/ioto/image.jpg")
///     .bytes("notes", "notes.txt", "text/plain", "all is well");
/// client.post("https://example.com/images").body(upload).send().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "an upload does nothing until it is the body of a request"]
pub struct Multipart {
    boundary: String,
    parts: Vec<Part>,
    /// Text that comes before the next part.
    text: Vec<u8>,
}

impl Multipart {
    /// No parts yet.
    pub fn new() -> Self {
        // No content can have it but by foresight, and this is not to be foreseen.
        let mut random = [0; 16];
        random.fill_with(|| fastrand::u8(..));
        Self { boundary: format!("ioto{}", hex::encode(&random)), parts: Vec::new(), text: Vec::new() }
    }

    /// A field.
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.begin(name, None, None);
        self.text.extend_from_slice(value.as_bytes());
        self.text.extend_from_slice(b"\r\n");
        self
    }

    /// A file of this name, with its bytes in memory.
    pub fn bytes(mut self, name: &str, file: &str, content_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.begin(name, Some(file), Some(content_type));
        self.text.append(&mut bytes.into());
        self.text.extend_from_slice(b"\r\n");
        self
    }

    /// A file, under its own name.
    pub fn file(self, name: &str, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let file = path.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
        self.file_as(name, &path, &file, "application/octet-stream")
    }

    /// A file under another name, with its content type.
    pub fn file_as(mut self, name: &str, path: &Path, file: &str, content_type: &str) -> Self {
        self.begin(name, Some(file), Some(content_type));
        self.parts.push(Part::Bytes(std::mem::take(&mut self.text)));
        self.parts.push(Part::File(path.to_owned()));
        self.text.extend_from_slice(b"\r\n");
        self
    }

    fn begin(&mut self, name: &str, file: Option<&str>, content_type: Option<&str>) {
        let mut head = format!("--{}\r\nContent-Disposition: form-data; name=\"{}\"", self.boundary, quoted(name));
        if let Some(file) = file {
            head.push_str(&format!("; filename=\"{}\"", quoted(file)));
        }
        if let Some(content_type) = content_type {
            let clean: String = content_type.chars().filter(|c| !c.is_control()).collect();
            head.push_str(&format!("\r\nContent-Type: {clean}"));
        }
        head.push_str("\r\n\r\n");
        self.text.extend_from_slice(head.as_bytes());
    }

    /// The content type, and the parts of the body.
    pub(super) fn finish(mut self) -> (String, Vec<Part>) {
        self.text.extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        self.parts.push(Part::Bytes(self.text));
        (format!("multipart/form-data; boundary={}", self.boundary), self.parts)
    }
}

impl Default for Multipart {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Multipart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Multipart").field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}

/// As browsers do (WHATWG HTML §4.10.21.8): what would end the quotes or the line is percent-encoded.
fn quoted(text: &str) -> String {
    text.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_their_line() {
        let upload = Multipart::new().text("a\"b\r\nX: y", "1").bytes("f", "n\".txt", "text/plain\r\nX: y", "2");
        let (content_type, parts) = upload.finish();
        let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
        let [Part::Bytes(bytes)] = &parts[..] else { panic!() };
        let expected = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"a%22b%0D%0AX: y\"\r\n\r\n1\r\n\
             --{boundary}\r\nContent-Disposition: form-data; name=\"f\"; filename=\"n%22.txt\"\r\n\
             Content-Type: text/plainX: y\r\n\r\n2\r\n--{boundary}--\r\n"
        );
        assert_eq!(String::from_utf8_lossy(bytes), expected);
    }
}
