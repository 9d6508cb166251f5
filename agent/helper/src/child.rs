//! The child that carries out a stage: this program again, with the request on its standard input, a socket.

use crate::sandbox;
use crate::stage::Stage;
use crate::verbs;
use ioto_wire::{Answer, FrameError, Outcome, Request, Timed, read_frame, write_frame};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Time to hand the request over.
const HANDING: Duration = Duration::from_secs(5);

/// Starts the child and waits for its answer.
pub fn run(stage: Stage, request: &Request) -> Answer {
    match start(stage) {
        Ok((mut child, ours)) => {
            let answer = talk(&ours, stage, request);
            end(&mut child, stage, answer.is_ok());
            answer.unwrap_or_else(|error| {
                Answer::new(Outcome::Failed, format!("the stage {} did not say how it ended: {error}", stage.name()))
            })
        }
        Err(error) => Answer::new(Outcome::Failed, format!("the stage {} can not be started: {error}", stage.name())),
    }
}

fn start(stage: Stage) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = Command::new("/proc/self/exe")
        .args(["carry-out", stage.name()])
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()?;
    Ok((child, ours))
}

fn talk(ours: &UnixStream, stage: Stage, request: &Request) -> Result<Answer, FrameError> {
    write_frame(&mut Timed::new(ours, HANDING), &request.encode()).map_err(FrameError::Io)?;
    let answer = read_frame(&mut Timed::new(ours, stage.limit()))?;
    Answer::decode(&answer).map_err(|error| FrameError::Io(io::Error::other(error)))
}

/// One that answered ends by itself, and what it started may go on. One that did not is killed with all that it started.
fn end(child: &mut Child, stage: Stage, answered: bool) {
    let until = Instant::now() + Duration::from_secs(2);
    while answered && Instant::now() < until {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
    // Not yet waited for, so its number can not be that of another.
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    if let Err(error) = child.wait() {
        crate::os_log::write(crate::os_log::Level::Error, &format!("the stage {}: {error}", stage.name()));
    }
}

/// The child itself.
pub fn carry_out(stage: &str) -> ExitCode {
    let Some(stage) = Stage::ALL.into_iter().find(|known| known.name() == stage) else {
        return crate::bad_usage("this stage is not known");
    };
    let Ok(stream) = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return ExitCode::FAILURE;
    };
    let answer = match hear(&stream) {
        Ok(request) => work(stage, &request),
        Err(error) => Answer::new(Outcome::Failed, error),
    };
    match write_frame(&mut Timed::new(&stream, HANDING), &answer.encode()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn hear(stream: &UnixStream) -> Result<Request, String> {
    let frame = read_frame(&mut Timed::new(stream, HANDING)).map_err(|error| error.to_string())?;
    Request::decode(&frame).map_err(|error| error.to_string())
}

fn work(stage: Stage, request: &Request) -> Answer {
    if let Err(error) = verbs::prepare(stage).and_then(|()| sandbox::enter(stage)) {
        return Answer::new(Outcome::Failed, format!("the rights for {} can not be reduced: {error}", stage.name()));
    }
    match verbs::work(stage, request) {
        Ok(text) => Answer::new(Outcome::Done, text),
        Err(text) => Answer::new(Outcome::Failed, text),
    }
}
