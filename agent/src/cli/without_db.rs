//! `ioto db` of a build without the database or without the local API.

use std::process::ExitCode;

use super::args::{Args, Usage};
use super::output::complain;

/// Says that it cannot be carried out.
pub fn main(args: Args) -> ExitCode {
    if args.words.is_empty() {
        return Usage("expected a verb after `ioto db`".into()).complain();
    }
    complain("ioto: this build has no database: it needs the features `db` and `web`");
    ExitCode::FAILURE
}
