//! Writing to the terminal or into a pipe whose reader may be gone.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// The exit status of bad usage and of a bad configuration.
pub const USAGE: u8 = 2;

/// Writes to the standard output. A reader that goes away has read enough: that is no failure.
pub fn print(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(&format!("ioto: cannot write: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Writes lines to the standard error; when that is closed, nobody wants to know.
pub fn complain(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.write_all(b"\n"));
}

/// Writes over the line where the terminal is; nothing clears it.
#[cfg(feature = "fetch")]
pub fn complain_in_line(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // Carriage return, the text, erase to the end of the line (ECMA-48, EL).
    let _ = write!(stderr, "\r{text}\x1b[K").and_then(|()| stderr.flush());
}
