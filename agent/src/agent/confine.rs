//! The first thing that the agent does: open what needs root, and go into the sandbox.

use super::Error;
use super::services::{self, Before};
use crate::config::Config;
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
    #[cfg(feature = "logs")]
    let kernel = services::reserve_kernel(config);
    let mut needs = services::needs(config);
    needs.add_all(more);
    let sandbox = entrance.enter(&needs).map_err(Error::Sandbox)?;
    #[cfg(feature = "web")]
    let sandbox = State { warnings: [sandbox.warnings, missing].concat(), ..sandbox };
    Ok(Before {
        sandbox,
        #[cfg(feature = "web")]
        reserved: reserved.into(),
        #[cfg(feature = "logs")]
        kernel: kernel.into(),
    })
}

/// Tells the log what is in force and what is missing.
pub fn tell(sandbox: &State) {
    log::info!("sandbox: {sandbox}");
    sandbox.warnings.iter().for_each(|warning| log::warn!("sandbox: {warning}"));
}
