//! `ioto-rescue`: answers on a Unix socket when the agent does not.
//!
//! A front of our own takes all clients, with limits, in one thread; what it finds in order it hands to tiny_http over a few
//! connections that nobody else can make. See the README for what is asked and answered.

mod answers;
mod ask;
mod front;
mod head;
mod inner;
mod log_lines;
mod options;
mod peer;
mod privileges;
mod report;
mod socket;

use std::process::ExitCode;

use ioto_wire::heartbeat::{self, Health};
use ioto_wire::notify::Notify;

use crate::options::{Command, Options};

/// The exit statuses of `check`, as of the init scripts' `status` in the Linux Standard Base.
const HANGS: u8 = 1;
const NOT_RUNNING: u8 = 3;
const UNKNOWN: u8 = 4;
/// The exit status of bad usage.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("ioto-rescue: {problem}\nTry `ioto-rescue --help`.");
            return ExitCode::from(USAGE);
        }
    };
    match options.command {
        Command::Help => say(options::HELP),
        Command::Version => say(concat!("ioto-rescue ", env!("CARGO_PKG_VERSION"))),
        Command::Check => check(&options),
        Command::Status => ask::ask(&options, "GET", "/status"),
        Command::Restart => ask::ask(&options, "POST", "/restart"),
        Command::Serve => match serve(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                eprintln!("ioto-rescue: {problem}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Whether the agent lives, by its heartbeat alone: for supervisors.
fn check(options: &Options) -> ExitCode {
    match heartbeat::read(&options.run) {
        Ok(beat) => {
            say(&beat.describe(options.stale));
            match beat.health(options.stale) {
                Health::Alive => ExitCode::SUCCESS,
                Health::Hanging => ExitCode::from(HANGS),
                Health::Stopped | Health::Dead => ExitCode::from(NOT_RUNNING),
            }
        }
        Err(absent) => {
            say(&absent.to_string());
            ExitCode::from(UNKNOWN)
        }
    }
}

/// Takes what needs root, gives up root, and answers until it is ended.
fn serve(options: &Options) -> Result<(), String> {
    let notify = Notify::from_environment().unwrap_or_else(|problem| {
        eprintln!("ioto-rescue: {problem}");
        Notify::default()
    });
    let identity = privileges::Identity::find(options)?;
    let listener = socket::listen(&options.socket, identity.as_ref())?;
    let allowed = peer::Allowed::find(identity.as_ref());
    let sandbox = privileges::give_up(identity.as_ref(), options)?;
    let connections = inner::start(answers::Answers::new(options, allowed))?;
    eprintln!("ioto-rescue {}: listening on {}; {sandbox}", env!("CARGO_PKG_VERSION"), options.socket.display());
    notify.ready("Listening");
    front::Front::new(listener, connections, options.clients, notify).run()
}

/// Prints a line; a reader that went away has read enough.
fn say(text: &str) -> ExitCode {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
