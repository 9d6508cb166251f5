//! What the agent will run: the services that the configuration wants, in order of need.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use smol::LocalExecutor;

use super::services::Before;
use super::{Error, Options, Report, ServiceError, Stop, services};
use crate::agent::Board;
use crate::config::Config;

/// The one executor of the agent.
pub type Executor = Rc<LocalExecutor<'static>>;

/// A service and how to start it, any number of times.
pub struct Service {
    /// As the status shows it.
    pub name: &'static str,
    /// Its parts of the time that all services have to stop.
    pub(super) parts: u32,
    start: Box<dyn Fn(Stop, Report) -> Running>,
}

type Reload = Box<dyn Fn(&Config) -> Result<(), Error>>;
type Running = Pin<Box<dyn Future<Output = Result<(), ServiceError>>>>;

impl Service {
    /// A service by its name. `start` is called anew for every start; its future shall end with `Ok` soon after the stop is
    /// requested, and with an error when it can not go on.
    pub fn new<F>(name: &'static str, start: impl Fn(Stop, Report) -> F + 'static) -> Self
    where
        F: Future<Output = Result<(), ServiceError>> + 'static,
    {
        Self { name, parts: 1, start: Box::new(move |stop, report| Box::pin(start(stop, report))) }
    }

    /// Gives it more of the time for the stop than others have: so many times as much.
    pub fn with_parts(mut self, parts: u32) -> Self {
        self.parts = parts.max(1);
        self
    }

    /// Starts it once.
    pub fn start(&self, stop: Stop, report: Report) -> impl Future<Output = Result<(), ServiceError>> {
        (self.start)(stop, report)
    }
}

/// The services in the order of their start, and what they do about a new configuration.
#[derive(Default)]
pub struct Plan {
    services: Vec<Service>,
    reloads: Vec<Reload>,
}

impl Plan {
    /// Prepares all services: whatever is wrong with their configuration shows here, before the first one starts.
    pub fn new(
        config: &Config,
        id: &str,
        board: &Board,
        executor: &Executor,
        options: &Options,
        before: &Before,
    ) -> Result<Self, Error> {
        let mut plan = Self::default();
        services::prepare(&mut plan, config, id, (board, executor), options, before)?;
        Ok(plan)
    }

    /// Adds a service behind those that are there.
    pub fn add(&mut self, service: Service) {
        self.services.push(service);
    }

    /// Has `reload` called with the new configuration on SIGHUP.
    pub fn on_reload(&mut self, reload: impl Fn(&Config) -> Result<(), Error> + 'static) {
        self.reloads.push(Box::new(reload));
    }

    /// Takes the services out, to be started.
    pub fn take_services(&mut self) -> Vec<Service> {
        std::mem::take(&mut self.services)
    }

    /// Tells those that care of a new configuration; the first that cannot take it over ends that.
    pub fn reload(&self, config: &Config) -> Result<(), Error> {
        self.reloads.iter().try_for_each(|reload| reload(config))
    }
}
