//! `ioto password` of a build without users.

use std::process::ExitCode;

use super::args::Args;
use super::output::complain;

/// Says that it cannot be carried out.
pub fn main(_: Args) -> ExitCode {
    complain("ioto: this build has no users: it needs the feature `users`");
    ExitCode::FAILURE
}

/// Nobody is asked by this build.
#[cfg(feature = "fetch")]
pub fn ask_once() -> Result<String, String> {
    Err("this build asks for no passwords; write NAME:PASSWORD".into())
}
