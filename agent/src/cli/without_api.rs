//! `ioto status` of a build without the local API.

use std::process::ExitCode;

use super::args::Args;
use super::output::complain;

/// Says that it cannot be carried out.
pub fn main(_: Args) -> ExitCode {
    complain("ioto: this build has no local API: it needs the feature `web`");
    ExitCode::FAILURE
}
