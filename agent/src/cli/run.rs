//! `ioto run`.

use std::process::ExitCode;

use super::args::Args;
use super::config;
use super::output::complain;

/// Carries out `ioto run`.
pub fn main(args: Args) -> ExitCode {
    if let Err(usage) = args.seconds("exit-after") {
        return usage.complain();
    }
    match config::load(&args) {
        Ok(_) => {
            complain("ioto: cannot start the agent: this build is without it");
            ExitCode::FAILURE
        }
        Err(status) => status,
    }
}
