//! The services of the agent. Each file prepares one and runs it until it is asked to stop.

#[cfg(feature = "web")]
mod access;
#[cfg(feature = "db")]
mod database;
#[cfg(feature = "logs")]
mod logs;
#[cfg(feature = "mqtt")]
mod mqtt;
#[cfg(all(feature = "db", feature = "users"))]
mod sessions;
#[cfg(feature = "sync")]
mod sync;
#[cfg(feature = "web")]
mod web;
#[cfg(feature = "web")]
mod web_needs;

use super::plan::{Executor, Plan};
#[cfg(any(feature = "db", feature = "mqtt"))]
use super::slot::Slot;
use super::{Board, Error, Options};
use crate::config::{Config, LogTarget};
use crate::system::sandbox::Needs;
#[cfg(feature = "web")]
use crate::web::Reserved;

/// What services have of each other.
#[derive(Clone, Default)]
struct Handles {
    #[cfg(feature = "db")]
    db: Slot<crate::db::Db>,
    /// Whether the database is wanted, running or not.
    #[cfg(feature = "db")]
    has_db: bool,
    #[cfg(feature = "db")]
    schema: crate::db::Schema,
    #[cfg(feature = "mqtt")]
    mqtt: Slot<crate::mqtt::Client>,
}

/// What the services that the configuration wants need of the file system. Nothing is opened for it: it is asked for before
/// the first thread starts.
#[allow(unused_mut, unused_variables, reason = "a build with few features has little to need")]
pub fn needs(config: &Config) -> Needs {
    let mut needs = Needs::default();
    #[cfg(feature = "db")]
    database::needs(&mut needs, config);
    #[cfg(feature = "web")]
    web_needs::needs(&mut needs, config);
    #[cfg(feature = "mqtt")]
    mqtt::needs(&mut needs, config);
    #[cfg(feature = "sync")]
    sync::needs(&mut needs, config);
    #[cfg(feature = "logs")]
    logs::needs(&mut needs, config);
    if let LogTarget::File(path) = &config.log.target {
        // Rotation names other files beside it.
        needs.write(path.parent().unwrap_or(path));
    }
    needs
}

/// What was done for the services before root was given up.
#[derive(Clone, Default)]
pub struct Before {
    /// Of the sandbox, for the status.
    pub sandbox: crate::system::sandbox::State,
    /// The sockets at ports below 1024.
    #[cfg(feature = "web")]
    pub reserved: std::sync::Arc<Reserved>,
    /// The kernel's buffer, for the logs.
    #[cfg(feature = "logs")]
    pub kernel: std::sync::Arc<crate::logs::sources::Reserved>,
}

/// Opens the kernel's buffer where the forwarding of logs wants it.
#[cfg(feature = "logs")]
pub fn reserve_kernel(config: &Config) -> crate::logs::sources::Reserved {
    logs::reserve(config)
}

/// Plans what the configuration wants, in order of need.
#[allow(unused_mut, unused_variables, reason = "a build with few features has little to plan")]
pub fn prepare(
    plan: &mut Plan,
    config: &Config,
    id: &str,
    (board, executor): (&Board, &Executor),
    options: &Options,
    before: &Before,
) -> Result<(), Error> {
    let mut handles = Handles::default();
    #[cfg(feature = "db")]
    database::prepare(plan, config, id, &mut handles)?;
    #[cfg(feature = "web")]
    web::prepare(plan, config, (id, board, executor), &handles, (&options.extend, before))?;
    #[cfg(feature = "mqtt")]
    mqtt::prepare(plan, config, id, &handles, executor);
    #[cfg(feature = "sync")]
    sync::prepare(plan, config, id, &handles);
    #[cfg(feature = "logs")]
    logs::prepare(plan, config, id, before);
    Ok(())
}
