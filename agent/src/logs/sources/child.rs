//! A program whose output is read on the executor.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use smol::{Async, Timer};

use crate::device::die_with_us;

/// What the pipe may hold, if the system allows it.
const PIPE: i32 = 256 * 1024;
/// What is kept of the error output: its end.
const SAID: usize = 500;
/// How long a program that closed its output may take to end.
const LAST: Duration = Duration::from_millis(200);
/// Of the thread that collects a program which does not end at once.
const STACK: usize = 64 * 1024;

/// A running program. It ends with this, and with the thread that started it, and is always collected.
pub(super) struct Child {
    process: Option<std::process::Child>,
    output: Async<OwnedFd>,
    /// Until it ends.
    errors: Option<Async<OwnedFd>>,
    said: Vec<u8>,
}

impl Child {
    /// Starts a program without input and environment.
    pub fn start(program: &Path, arguments: &[&str]) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("LC_ALL", "C").env("SYSTEMD_COLORS", "0");
        // A group of its own: the keyboard's signals are for the agent.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        die_with_us(&mut command);
        let mut process = command.spawn()?;
        let pipes = process.stdout.take().zip(process.stderr.take());
        let mut child = match pipes.map(|(output, errors)| (Async::new(output.into()), Async::new(errors.into()))) {
            Some((Ok(output), Ok(errors))) => {
                Self { process: Some(process), output, errors: Some(errors), said: Vec::new() }
            }
            Some((Err(error), _) | (_, Err(error))) => {
                collect(process);
                return Err(error);
            }
            None => {
                collect(process);
                return Err(io::Error::other("its output cannot be had"));
            }
        };
        // Otherwise it holds less, and the program waits more often.
        let _ = fcntl(&child.output, FcntlArg::F_SETPIPE_SZ(PIPE));
        child.hear();
        Ok(child)
    }

    /// Waits until there is output, or its end.
    pub async fn readable(&mut self) -> io::Result<()> {
        loop {
            let Some(errors) = &self.errors else { return self.output.readable().await };
            let is_output = smol::future::or(async { self.output.readable().await.map(|()| true) }, async {
                errors.readable().await.map(|()| false)
            });
            if is_output.await? {
                return Ok(());
            }
            self.hear();
        }
    }

    /// Reads output: nothing when there is none now, 0 bytes at its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        read(&self.output, buffer)
    }

    /// Waits for the end of a program whose output ended; how it ended, and what it said.
    pub async fn end(&mut self) -> (bool, String) {
        let mut status = None;
        if let Some(process) = &mut self.process {
            let pauses = 20;
            for _ in 0..pauses {
                status = process.try_wait().ok().flatten();
                if status.is_some() {
                    break;
                }
                Timer::after(LAST / pauses).await;
            }
        }
        self.hear();
        let said = String::from_utf8_lossy(&self.said);
        let said = said.trim().lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("; ");
        let how = match status {
            Some(status) => status.to_string(),
            None => "it closed its output".to_owned(),
        };
        let text = if said.is_empty() { how } else { format!("{how}: {said}") };
        (status.is_some_and(|status| status.success()), text)
    }

    /// Takes what is there of the error output.
    fn hear(&mut self) {
        let mut buffer = [0; 1024];
        while let Some(errors) = &self.errors {
            match read(errors, &mut buffer) {
                Ok(None) => return,
                Ok(Some(length)) if length > 0 => {
                    self.said.extend_from_slice(buffer.get(..length).unwrap_or_default());
                    let over = self.said.len().saturating_sub(SAID);
                    self.said.drain(..over);
                }
                _ => self.errors = None,
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            collect(process);
        }
    }
}

/// Ends a program and collects it, without waiting here: a disk that does not answer can hold it for long.
fn collect(mut process: std::process::Child) {
    let _ = process.kill();
    if matches!(process.try_wait(), Ok(None)) {
        let thread = std::thread::Builder::new().name("collect".to_owned()).stack_size(STACK);
        let _ = thread.spawn(move || process.wait());
    }
}

fn read(from: &Async<OwnedFd>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match rustix::io::read(from, &mut *buffer).map_err(io::Error::from) {
            Ok(length) => return Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
