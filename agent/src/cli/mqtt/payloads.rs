//! What `ioto mqtt pub` sends: a text, a file, the standard input as a whole or by line.

use std::io::{BufRead, Read};
use std::path::PathBuf;

use super::super::args::{Args, Usage};
use super::Failure;

/// Bytes of one payload: no broker takes more [MQTT 3.1.1 §2.2.3].
const MAX_PAYLOAD: u64 = 268_435_455;

/// Where the payloads come from.
#[derive(Debug, PartialEq)]
pub enum Payloads {
    /// The payload itself.
    Given(Vec<u8>),
    File(PathBuf),
    Input,
    Lines,
    /// All are taken.
    Done,
}

impl Payloads {
    pub fn read(args: &Args) -> Result<Self, Usage> {
        let mut found = Vec::new();
        for (name, value) in args.all() {
            match name {
                "message" => found.push(Self::Given(value.to_string_lossy().into_owned().into_bytes())),
                "file" => found.push(Self::File(value.into())),
                "stdin-file" => found.push(Self::Input),
                "stdin-line" => found.push(Self::Lines),
                "null-message" => found.push(Self::Given(Vec::new())),
                _ => {}
            }
        }
        match (found.pop(), found.is_empty()) {
            (Some(payloads), true) => Ok(payloads),
            (None, _) => Err(Usage("a payload is needed: one of -m, -f, -s, -l and -n".into())),
            (Some(_), false) => Err(Usage("there is more than one of -m, -f, -s, -l and -n".into())),
        }
    }

    /// The next payload; blocks while the input has none.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match std::mem::replace(self, Self::Done) {
            Self::Given(payload) => Ok(Some(payload)),
            Self::File(path) => {
                let whole = std::fs::File::open(&path).and_then(whole);
                whole.map(Some).map_err(|error| Failure(format!("{}: cannot be read: {error}", path.display())))
            }
            Self::Input => Ok(Some(whole(std::io::stdin())?)),
            Self::Lines => {
                let mut line = Vec::new();
                if std::io::stdin().lock().take(MAX_PAYLOAD).read_until(b'\n', &mut line)? == 0 {
                    return Ok(None);
                }
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                *self = Self::Lines;
                Ok(Some(line))
            }
            Self::Done => Ok(None),
        }
    }
}

fn whole(input: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(MAX_PAYLOAD).read_to_end(&mut bytes)?;
    Ok(bytes)
}
