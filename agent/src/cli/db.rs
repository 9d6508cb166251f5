//! `ioto db`.

use std::process::ExitCode;

use super::args::{Args, Usage};
use super::config;
use super::output::complain;

/// Carries out `ioto db`.
pub fn main(args: Args) -> ExitCode {
    if args.words.is_empty() {
        return Usage("expected a verb after `ioto db`".into()).complain();
    }
    match config::load(&args) {
        Ok(_) => {
            complain("ioto: cannot open the database: this build is without it");
            ExitCode::FAILURE
        }
        Err(status) => status,
    }
}
