//! What is sent: `-d` and its relatives, `-F` and `-T`.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ioto::fetch::{Body, Multipart};
use smol::Unblock;

use super::failure::Failure;
use crate::cli::args::Args;

/// Bytes of `-d @FILE`, which are held in memory; larger files go with `-T`.
const LARGEST: u64 = 64 * 1024 * 1024;

/// A body that can be made anew for each request.
#[derive(Debug, Default)]
pub enum Data {
    /// None.
    #[default]
    Nothing,
    /// In memory, with its content type.
    Bytes(Vec<u8>, &'static str),
    /// A form as browsers upload it.
    Form(Vec<Field>),
    /// A file that is read while it is sent.
    File(PathBuf),
    /// The standard input.
    Input,
}

/// One `-F`.
#[derive(Debug, PartialEq, Eq)]
pub enum Field {
    /// `NAME=VALUE` or `NAME=<FILE`.
    Text(String, String),
    /// `NAME=@FILE`: the name, the file, what it is called, its content type.
    File(String, PathBuf, String, String),
}

impl Data {
    /// Of the options.
    pub fn read(args: &Args) -> Result<Self, Failure> {
        let (mut text, mut json, mut form, mut upload) = (None, None, Vec::new(), None);
        for (name, value) in args.all() {
            match name {
                "data" => append(&mut text, b"&", without_line_ends(bytes(value, true)?)),
                "data-raw" => append(&mut text, b"&", bytes(value, false)?),
                "data-binary" => append(&mut text, b"&", bytes(value, true)?),
                "data-urlencode" => append(&mut text, b"&", urlencoded(value)?),
                "json" => append(&mut json, b"", bytes(value, true)?),
                "form" => form.push(Field::parse(name_of(value)?)?),
                "upload-file" => upload = Some(PathBuf::from(value)),
                _ => {}
            }
        }
        let data = match (text, json, form.is_empty(), upload) {
            (None, None, true, None) => Self::Nothing,
            (Some(text), None, true, None) => Self::Bytes(text, "application/x-www-form-urlencoded"),
            (None, Some(json), true, None) => Self::Bytes(json, "application/json"),
            (None, None, false, None) => Self::Form(form),
            (None, None, true, Some(file)) if file.as_os_str() == "-" => Self::Input,
            (None, None, true, Some(file)) => Self::File(file),
            _ => return Err(Failure::usage("a request has one body: one of -d, --json, -F and -T")),
        };
        Ok(data)
    }

    /// For one request.
    pub fn body(&self) -> Body {
        match self {
            Self::Nothing => Body::empty(),
            Self::Bytes(bytes, _) => Body::bytes(bytes.clone()),
            Self::File(path) => Body::file(path),
            Self::Input => Body::reader(None, Unblock::new(std::io::stdin())),
            Self::Form(fields) => {
                let upload = fields.iter().fold(Multipart::new(), |upload, field| match field {
                    Field::Text(name, value) => upload.text(name, value),
                    Field::File(name, path, called, kind) => upload.file_as(name, path, called, kind),
                });
                upload.into()
            }
        }
    }

    /// The content type when the caller names none; a form brings its own.
    pub fn content_type(&self) -> Option<&'static str> {
        match self {
            Self::Bytes(_, kind) => Some(kind),
            _ => None,
        }
    }

    /// The method that follows from it.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Nothing => "GET",
            Self::Bytes(..) | Self::Form(_) => "POST",
            Self::File(_) | Self::Input => "PUT",
        }
    }

    /// For the query of a URL, and nothing is left (`-G`).
    pub fn take_query(&mut self) -> Result<String, Failure> {
        match std::mem::take(self) {
            Self::Nothing => Ok(String::new()),
            Self::Bytes(bytes, _) => {
                String::from_utf8(bytes).map_err(|_| Failure::usage("-G: the data is no text; try --data-urlencode"))
            }
            _ => Err(Failure::usage("-G goes with -d, --data-binary and --data-urlencode")),
        }
    }
}

