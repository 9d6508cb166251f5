//! Other programs: found at fixed places, started without a shell and environment, for a limited time.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

const PLACES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Of what a program says, the end is kept.
const MAX_OUTPUT: usize = 1500;

/// Whether systemd runs this device [sd_booted(3)].
pub fn systemd() -> bool {
    fs::symlink_metadata("/run/systemd/system").is_ok_and(|found| found.is_dir())
}

/// A program by its name, when the device has it.
pub fn find(name: &str) -> Option<PathBuf> {
    PLACES.iter().map(|place| Path::new(place).join(name)).find(|path| executable(path))
}

fn executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// A program of the integrator: it and its directory belong to root, and nobody else may change them.
pub fn own(path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let safe = |path: &Path| fs::metadata(path).is_ok_and(|found| found.uid() == 0 && found.mode() & 0o022 == 0);
    (executable(path) && safe(path) && path.parent().is_some_and(safe)).then(|| path.into())
}

/// Runs a program to its end; what it said last. An error says so, too.
pub fn run(program: &Path, arguments: &[&str], limit: Duration) -> Result<String, String> {
    let failed = |error: io::Error| format!("{} can not be run: {error}", program.display());
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let theirs = OwnedFd::from(theirs);
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(theirs.try_clone().map_err(failed)?)
        .stderr(theirs)
        .spawn()
        .map_err(failed)?;
    let mut output = Vec::new();
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    match wait(&mut child, &ours, &mut output, limit).map_err(failed)? {
        Some(status) if status.success() => Ok(said(&output)),
        Some(status) => Err(format!("{name} ended with {status}: {}", said(&output))),
        None => Err(format!("{name} was killed after {} s: {}", limit.as_secs(), said(&output))),
    }
}

/// Until the program ends; what it started may keep its output open and is not waited for. None: the time was over.
fn wait(
    child: &mut Child,
    output: &UnixStream,
    kept: &mut Vec<u8>,
    limit: Duration,
) -> io::Result<Option<std::process::ExitStatus>> {
    let until = Instant::now() + limit;
    output.set_read_timeout(Some(Duration::from_millis(20)))?;
    let mut buffer = [0; 1024];
    loop {
        // Asked first: what it said before its end is read then.
        let ended = child.try_wait()?;
        let more = match (&mut &*output).read(&mut buffer) {
            Ok(0) => {
                std::thread::sleep(Duration::from_millis(if ended.is_some() { 0 } else { 10 }));
                false
            }
            Ok(count) => {
                kept.extend_from_slice(&buffer[..count]);
                kept.drain(..kept.len().saturating_sub(MAX_OUTPUT));
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => false,
            Err(error) => return Err(error),
        };
        if ended.is_some() && (!more || Instant::now() >= until) {
            return Ok(ended);
        }
        if Instant::now() >= until {
            if let Ok(group) = i32::try_from(child.id()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            child.wait()?;
            return Ok(None);
        }
    }
}

fn said(output: &[u8]) -> String {
    String::from_utf8_lossy(output).trim().replace('\n', "; ")
}

/// Starts a program in a session of its own, with nothing of ours: for an init script, whose services stay.
pub fn run_apart(program: &Path, arguments: &[&str], limit: Duration) -> Result<String, String> {
    match find("setsid") {
        Some(setsid) => {
            let program = program.to_string_lossy();
            let mut all = vec![&*program];
            all.extend(arguments);
            // It is no leader of a group, so it makes the session and becomes the program: there is nothing to wait for,
            // which BusyBox's could not.
            run_silent(Command::new(&setsid), &setsid, &all, limit)
        }
        None => {
            let mut command = Command::new(program);
            command.process_group(0);
            run_silent(command, program, arguments, limit)
        }
    }
}

fn run_silent(mut command: Command, program: &Path, arguments: &[&str], limit: Duration) -> Result<String, String> {
    let failed = |error: io::Error| format!("{} can not be run: {error}", program.display());
    let mut child = command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let until = Instant::now() + limit;
    loop {
        match child.try_wait().map_err(failed)? {
            Some(status) if status.success() => return Ok(String::new()),
            Some(status) => return Err(format!("{} {} ended with {status}", program.display(), arguments.join(" "))),
            None if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{} was killed after {} s", program.display(), limit.as_secs()));
            }
        }
    }
}
