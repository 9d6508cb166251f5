//! `ioto config check` and `ioto config show`.

use std::process::ExitCode;

use ioto::config::{self, Loaded};

use super::args::Args;
use super::output::{USAGE, complain, print};

/// Says all that is wrong with the configuration.
pub fn check(args: Args) -> ExitCode {
    match load(&args) {
        Ok(loaded) => {
            warn_of_users(&loaded);
            match check_signatures(&loaded).and_then(|()| check_schema(&loaded)) {
                Ok(()) => print("The configuration is valid.\n"),
                Err(problems) => {
                    complain(&problems);
                    ExitCode::from(USAGE)
                }
            }
        }
        Err(status) => status,
    }
}

#[cfg(feature = "users")]
fn warn_of_users(loaded: &Loaded) {
    let warnings = ioto::web::auth::warnings(&loaded.config.web.auth);
    warnings.iter().for_each(|warning| complain(&format!("Warning: {warning}")));
}

#[cfg(not(feature = "users"))]
fn warn_of_users(_: &Loaded) {}

#[cfg(feature = "web")]
fn check_signatures(loaded: &Loaded) -> Result<(), String> {
    match loaded.config.services.web {
        true => ioto::web::check_signatures(&loaded.config.web).map_err(|error| error.to_string()),
        false => Ok(()),
    }
}

#[cfg(not(feature = "web"))]
fn check_signatures(_: &Loaded) -> Result<(), String> {
    Ok(())
}

#[cfg(feature = "db")]
fn check_schema(loaded: &Loaded) -> Result<(), String> {
    match loaded.config.services.database {
        true => ioto::db::Schema::load(&loaded.config.database.schema).map(drop).map_err(|error| error.to_string()),
        false => Ok(()),
    }
}

#[cfg(not(feature = "db"))]
fn check_schema(_: &Loaded) -> Result<(), String> {
    Ok(())
}

/// Shows the configuration in effect.
pub fn show(args: Args) -> ExitCode {
    let loaded = match load(&args) {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let origins = args.flag("origin");
    match args.flag("json") {
        true => print(&format!("{:#}\n", loaded.effective.to_json(origins))),
        false => print(&loaded.effective.to_json5(origins)),
    }
}

/// Loads the configuration as `args` say it, with warnings on the standard error; or tells what is wrong there, a line each.
///
/// # Errors
/// The exit status with which the program is to end.
pub fn load(args: &Args) -> Result<Loaded, ExitCode> {
    match config::load(&args.invocation()) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| complain(&format!("Warning: {warning}")));
            Ok(loaded)
        }
        Err(problems) => {
            complain(problems.to_string().trim_end());
            Err(ExitCode::from(USAGE))
        }
    }
}
