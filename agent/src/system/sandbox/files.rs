//! Landlock: the kernel lets the agent, and what it starts, reach only the files that it has to.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::state::Layer;
use super::{Needs, Use};

/// The rights of files that are handled; a kernel that knows fewer handles those that it knows. `V5` is Linux 6.10.
const FILES: ABI = ABI::V5;

/// What every program reads. Whole directories, because a rule holds for a file and not for its name: `resolv.conf` and
/// `hosts` are replaced while the agent runs. What is secret in them is guarded by the rights of the files, as ever.
const COMMON: [(&str, Use); 14] = [
    // Name look-ups, certificates of authorities, the time zone, users.
    ("/etc", Use::Read),
    ("/usr/share", Use::Read),
    // Libraries that the C library loads when names are looked up.
    ("/usr/lib", Use::Read),
    ("/usr/lib64", Use::Read),
    ("/usr/local/share", Use::Read),
    ("/lib", Use::Read),
    ("/lib64", Use::Read),
    // Facts of the device.
    ("/proc", Use::Read),
    ("/sys", Use::Read),
    ("/dev/urandom", Use::Read),
    ("/dev/random", Use::Read),
    ("/dev/zero", Use::Read),
    ("/dev/null", Use::Write),
    ("/dev/full", Use::Write),
];

/// Restricts this thread and those that it starts. `everything_read`: files are read and programs started everywhere.
pub fn restrict(needs: &Needs, everything_read: bool) -> Layer {
    match try_restrict(needs, everything_read) {
        Ok(status) => level(&status),
        Err(error) => Layer::Missing(error.to_string()),
    }
}

fn try_restrict(needs: &Needs, everything_read: bool) -> Result<RestrictionStatus, landlock::RulesetError> {
    let mut rules = Ruleset::default().handle_access(AccessFs::from_all(FILES))?.scope(scopes())?.create()?;
    let everything = everything_read.then_some((Path::new("/"), Use::Execute));
    let common = COMMON.iter().map(|(path, use_)| (Path::new(path), *use_));
    let resolver = resolver();
    let resolver = resolver.iter().map(|path| (path.as_path(), Use::Read));
    for (path, use_) in everything.into_iter().chain(common).chain(resolver).chain(needs.rows()) {
        // What is not there needs no rule. A rule that is missing takes rights away and gives none.
        let Ok(opened) = PathFd::new(path) else { continue };
        let is_directory = std::fs::metadata(path).is_ok_and(|found| found.is_dir());
        let rights = if is_directory { rights(use_) } else { rights(use_) & AccessFs::from_file(FILES) };
        rules = rules.add_rule(PathBeneath::new(opened, rights))?;
    }
    rules.restrict_self()
}

fn rights(use_: Use) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    match use_ {
        Use::Read => read,
        Use::Execute => read | AccessFs::Execute,
        // No devices: who can make one of a disk can write all of it.
        Use::Write => {
            AccessFs::from_all(FILES)
                & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev)
        }
    }
}

/// Signals reach only what the agent started. So do connections to sockets in the abstract namespace, unless the service
/// manager listens on one.
fn scopes() -> BitFlags<Scope> {
    match std::env::var("NOTIFY_SOCKET").is_ok_and(|address| address.starts_with('@')) {
        true => Scope::Signal.into(),
        false => Scope::Signal | Scope::AbstractUnixSocket,
    }
}

/// Where a link `/etc/resolv.conf` leads to: `/run/systemd/resolve`, `/run/NetworkManager`, `/tmp` on some small systems.
fn resolver() -> Option<PathBuf> {
    let target = std::fs::canonicalize("/etc/resolv.conf").ok()?;
    let parent = target.parent().filter(|parent| *parent != Path::new("/") && *parent != Path::new("/etc"))?;
    Some(parent.to_owned())
}

fn level(status: &RestrictionStatus) -> Layer {
    let missing = |why: &str| Layer::Missing(why.to_owned());
    match (&status.landlock, &status.ruleset) {
        (LandlockStatus::NotImplemented, _) => missing("this kernel is built without it (CONFIG_SECURITY_LANDLOCK)"),
        (LandlockStatus::NotEnabled, _) => {
            missing("this kernel was started without it (add landlock to lsm= of its command line)")
        }
        (_, RulesetStatus::NotEnforced) => missing("this kernel does not enforce it"),
        (LandlockStatus::Available { effective_abi, kernel_abi }, _) => {
            Layer::On(format!("ABI {}", kernel_abi.unwrap_or(*effective_abi as i32)))
        }
    }
}