impl Field {
    fn parse(text: &str) -> Result<Self, Failure> {
        let (name, value) =
            text.split_once('=').ok_or_else(|| Failure::usage(format!("-F {text}: expected NAME=VALUE")))?;
        if let Some(path) = value.strip_prefix('<') {
            let value = String::from_utf8(read_file(path)?)
                .map_err(|_| Failure::new(Failure::READ, format!("{path} is no text in UTF-8")))?;
            return Ok(Self::Text(name.into(), value));
        }
        let Some(file) = value.strip_prefix('@') else { return Ok(Self::Text(name.into(), value.into())) };
        let mut parts = file.split(';');
        let path = PathBuf::from(parts.next().unwrap_or_default());
        let mut called = path.file_name().unwrap_or(OsStr::new("file")).to_string_lossy().into_owned();
        let mut kind = content_type_of(&path).to_owned();
        for part in parts {
            match part.trim().split_once('=') {
                Some(("type", value)) => kind = value.into(),
                Some(("filename", value)) => called = value.trim_matches('"').into(),
                _ => return Err(Failure::usage(format!("-F {text}: expected ;type=… or ;filename=…, found ;{part}"))),
            }
        }
        Ok(Self::File(name.into(), path, called, kind))
    }
}

/// As curl knows them; the server decides anyway.
fn content_type_of(path: &Path) -> &'static str {
    match path.extension().and_then(OsStr::to_str) {
        Some("gif") => "image/gif",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("png") => "image/png",
        Some("svg") => "image/svg+xml",
        Some("txt" | "log") => "text/plain",
        Some("htm" | "html") => "text/html",
        Some("pdf") => "application/pdf",
        Some("xml") => "application/xml",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

fn append(to: &mut Option<Vec<u8>>, between: &[u8], mut bytes: Vec<u8>) {
    match to {
        None => *to = Some(bytes),
        Some(before) => {
            before.extend_from_slice(between);
            before.append(&mut bytes);
        }
    }
}

fn name_of(value: &OsStr) -> Result<&str, Failure> {
    value.to_str().ok_or_else(|| Failure::usage(format!("{value:?} is not UTF-8")))
}

/// The text itself, or what is in the file behind an `@`.
fn bytes(value: &OsStr, files: bool) -> Result<Vec<u8>, Failure> {
    let text = name_of(value)?;
    match text.strip_prefix('@').filter(|_| files) {
        Some(path) => read_file(path),
        None => Ok(text.into()),
    }
}

fn without_line_ends(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
    bytes
}

/// `TEXT`, `=TEXT`, `NAME=TEXT`, `@FILE` or `NAME@FILE`; the name is taken as it is.
fn urlencoded(value: &OsStr) -> Result<Vec<u8>, Failure> {
    let text = name_of(value)?;
    let (name, content) = match text.find(['=', '@']).map(|at| (at, text.split_at(at))) {
        None => ("", text.as_bytes().to_vec()),
        Some((_, (name, rest))) => match rest.strip_prefix('@') {
            Some(path) => (name, read_file(path)?),
            None => (name, rest.as_bytes().get(1..).unwrap_or_default().to_vec()),
        },
    };
    let mut encoded = match name {
        "" => String::new(),
        name => format!("{name}="),
    };
    for byte in content {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            b' ' => encoded.push('+'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(encoded.into())
}

/// A file, or the standard input (`-`).
pub fn read_file(path: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = match path {
        "-" => std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes),
        path => File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)),
    };
    match read {
        Err(error) => Err(Failure::read(path, &error)),
        Ok(_) if bytes.len() as u64 > LARGEST => {
            Err(Failure::new(Failure::READ, format!("{path} is larger than 64 MiB; send it with -T")))
        }
        Ok(_) => Ok(bytes),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn data_is_encoded_as_curl_does() {
        for (text, encoded) in
            [("a b&c", "a+b%26c"), ("=a=b", "a%3Db"), ("name=a b", "name=a+b"), ("n~=\u{fc}", "n~=%C3%BC"), ("", "")]
        {
            assert_eq!(urlencoded(OsStr::new(text)).unwrap(), encoded.as_bytes(), "{text}");
        }
        assert_eq!(without_line_ends(b"a\r\nb\0\n".to_vec()), b"ab");
        assert_eq!(bytes(OsStr::new("@none"), false).unwrap(), b"@none");
        assert_eq!(bytes(OsStr::new("@/does/not/exist"), true).unwrap_err().status, Failure::READ);
    }

    #[test]
    fn fields_of_a_form_are_texts_or_files() {
        let parse = |text: &str| Field::parse(text);
        assert_eq!(parse("a=b=c").unwrap(), Field::Text("a".into(), "b=c".into()));
        assert_eq!(
            parse("a=@/tmp/x.png").unwrap(),
            Field::File("a".into(), "/tmp/x.png".into(), "x.png".into(), "image/png".into())
        );
        assert_eq!(
            parse("a=@x;type=text/css;filename=\"y.css\"").unwrap(),
            Field::File("a".into(), "x".into(), "y.css".into(), "text/css".into())
        );
        assert!(parse("a").is_err() && parse("a=@x;b").is_err());
    }
}
