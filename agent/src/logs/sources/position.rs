//! Where the files of a source were left, as the text that is kept.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::fingerprint::{HEAD, Print};

/// A file, whatever its name is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Id {
    pub device: u64,
    pub inode: u64,
}

/// How far a file was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub path: PathBuf,
    pub id: Id,
    /// Behind the last record that was passed on.
    pub done: u64,
    /// The front of the file.
    pub head: Print,
    /// The last line before `done`.
    pub line: Print,
    /// When the file was last written to, in nanoseconds, as it was last seen.
    pub modified: i64,
    /// It was rotated, and read to its end.
    pub is_over: bool,
}

/// The places as a text.
pub(super) fn write(places: impl Iterator<Item = Place>) -> String {
    let files: Vec<_> = places
        .map(|place| {
            json!({
                "p": place.path.as_os_str().to_str().map_or_else(|| Value::from(place.path.as_os_str().as_bytes()), Value::from),
                "d": place.id.device,
                "i": place.id.inode,
                "o": place.done,
                "h": [place.head.length as u64, place.head.hash],
                "l": [place.line.at, place.line.length as u64, place.line.hash],
                "m": place.modified,
                "r": u8::from(place.is_over),
            })
        })
        .collect();
    json!({"v": 1, "files": files}).to_string()
}

/// The places in a text; nothing when it is none that was written here.
pub(super) fn read(text: &str) -> Option<Vec<Place>> {
    let value: Value = serde_json::from_str(text).ok()?;
    (value.get("v")?.as_u64()? == 1).then_some(())?;
    value.get("files")?.as_array()?.iter().map(place).collect()
}

fn place(value: &Value) -> Option<Place> {
    let number = |key: &str| value.get(key)?.as_u64();
    let item = |key: &str, index: usize| value.get(key)?.get(index)?.as_u64();
    let length =
        |key: &str, index| item(key, index).and_then(|length| usize::try_from(length).ok()).filter(|l| *l <= HEAD);
    let path = match value.get("p")? {
        Value::String(path) => PathBuf::from(path),
        bytes => {
            let bytes: Option<Vec<u8>> =
                bytes.as_array()?.iter().map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
            PathBuf::from(OsStr::from_bytes(&bytes?))
        }
    };
    Some(Place {
        path,
        id: Id { device: number("d")?, inode: number("i")? },
        done: number("o")?,
        head: Print { at: 0, length: length("h", 0)?, hash: item("h", 1)? },
        line: Print { at: item("l", 0)?, length: length("l", 1)?, hash: item("l", 2)? },
        modified: value.get("m")?.as_i64()?,
        is_over: number("r")? != 0,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_being_written() {
        let place = Place {
            path: OsStr::from_bytes(b"/var/log/\xff").into(),
            id: Id { device: u64::MAX, inode: 3 },
            done: 1 << 60,
            head: Print { at: 0, length: 256, hash: u64::MAX },
            line: Print { at: 9, length: 64, hash: 1 },
            modified: -5,
            is_over: true,
        };
        let other = Place { path: "/var/log/ä".into(), ..Place::default() };
        let text = write([place.clone(), other.clone()].into_iter());
        assert_eq!(read(&text).unwrap(), [place, other]);
        for bad in
            ["", "{}", "[]", "{\"v\":2,\"files\":[]}", "{\"v\":1,\"files\":[{}]}", &text.replace("[256,", "[257,")]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
