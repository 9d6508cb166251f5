//! `ioto doctor`: looks at the agent, its sandbox and the machine, and says of each point whether it is well and what to do.
//!
//! Each file here has the checks of one subject. Another subject is another file and a row in [`CHECKS`].

mod agent;
mod around;
mod certificates;
mod configuration;
mod directories;
mod machine;
mod neighbours;
mod process;
mod report;
mod sandbox;
mod service;

use std::process::ExitCode;

use serde_json::json;

use self::around::Around;
use self::report::Report;
use super::args::Args;
use super::output::print;

/// The subjects in the order in which they are shown.
const CHECKS: [fn(&Around, &mut Report); 8] = [
    configuration::check,
    agent::check,
    sandbox::check,
    service::check,
    neighbours::check,
    directories::check,
    certificates::check,
    machine::check,
];

/// Checks everything. Exit status 1 when something failed.
pub fn main(args: Args) -> ExitCode {
    let around = Around::look(&args);
    let mut report = Report::default();
    CHECKS.iter().for_each(|check| check(&around, &mut report));
    let status = match args.flag("json") {
        true => print(&format!("{:#}\n", json!({"ok": !report.has_failed(), "checks": report.to_json()}))),
        false => print(&report.to_string()),
    };
    if report.has_failed() { ExitCode::FAILURE } else { status }
}
