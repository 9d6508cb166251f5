//! Installing an update, and marking a root partition: by the integrator's program, RAUC or SWUpdate.

use super::power::join;
use crate::files::AGENT_STATE;
use crate::programs::{find, own, run};
use ioto_wire::{Bundle, Mark, Slot};
use nix::unistd::User;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use std::io;
use std::time::Duration;

const OWN_INSTALL: &str = "/usr/lib/ioto/update.d/install";
const OWN_MARK: &str = "/usr/lib/ioto/update.d/mark";

/// Below the time limit of the stage.
const INSTALLING: Duration = Duration::from_secs(3450);
const MARKING: Duration = Duration::from_secs(60);

/// Installs a bundle. The updater verifies its signature; here it is made sure that it is a file of the agent at all.
pub fn install(bundle: &Bundle) -> Result<String, String> {
    check(bundle)?;
    let path = format!("{AGENT_STATE}/updates/{bundle}");
    let said = match (own(OWN_INSTALL), find("rauc"), find("swupdate")) {
        (Some(own), ..) => run(&own, &[&path], INSTALLING),
        (_, Some(rauc), _) => run(&rauc, &["install", &path], INSTALLING),
        (_, _, Some(swupdate)) => run(&swupdate, &["-i", &path], INSTALLING),
        _ => Err(nothing(OWN_INSTALL)),
    };
    Ok(join(&format!("{bundle} is installed"), &said?))
}

/// Marks a slot.
pub fn mark(slot: &Slot, mark: Mark) -> Result<String, String> {
    let said = match (own(OWN_MARK), find("rauc")) {
        (Some(own), _) => run(&own, &[mark.name(), slot.as_str()], MARKING),
        (_, Some(rauc)) => run(&rauc, &["status", &format!("mark-{}", mark.name()), slot.as_str()], MARKING),
        _ => Err(nothing(OWN_MARK)),
    };
    Ok(join(&format!("the slot {slot} is marked {}", mark.name()), &said?))
}

fn nothing(own: &str) -> String {
    format!("this image has no updater: neither {own} (owned by root, writable by nobody else) nor rauc or swupdate")
}

/// A regular file with one name, of the agent or root, below the directory of updates, and no link on the way to it.
fn check(bundle: &Bundle) -> Result<(), String> {
    let failed = |error: rustix::io::Errno| {
        let error = io::Error::from(error);
        format!("{AGENT_STATE}/updates/{bundle} can not be opened: {error}")
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let directory = open(AGENT_STATE, flags | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(&directory, format!("updates/{bundle}"), flags, Mode::empty(), resolve).map_err(failed)?;
    let found = fstat(&file).map_err(failed)?;
    let agent = User::from_name("ioto").ok().flatten().map(|user| user.uid.as_raw());
    let owned = found.st_uid == 0 || Some(found.st_uid) == agent;
    match FileType::from_raw_mode(found.st_mode).is_file() && owned && found.st_nlink == 1 {
        true => Ok(()),
        false => Err(format!("{bundle} is not a regular file with one name that belongs to the agent")),
    }
}
