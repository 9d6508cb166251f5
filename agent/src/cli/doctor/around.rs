//! What the checks look at: the configuration, the running agent, its answer.

use std::time::Duration;

use ioto::config::{self, Config};
use nix::unistd::User;
use serde_json::Value;

use super::process::Process;
use crate::cli::args::Args;

/// For an agent that hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that was found out before the checks.
pub struct Around {
    /// That of the files; the default one when they are wrong.
    pub config: Config,
    /// What is wrong in the files.
    pub problems: Option<String>,
    pub warnings: Vec<String>,
    /// The process that listens on the agent's socket.
    pub process: Option<Process>,
    /// What it answered to the question for its status, or why there is no answer.
    pub status: Result<Value, String>,
}

impl Around {
    /// Looks.
    pub fn look(args: &Args) -> Self {
        let (config, problems, warnings) = match config::load(&args.invocation()) {
            Ok(loaded) => (loaded.config, None, loaded.warnings),
            Err(problems) => (Config::default(), Some(problems.to_string().trim_end().to_owned()), Vec::new()),
        };
        let socket = config.directories.api_socket();
        // The kernel tells who listens there, also when it does not answer any more; one that does not even accept is not waited for.
        let peer = ioto_wire::connect_within(&socket, PATIENCE).ok().and_then(|stream| ioto_wire::peer(&stream).ok());
        let process = peer.and_then(|(_, pid)| Process::read(pid));
        let status = ask(&config);
        Self { config, problems, warnings, process, status }
    }

    /// Whether the agent is run as on a device.
    pub fn is_device(&self) -> bool {
        self.config.profile == config::Profile::Prod
    }

    /// Who the agent is, or shall be when it is started by root.
    pub fn uid(&self) -> Option<u32> {
        let configured = || User::from_name(&self.config.sandbox.user).ok().flatten().map(|user| user.uid.as_raw());
        self.process.as_ref().and_then(|process| process.threads.first()?.uid).or_else(configured)
    }
}

#[cfg(feature = "web")]
fn ask(config: &Config) -> Result<Value, String> {
    use ioto::http1::Method;
    let client = ioto::api::Client::new(config.directories.api_socket()).patience(PATIENCE);
    match client.request(Method::Get, "/api/status", None) {
        Ok((200, status)) => Ok(status),
        Ok((status, body)) => Err(format!("the agent answered {status}: {body}")),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(not(feature = "web"))]
fn ask(_: &Config) -> Result<Value, String> {
    Err("this build has no local API: it needs the feature `web`".to_owned())
}
