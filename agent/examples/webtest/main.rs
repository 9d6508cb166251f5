//! A server to test HTTP clients against, and the interoperability tests' own: the whole agent with actions of its own.
//!
//! ```sh
//! cargo run --release --example webtest -- --config DIR
//! ```
//!
//! It serves what `DIR/web.json5` says; relative paths there are relative to `DIR`. Its actions are under `/test/` and
//! `/stream/`, see `actions.rs`; they are served where a route has `handler: 'action'`. Also `--listen URL` (repeatable),
//! `--profile dev|prod` (dev when not said), `--state DIR` (a temporary one when not said) and `--exit-after SECS`.

mod actions;
mod crash;
mod show;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use ioto::agent::{self, Options};
use ioto::config::{Invocation, load};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("webtest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == crash::WORKER) {
        return Ok(crash::work()?);
    }
    let mut invocation = Invocation { profile: Some("dev".to_owned()), ..Invocation::default() };
    let mut options = Options { extend: Rc::new(actions::add), ..Options::new() };
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{option}: a value is missing"))?;
        match option.as_str() {
            "--config" => invocation.config_dir = Some(value.into()),
            "--state" => invocation.state_dir = Some(value.into()),
            "--profile" => invocation.profile = Some(value),
            "--listen" => invocation.listen.push(value),
            "--exit-after" => options.exit_after = Some(Duration::from_secs(value.parse()?)),
            _ => return Err(format!("unknown option {option}; the head of main.rs lists them").into()),
        }
    }
    if invocation.config_dir.is_none() {
        return Err("say --config DIR, where web.json5 is".into());
    }
    let state = Temporary::new()?;
    invocation.state_dir.get_or_insert_with(|| state.0.clone());
    let again = invocation.clone();
    // The worker is this program again.
    options.needs.execute(std::env::current_exe()?);
    options.reload =
        Box::new(move || load(&again).map(|loaded| loaded.config).map_err(|problems| problems.to_string()));
    let loaded = load(&invocation).map_err(|problems| problems.to_string())?;
    loaded.warnings.iter().for_each(|warning| eprintln!("webtest: {warning}"));
    agent::run(loaded.config, &options)?;
    Ok(())
}

/// A directory for the state of one run.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Result<Self, std::io::Error> {
        let path = std::env::temp_dir().join(format!("ioto-webtest-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
