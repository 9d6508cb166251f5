//! `ioto run`.

use std::process::ExitCode;

use ioto::agent::{self, Options};
use ioto::config;

use super::args::Args;
use super::config::load;
use super::output::{USAGE, complain};

/// Runs the agent until it is asked to stop.
pub fn main(args: Args) -> ExitCode {
    let exit_after = match args.seconds("exit-after") {
        Ok(exit_after) => exit_after,
        Err(usage) => return usage.complain(),
    };
    let loaded = match load(&args) {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let again = move || {
        config::load(&args.invocation())
            .map(|loaded| loaded.config)
            .map_err(|all| all.to_string().trim_end().replace('\n', "; "))
    };
    match agent::run(loaded.config, &Options { exit_after, reload: Box::new(again), ..Options::new() }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("ioto: {error}"));
            if error.is_configuration() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}
