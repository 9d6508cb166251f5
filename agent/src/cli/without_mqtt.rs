//! `ioto mqtt` of a build without the MQTT client or the local API.

use std::process::ExitCode;

use super::args::Args;
use super::commands::Opt;
use super::output::complain;

/// None.
pub const PUB: &[Opt] = &[];
/// None.
pub const SUB: &[Opt] = &[];

/// Says that it cannot be carried out.
pub fn publish(_: Args) -> ExitCode {
    complain("ioto: this build has no MQTT client with a local API: it needs the features `mqtt` and `web`");
    ExitCode::FAILURE
}

/// Says that it cannot be carried out.
pub fn subscribe(args: Args) -> ExitCode {
    publish(args)
}
