//! Python with the packages of the tests.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::repository;

/// The interpreter of the environment that `ci/test` made.
pub fn python() -> Command {
    let environment = env::var_os("IOTO_TEST_VENV").map_or_else(|| repository().join(".venv"), PathBuf::from);
    let program = environment.join("bin/python");
    assert!(program.exists(), "no {}: run `ci/test test`, or set IOTO_TEST_VENV", program.display());
    Command::new(program)
}
