//! `ioto fetch` of a build without the HTTP client.

use std::process::ExitCode;

use super::args::Args;
use super::commands::Opt;
use super::output::complain;

/// What its help says.
pub const DETAILS: &str = "This build has no HTTP client: it needs the feature `fetch`.";
/// Its options.
pub const OPTIONS: &[Opt] = &[];

/// Says that it cannot be carried out.
pub fn main(_: Args) -> ExitCode {
    complain("ioto: this build has no HTTP client: it needs the feature `fetch`");
    ExitCode::FAILURE
}
