//! What `ioto status`, the page and the API show of the agent.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::Board;
use crate::config::{Config, Profile};
use crate::device::Facts;
use crate::system::sandbox;

/// The sources of the status; asked anew each time somebody looks.
pub struct Status {
    id: String,
    profile: Profile,
    device: crate::config::Device,
    models: Vec<String>,
    state: PathBuf,
    started: Instant,
    board: Board,
    sandbox: sandbox::State,
}

impl Status {
    /// Of the agent of device `id`.
    pub fn new(id: &str, config: &Config, board: Board) -> Self {
        Self {
            id: id.into(),
            profile: config.profile,
            device: config.device.clone(),
            models: Vec::new(),
            state: config.directories.state.clone(),
            started: Instant::now(),
            board,
            sandbox: sandbox::State::default(),
        }
    }

    /// With what of the sandbox is in force.
    pub fn with_sandbox(mut self, sandbox: sandbox::State) -> Self {
        self.sandbox = sandbox;
        self
    }

    /// With the models of the database.
    pub fn with_models(mut self, models: Vec<String>) -> Self {
        self.models = models;
        self
    }

    /// As JSON; times in seconds, sizes in bytes.
    pub fn snapshot(&self) -> Value {
        let mut device = Facts::read(&self.state).to_json();
        let described = [("name", &self.device.name), ("model", &self.device.model), ("product", &self.device.product)];
        for (key, value) in described.into_iter().filter(|(_, value)| !value.is_empty()) {
            device[key] = value.as_str().into();
        }
        json!({
            "id": self.id,
            "version": env!("CARGO_PKG_VERSION"),
            "profile": match self.profile { Profile::Dev => "dev", Profile::Prod => "prod" },
            "uptime": self.started.elapsed().as_secs(),
            "services": self.board.snapshot(),
            "models": self.models,
            "sandbox": self.sandbox.to_json(),
            "device": device,
        })
    }
}
