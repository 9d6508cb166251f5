//! `ioto status`.

use std::process::ExitCode;

use super::args::Args;
use super::config;
use super::output::complain;

/// Carries out `ioto status`.
pub fn main(args: Args) -> ExitCode {
    match config::load(&args) {
        Ok(_) => {
            complain("ioto: cannot ask the agent: this build is without it");
            ExitCode::FAILURE
        }
        Err(status) => status,
    }
}
