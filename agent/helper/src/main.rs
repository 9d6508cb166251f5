//! `ioto-helper`: does, as root and for the agent alone, the few things that need root.
//!
//! The serving process only listens, checks who asks, parses and writes the audit log. Each verb is carried out by a child
//! (this program again), which first gives up all that the verb does not need.

mod answering;
mod apply;
mod audit;
mod child;
mod files;
mod os_log;
mod peer;
mod programs;
mod sandbox;
mod serve;
mod settings;
mod socket;
mod stage;
mod verbs;

use ioto_wire::{Client, HELPER_SOCKET, Outcome, Request};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

const HELP: &str = "\
Does, as root and for the agent alone, the few things that need root.

Usage: ioto-helper [--idle SECS]          serve: on the socket of the service manager, else on /run/ioto/helper.sock
       ioto-helper apply                  at boot: finish a factory reset, apply the settings again that were made
       ioto-helper ask [--socket PATH] VERB [JSON]
                                          ask the helper that serves, with the arguments as an object, for example
                                          ioto-helper ask hostname '{\"name\":\"pump-7\"}'
       ioto-helper --help | --version

Verbs: ping reboot restart hostname time zone network install mark reset
--idle  end after so long without a client; default: 30 when the service manager made the socket, else never
Exit status: 0 done, 1 failed or refused, 2 bad usage.
Audit log: /var/lib/ioto-helper/audit.log";

fn main() -> ExitCode {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => ended(serve::serve(None)),
        ["--idle", seconds] => match seconds.parse() {
            Ok(seconds) => ended(serve::serve(Some(Duration::from_secs(seconds)))),
            Err(_) => bad_usage("--idle takes a number of seconds"),
        },
        ["apply"] => ended(apply::apply()),
        ["carry-out", stage] => child::carry_out(stage),
        ["ask", "--socket", socket, verb] => ask(socket, verb, "{}"),
        ["ask", "--socket", socket, verb, json] => ask(socket, verb, json),
        ["ask", verb] => ask(HELPER_SOCKET, verb, "{}"),
        ["ask", verb, json] => ask(HELPER_SOCKET, verb, json),
        ["--help" | "-h"] => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        ["--version" | "-V"] => {
            println!("ioto-helper {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => bad_usage("these arguments are not known"),
    }
}

fn ended(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            os_log::write(os_log::Level::Error, &text);
            ExitCode::FAILURE
        }
    }
}

fn bad_usage(text: &str) -> ExitCode {
    eprintln!("ioto-helper: {text}; see ioto-helper --help");
    ExitCode::from(2)
}

fn ask(socket: &str, verb: &str, arguments: &str) -> ExitCode {
    let Ok(Value::Object(arguments)) = serde_json::from_str(arguments) else {
        return bad_usage("the arguments of a verb are one JSON object");
    };
    let mut request = json!({"version": ioto_wire::VERSION, "verb": verb});
    for (name, value) in arguments {
        request[name] = value;
    }
    let request = match Request::decode(request.to_string().as_bytes()) {
        Ok(request) => request,
        Err(error) => return bad_usage(&format!("{verb}: {error}")),
    };
    match Client::at(socket).ask(&request) {
        Ok(answer) => {
            println!("{}: {}", answer.outcome.name(), answer.text);
            if answer.outcome == Outcome::Done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("ioto-helper: {error}");
            ExitCode::FAILURE
        }
    }
}
