//! How each stage is done, when its rights are reduced already.

mod clock;
mod host;
mod network;
mod power;
mod update;
mod wipe;

pub use self::network::DIRECTORIES as NETWORK_DIRECTORIES;

use crate::files;
use crate::stage::Stage;
use ioto_wire::Request;

/// What needs rights that the stage itself does not have: its directories exist.
pub fn prepare(stage: Stage) -> Result<(), String> {
    let group = nix::unistd::Group::from_name("ioto").ok().flatten().map(|group| group.gid.as_raw());
    match stage {
        Stage::Hostname | Stage::Zone => files::make_state(group).map_err(|error| error.to_string()),
        Stage::NetworkFiles => {
            files::make_state(group).map_err(|error| error.to_string())?;
            network::prepare();
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Does it: what to tell people, or why it did not work.
pub fn work(stage: Stage, request: &Request) -> Result<String, String> {
    match (stage, request) {
        (Stage::Reboot, _) => power::reboot(),
        (Stage::Restart, _) => power::agent("restart", "restarted"),
        (Stage::Stop, _) => power::agent("stop", "stopped"),
        (Stage::Hostname, Request::Hostname(name)) => host::name(name, request),
        (Stage::Zone, Request::Zone(zone)) => host::zone(zone, request),
        (Stage::Time, Request::Time(time)) => clock::set(*time),
        (Stage::NetworkFiles, Request::Network(profile)) => network::write(profile, request),
        (Stage::NetworkUp, Request::Network(profile)) => network::bring_up(profile),
        (Stage::Install, Request::Install(bundle)) => update::install(bundle),
        (Stage::Mark, Request::Mark(slot, mark)) => update::mark(slot, *mark),
        (Stage::Wipe, Request::Reset) => wipe::wipe(),
        _ => Err(format!("the stage {} is not one of {}", stage.name(), request.verb().name())),
    }
}
