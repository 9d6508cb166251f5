//! Asking a running ioto-rescue from the command line.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use crate::options::Options;

/// Longer than the server takes for any answer.
const PATIENCE: Duration = Duration::from_secs(50);
/// Bytes of an answer.
const MAX_ANSWER: u64 = 1024 * 1024;

/// Asks, and prints the answer; success is a status below 400.
pub fn ask(options: &Options, method: &str, target: &str) -> ExitCode {
    match exchange(options, method, target) {
        Ok((status, body)) => {
            let code = if status < 400 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            // Who owns the run directory may have put a server of its own there, which shall not speak to a terminal.
            crate::say(&body.trim_end().replace(|c: char| c.is_control() && c != '\n', " "));
            code
        }
        Err(error) => {
            let hint = match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => "; is the service ioto-rescue started?",
                ErrorKind::PermissionDenied => "; only root and the group ioto may ask it",
                _ => "",
            };
            eprintln!("ioto-rescue: {}: {error}{hint}", options.socket.display());
            ExitCode::FAILURE
        }
    }
}

fn exchange(options: &Options, method: &str, target: &str) -> io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(&options.socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    match (status, answer.split_once("\r\n\r\n")) {
        (Some(status), Some((_, body))) => Ok((status, body.to_owned())),
        _ => Err(io::Error::new(ErrorKind::InvalidData, "the answer is not HTTP")),
    }
}
