//! The first thing that the agent does: open what needs root, and go into the sandbox.

use super::Error;
use super::services::{self, Before};
use crate::config::{Config, LogTarget};
use crate::system::sandbox::{Entrance, Needs, State};
#[cfg(feature = "web")]
use crate::web::Reserved;

/// Enters the sandbox. No thread is there yet, and no log.
pub fn enter(config: &Config, more: &Needs) -> Result<Before, Error> {
    let entrance = Entrance::new(config).map_err(Error::Sandbox)?;
    #[cfg(feature = "web")]
    let (reserved, missing) = match config.services.web && entrance.gives_up_ports() {
        true => Reserved::open(&config.web).map_err(Error::Web)?,
        false => Default::default(),
    };
    let mut needs = services::needs(config);
    needs.add_all(more);
    if let LogTarget::File(path) = &config.log.target {
        // It is renamed when it is full.
        needs.write(path.parent().unwrap_or(path));
    }
    let sandbox = entrance.enter(&needs).map_err(Error::Sandbox)?;
    #[cfg(feature = "web")]
    let sandbox = State { warnings: [sandbox.warnings, missing].concat(), ..sandbox };
    Ok(Before {
        sandbox,
        #[cfg(feature = "web")]
        reserved: reserved.into(),
    })
}

/// Tells the log what is in force and what is missing.
pub fn tell(sandbox: &State) {
    log::info!("sandbox: {sandbox}");
    sandbox.warnings.iter().for_each(|warning| log::warn!("sandbox: {warning}"));
}
